package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// decode reads strict JSON: a member that v does not have, has with other letters, or that comes twice is an error, and so is
// anything after the value. (encoding/json by itself lets all but the first of these pass.)
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := members(d, reflect.TypeOf(v).Elem(), ""); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	if err := json.Unmarshal(body, v); err != nil {
		if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
			return fmt.Errorf("member %q is a %s, and should be a %s", e.Field, e.Value, e.Type)
		}
		return err
	}
	return nil
}

// members checks the names of all members of the next value, which is to be read into a t.
func members(d *json.Decoder, t reflect.Type, path string) error {
	token, err := d.Token()
	if errors.Is(err, io.EOF) {
		return errors.New("there is no JSON value")
	}
	if err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	switch token { // what is nested deeper than it may be is not followed
	case json.Delim('{'):
		if t.Kind() != reflect.Struct {
			return fmt.Errorf("%s is an object, and should not be", where(path))
		}
		return object(d, t, path)
	case json.Delim('['):
		if t.Kind() != reflect.Slice {
			return fmt.Errorf("%s is a list, and should not be", where(path))
		}
		for d.More() {
			if err := members(d, t.Elem(), path+"[]"); err != nil {
				return err
			}
		}
		if _, err = d.Token(); err != nil {
			err = fmt.Errorf("it is not JSON: %w", err)
		}
	case nil:
		return fmt.Errorf("%s is null", where(path))
	}
	return err
}

func object(d *json.Decoder, t reflect.Type, path string) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		name, _ := token.(string)
		at := strings.TrimPrefix(path+"."+name[:min(len(name), 64)], ".")
		if seen[name] {
			return fmt.Errorf("member %q comes twice", strings.ToValidUTF8(at, "?"))
		}
		seen[name] = true
		field, known := fieldOf(t, name)
		if !known {
			return fmt.Errorf("member %q is unknown", strings.ToValidUTF8(at, "?"))
		}
		if err := members(d, field, path+"."+name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	return nil
}

// where names a place in the value.
func where(path string) string {
	if path == "" {
		return "the value"
	}
	return strings.TrimPrefix(path, ".")
}

// fieldOf finds the type of a struct's field by its exact JSON name.
func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f.Type, true
		}
	}
	return nil, false
}
