package saga

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Codec turns the users' types into bytes and back: data, events, commands, replies. It must be deterministic enough that
// the same value gives the same bytes, and safe for concurrent use. With another one than JSON a saga's data are decoded for each call of
// a function that gets them.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(b []byte, v any) error
}

// JSON is the default Codec: encoding/json.
type JSON struct{}

// Marshal implements Codec.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal implements Codec.
func (JSON) Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// readsAll tells whether nothing in b would be left out if it is read as a T. Of other codecs than JSON nobody knows.
func readsAll[T any](c Codec, b []byte) error {
	if _, isJSON := c.(JSON); isJSON {
		return decodeStrictly[T](b)
	}
	return nil
}

// decodeStrictly tells whether b is a T, and nothing else: no member that T has not, and nothing after the value.
func decodeStrictly[T any](b []byte) error {
	if len(b) == 0 {
		return nil
	}
	var t T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	if err == nil {
		if _, after := d.Token(); after != io.EOF {
			err = errors.New("there is something after the value")
		}
	}
	if err != nil {
		return fmt.Errorf("saga: decode %T: %w", t, err)
	}
	return nil
}
