package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type parcel struct {
	ID    string `json:"id"`
	Items []struct {
		SKU string `json:"sku"`
		N   int    `json:"n"`
	} `json:"items"`
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	var p parcel
	require.NoError(t, decode([]byte(" {\"items\": [{\"sku\": \"a\", \"n\": 1}, {\"n\": 2}], \"id\": \"x\"}\n"), &p))
	require.Equal(t, "x", p.ID)
	require.Equal(t, 2, p.Items[1].N)
	began := time.Now()
	defer func() { require.Less(t, time.Since(began), 5*time.Second, "however deep it is nested") }()
	for body, want := range map[string]string{
		``:                               "there is no JSON value",
		`{`:                              "it is not JSON",
		`{"id": "x"`:                     "it is not JSON",
		`{"id": "x"} 1`:                  "something after",
		`{"id": "x"}}`:                   "something after",
		`{"id": "x", "id": "x"}`:         `member "id" comes twice`,
		`{"ID": "x"}`:                    `member "ID" is unknown`,
		`{"colour": "x"}`:                `member "colour" is unknown`,
		`{"items": [{"n": 1, "n": 2}]}`:  `member "items[].n" comes twice`,
		`{"items": [{"sku": {"a": 1}}]}`: `items[].sku is an object, and should not be`,
		`[]`:                             `the value is a list, and should not be`,
		`{"id": [[[]]]}`:                 `id is a list, and should not be`,
		`{"` + strings.Repeat("x", 1<<20) + `": 1}`: `is unknown`,
		strings.Repeat("[", 1<<20):                  `the value is a list`,
		`{"items":` + strings.Repeat("[", 1<<20):    `items[] is a list`,
		`{"id": null}`:                              "id is null",
		`{"id": 1}`:                                 `member "id" is a number, and should be a string`,
		`{"items": [{"n": 1.5}]}`:                   `should be a int`,
	} {
		require.ErrorContains(t, decode([]byte(body), &p), want, body)
	}
}

// What decode takes, encoding/json takes, and it means the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id": "x", "items": [{"sku": "a", "n": 1}]}`))
	f.Add([]byte(`{"id": "x", "id": "y"}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var p, q parcel
		if decode(body, &p) != nil {
			return
		}
		text, err := json.Marshal(p)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &q))
		require.Equal(t, p, q)
	})
}
