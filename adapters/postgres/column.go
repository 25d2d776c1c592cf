package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// column is an argument of a statement: an array, in the binary format that array_recv of PostgreSQL reads. What batches carry is
// written into columns, which are used again: the driver would make values of their elements, then arrays, then a message, and each
// anew. The zero column is made an array by empty.
type column struct {
	element uint32 // OID of the elements' type
	n       int
	b       []byte
}

const columnHead = 5 * 4 // how many dimensions; whether there are NULLs; the elements' OID; how many; the number of the first

// empty makes it an array without elements, in the room that it has.
func (c *column) empty(element uint32) {
	c.element, c.n = element, 0
	c.b = append(c.b[:0], make([]byte, columnHead)...)
}

func (c *column) text(s string) {
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(s))), s...)
	c.n++
}

func (c *column) bytes(b []byte) {
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(b))), b...)
	c.n++
}

func (c *column) int64(v int64) {
	c.b = binary.BigEndian.AppendUint64(append(c.b, 0, 0, 0, 8), uint64(v))
	c.n++
}

func (c *column) int32(v int32) {
	c.b = binary.BigEndian.AppendUint32(append(c.b, 0, 0, 0, 4), uint32(v))
	c.n++
}

func (c *column) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	c.b = append(c.b, 0, 0, 0, 1, b)
	c.n++
}

// sent is the array as it is sent.
func (c *column) sent() []byte {
	binary.BigEndian.PutUint32(c.b[8:], c.element)
	if c.n == 0 {
		return c.b[:12] // no dimensions
	}
	binary.BigEndian.PutUint32(c.b, 1)
	binary.BigEndian.PutUint32(c.b[12:], uint32(c.n))
	binary.BigEndian.PutUint32(c.b[16:], 1)
	return c.b
}

// only is its single element as it is sent by itself.
func (c *column) only() []byte { return c.b[columnHead+4:] }

// value is the array as a slice, for a driver that encodes it once more.
func (c *column) value() any {
	switch c.element {
	case pgtype.TextOID:
		return values(c, func(b []byte) string { return string(b) })
	case pgtype.ByteaOID:
		return values(c, func(b []byte) []byte { return b })
	case pgtype.Int8OID:
		return values(c, func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) })
	case pgtype.Int4OID:
		return values(c, func(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) })
	default:
		return values(c, func(b []byte) bool { return b[0] != 0 })
	}
}

func values[T any](c *column, value func([]byte) T) []T {
	list := make([]T, 0, c.n)
	for rest := c.b[columnHead:]; len(rest) > 0; {
		end := 4 + binary.BigEndian.Uint32(rest)
		list, rest = append(list, value(rest[4:end:end])), rest[end:]
	}
	return list
}
