package saga

import "encoding/json"

// Codec turns the users' types into bytes and back: data, events, commands, replies. It must be deterministic enough that
// the same value gives the same bytes, and safe for concurrent use.
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
