// Package copies makes copies of values that share nothing with them which anybody could change.
package copies

import (
	"encoding"
	"encoding/gob"
	"encoding/json"
	"reflect"
	"sync"
	"time"
)

// Of returns a copy of a decoded value. It answers false if there may be something in the type that cannot be copied from outside: a field
// that is not exported and refers to other memory, an interface, a func, a channel, a type that contains itself. So it does for a type that
// decodes itself, if it refers to other memory: it may have made two references to one thing, of which a copy would make two things. It is
// safe for concurrent use, and v is only read.
func Of[T any](v *T) (T, bool) {
	var none T
	p := planOf(reflect.TypeFor[T]())
	if !p.possible {
		return none, false
	}
	c := *v
	if p.detach != nil {
		p.detach(reflect.ValueOf(&c).Elem())
	}
	return c, true
}

// plan is how values of a type are copied.
type plan struct {
	possible bool
	detach   func(v reflect.Value) // gives v, which was assigned, memory of its own; nil: it has none but that
}

var plans sync.Map // of plan, by reflect.Type

func planOf(t reflect.Type) plan {
	if p, known := plans.Load(t); known {
		return p.(plan)
	}
	p := planFor(t, map[reflect.Type]bool{})
	plans.Store(t, p)
	return p
}

// planFor makes the plan of a type that is part of others.
func planFor(t reflect.Type, within map[reflect.Type]bool) plan {
	if within[t] {
		return plan{}
	}
	within[t] = true
	defer delete(within, t)
	p := planOfKind(t, within)
	if p.detach != nil && decodesItself(t) {
		return plan{}
	}
	return p
}

// decodesItself tells whether a type has a say in what its values refer to. Raw JSON is just bytes.
func decodesItself(t reflect.Type) bool {
	if t == reflect.TypeFor[json.RawMessage]() {
		return false
	}
	p := reflect.PointerTo(t)
	for _, decoder := range []reflect.Type{
		reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), reflect.TypeFor[gob.GobDecoder](),
	} {
		if p.Implements(decoder) {
			return true
		}
	}
	return false
}

func planOfKind(t reflect.Type, within map[reflect.Type]bool) plan {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return plan{possible: true}
	case reflect.Array:
		return ofArray(planFor(t.Elem(), within))
	case reflect.Pointer:
		return ofPointer(t, planFor(t.Elem(), within))
	case reflect.Slice:
		return ofSlice(t, planFor(t.Elem(), within))
	case reflect.Map:
		return ofMap(t, planFor(t.Key(), within), planFor(t.Elem(), within))
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return plan{possible: true} // the location that it refers to is never changed
		}
		return ofStruct(t, within)
	}
	return plan{}
}

func ofStruct(t reflect.Type, within map[reflect.Type]bool) plan {
	type field struct {
		index  int
		detach func(reflect.Value)
	}
	var fields []field
	for k := range t.NumField() {
		f := t.Field(k)
		p := planFor(f.Type, within)
		reachable := f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct
		if !p.possible || p.detach != nil && !reachable {
			return plan{}
		}
		if p.detach != nil {
			fields = append(fields, field{k, p.detach})
		}
	}
	if fields == nil {
		return plan{possible: true}
	}
	return plan{true, func(v reflect.Value) {
		for _, f := range fields {
			f.detach(v.Field(f.index))
		}
	}}
}

func ofArray(elem plan) plan {
	if elem.detach == nil {
		return elem
	}
	return plan{true, func(v reflect.Value) { detachAll(v, elem) }}
}

func detachAll(v reflect.Value, elem plan) {
	for k := range v.Len() {
		elem.detach(v.Index(k))
	}
}

func ofPointer(t reflect.Type, elem plan) plan {
	if !elem.possible {
		return plan{}
	}
	return plan{true, func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		c := reflect.New(t.Elem())
		c.Elem().Set(v.Elem())
		if elem.detach != nil {
			elem.detach(c.Elem())
		}
		v.Set(c.Convert(t))
	}}
}

func ofSlice(t reflect.Type, elem plan) plan {
	if !elem.possible {
		return plan{}
	}
	return plan{true, func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		c := reflect.MakeSlice(t, v.Len(), v.Len())
		reflect.Copy(c, v)
		if elem.detach != nil {
			detachAll(c, elem)
		}
		v.Set(c)
	}}
}

func ofMap(t reflect.Type, key, elem plan) plan {
	if !key.possible || key.detach != nil || !elem.possible { // a copy of a key that refers to anything would be another key
		return plan{}
	}
	return plan{true, func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		c := reflect.MakeMapWithSize(t, v.Len())
		for entries := v.MapRange(); entries.Next(); {
			e := entries.Value()
			if elem.detach != nil {
				own := reflect.New(t.Elem()).Elem()
				own.Set(e)
				elem.detach(own)
				e = own
			}
			c.SetMapIndex(entries.Key(), e)
		}
		v.Set(c)
	}}
}
