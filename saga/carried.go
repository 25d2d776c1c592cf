package saga

import (
	"encoding"
	"encoding/gob"
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

// checkCarried finds what would be lost of the types that something carries.
func (c *compiler) checkCarried(of string, carries ...carried) {
	for _, what := range carries {
		for _, f := range what.losses() {
			c.faultf("%s%s", of, f)
		}
	}
}

// losses lists what of a value the codec would pass over without a word, or cannot take. It looks into whatever the type consists of,
// but not into what encodes itself, nor behind interfaces.
func (c carried) losses() (found []string) {
	type place struct {
		t         reflect.Type
		addressed bool // behind a pointer or in a slice, where methods of pointers count
	}
	seen := map[place]bool{}
	var look func(t reflect.Type, path string, addressed bool)
	look = func(t reflect.Type, path string, addressed bool) {
		if seen[place{t, false}] || seen[place{t, addressed}] || encodesItself(t) || addressed && encodesItself(reflect.PointerTo(t)) {
			return
		}
		seen[place{t, addressed}] = true
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
			delete(seen, place{t, addressed}) // told of each
		case reflect.Interface:
			if t.NumMethod() > 0 {
				found = append(found, at+" an interface with methods cannot be read back: name the type")
			}
		case reflect.Pointer, reflect.Slice:
			look(t.Elem(), path, true)
		case reflect.Array:
			look(t.Elem(), path, addressed)
		case reflect.Map:
			look(t.Elem(), path, false)
		case reflect.Struct:
			for f := range t.Fields() {
				name := f.Name
				if path != "" {
					name = path + "." + name
				}
				switch {
				case f.Name == "_" || f.Tag.Get("json") == "-": // not meant to be carried
				case f.Anonymous && structOf(f.Type): // its fields count as those of t
					look(f.Type, path, addressed)
				case f.IsExported():
					look(f.Type, name, addressed)
				default:
					found = append(found, fmt.Sprintf("%s %s has the field %s, which is not exported and would not be stored: export it", c.what, c.t, name))
				}
			}
		}
	}
	look(c.t, "", false)
	return found
}

func structOf(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// encodesItself tells whether a type says how it is encoded: to JSON, or to codecs that know it, as messages of protobuf do. Whether it
// leaves anything out nobody can tell.
func encodesItself(t reflect.Type) bool {
	if toJSON(t) {
		return true
	}
	p := t
	if t.Kind() == reflect.Struct { // other codecs than JSON take its address
		p = reflect.PointerTo(t)
	}
	if toJSON(p) {
		return false // which JSON passes over
	}
	_, message := p.MethodByName("ProtoReflect")
	return message || p.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) || p.Implements(reflect.TypeFor[gob.GobEncoder]())
}

func toJSON(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
