package saga

import (
	"bytes"
	"sync/atomic"

	"github.com/sagamill/sagamill/saga/internal/copies"
)

// document is a saga's data as the codec wrote them. It remembers the value that was read of them, and gives copies of that to whoever
// reads them next: a step, its reducer and the step that follows mostly read the same bytes. What a step does to its data is its own,
// as if it had read them itself. A value whose type cannot be copied (see copies) is read each time, and so is what another codec than JSON
// reads: nobody knows whether that lets a value refer to one thing twice. The zero document is empty; copies of one remember together. It is
// safe for concurrent use.
type document struct {
	bytes []byte
	value *atomic.Pointer[any]
}

func documentOf(bytes []byte) document {
	if len(bytes) == 0 {
		return document{bytes: bytes}
	}
	return document{bytes: bytes, value: new(atomic.Pointer[any])}
}

// becomes answers the document with other bytes: the same one if they are no others.
func (d document) becomes(after []byte) document {
	if bytes.Equal(after, d.bytes) {
		return d
	}
	return documentOf(after)
}

// readAs reads the document as a T.
func readAs[T any](c Codec, d document) (T, error) {
	if d.value == nil {
		return decodeAs[T](c, d.bytes)
	}
	if known := d.value.Load(); known != nil {
		if v, isT := (*known).(*T); isT { // else another version of the definition has read it
			t, _ := copies.Of(v)
			return t, nil
		}
	}
	t, err := decodeAs[T](c, d.bytes)
	if err != nil {
		return t, err
	}
	if _, isJSON := c.(JSON); !isJSON {
		return t, nil
	}
	if own, possible := copies.Of(&t); possible {
		var known any = &own
		d.value.Store(&known)
	}
	return t, nil
}
