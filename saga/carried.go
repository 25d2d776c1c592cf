package saga

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
)

// carried is a type whose values go through the codec: data, results, payloads, commands, replies.
type carried struct {
	what string // "the data type", "the result type", ...
	t    reflect.Type
}

func carry[T any](what string) carried { return carried{what, reflect.TypeFor[T]()} }

// losses lists what of a value the codec would pass over without a word, or cannot take. It looks into whatever the type consists of,
// but not into what encodes itself, nor behind interfaces.
func (c carried) losses() (found []string) {
	seen := map[reflect.Type]bool{}
	var look func(t reflect.Type, path string)
	look = func(t reflect.Type, path string) {
		if seen[t] || encodesItself(t) {
			return
		}
		seen[t] = true
		at := fmt.Sprintf("%s %s", c.what, c.t)
		if path != "" {
			at += " has the field " + path + ", and"
		}
		switch t.Kind() {
		case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			if path == "" {
				found = append(found, fmt.Sprintf("%s is a %s, which cannot be stored", at, t.Kind()))
			} else {
				found = append(found, fmt.Sprintf("%s a %s cannot be stored: tag it `json:\"-\"`, or drop it", at, t.Kind()))
			}
			delete(seen, t) // told of each
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			if reflect.PointerTo(t.Elem()).Implements(marshals) && t.Kind() != reflect.Map {
				return // elements have addresses
			}
			look(t.Elem(), path)
		case reflect.Struct:
			for f := range fieldsOf(t) {
				name := f.Name
				if path != "" {
					name = path + "." + name
				}
				switch {
				case f.Anonymous && structOf(f.Type): // its fields count as those of t
					look(f.Type, path)
				case f.IsExported():
					look(f.Type, name)
				default:
					found = append(found, fmt.Sprintf("%s %s has the field %s, which is not exported and would not be stored: export it", c.what, c.t, name))
				}
			}
		}
	}
	look(c.t, "")
	return found
}

// fieldsOf gives the fields that are meant to be carried.
func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for f := range t.Fields() {
			if f.Name != "_" && f.Tag.Get("json") != "-" && !encodesItself(f.Type) && !yield(f) {
				return
			}
		}
	}
}

func structOf(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

var marshals = reflect.TypeFor[json.Marshaler]()

// encodesItself tells whether a type says how it is encoded. Messages of protobuf do, to a codec that knows them.
func encodesItself(t reflect.Type) bool {
	_, message := reflect.PointerTo(t).MethodByName("ProtoReflect")
	return message || t.Implements(marshals) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
