package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statement is one of a transaction that is sent as it is: its arguments are in the server's binary format.
type statement struct {
	sql  string
	args [][]byte
	read func(pgx.Rows) error // nil: it answers no rows
}

// binaryFormat is that of all arguments and columns.
var binaryFormat = []int16{pgx.BinaryFormatCode}

// send is write for statements whose arguments are encoded already.
func (db *DB) send(ctx context.Context, lockTimeout time.Duration, statements []statement) error {
	grown := db.grown.Load()
	known := []byte{0}
	if grown {
		known[0] = 1
	}
	first := func(rows pgx.Rows) error {
		if !rows.Next() {
			return rows.Err()
		}
		return db.readSettings(rows)
	}
	all := make([]statement, 0, len(statements)+3)
	all = append(all, statement{sql: "begin isolation level read committed read write"}, statement{
		sql: settings, args: [][]byte{[]byte(lockWait(lockTimeout)), []byte(planMode(grown)), known, []byte(db.sql("{{instances}}"))}, read: first,
	})
	all = append(append(all, statements...), statement{sql: "commit"})

	return db.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error { return db.sendOn(ctx, conn, all) })
}

// sendOn sends statements in one round trip, once they are prepared, if the user's pool is one that prepares statements.
func (db *DB) sendOn(ctx context.Context, conn *pgx.Conn, all []statement) (err error) {
	trace, end := db.trace(ctx, conn, all)
	defer func() { end(err) }()
	prepared := make([]*pgconn.StatementDescription, len(all))
	size := 0
	for k, s := range all {
		for _, a := range s.args {
			size += len(a)
		}
		if db.prepares {
			if prepared[k], err = conn.Prepare(ctx, s.sql, s.sql); err != nil {
				return fmt.Errorf("prepare: %w", err)
			}
		} else {
			size += len(s.sql)
		}
	}
	conn.PgConn().Frontend().Send(roomOf(conn, size+1024*len(all)))
	p := conn.PgConn().StartPipeline(ctx)
	for k, s := range all {
		if db.prepares {
			p.SendQueryStatement(prepared[k], s.args, binaryFormat, binaryFormat)
		} else {
			p.SendQueryParams(s.sql, s.args, nil, binaryFormat, binaryFormat)
		}
	}
	err = p.Sync()
	for k := 0; k < len(all) && err == nil; k++ {
		err = readOne(p, conn, &all[k])
		trace(all[k].sql, err)
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}

func readOne(p *pgconn.Pipeline, conn *pgx.Conn, s *statement) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("the server answers %T", results)
	}
	if s.read == nil {
		_, err = reader.Close()
		return err
	}
	rows := pgx.RowsFromResultReader(conn.TypeMap(), reader)
	defer rows.Close()
	if err := s.read(rows); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// trace tells the tracer of the user's pool, if there is one, what is sent, as pgx would of a batch.
func (db *DB) trace(ctx context.Context, conn *pgx.Conn, all []statement) (one func(sql string, err error), end func(error)) {
	if db.tracer == nil {
		return func(string, error) {}, func(error) {}
	}
	b := &pgx.Batch{}
	for _, s := range all {
		b.Queue(s.sql)
	}
	ctx = db.tracer.TraceBatchStart(ctx, conn, pgx.TraceBatchStartData{Batch: b})
	return func(sql string, err error) {
			db.tracer.TraceBatchQuery(ctx, conn, pgx.TraceBatchQueryData{SQL: sql, Err: err})
		},
		func(err error) { db.tracer.TraceBatchEnd(ctx, conn, pgx.TraceBatchEndData{Err: err}) }
}

// room is a message without any bytes. It lets the messages after it be written to a buffer of the size that they need: the
// frontend's own would be copied a dozen times until it had grown to that, and be given up then. A connection's messages are written
// one after the other, so what it was sent last may be written over.
type room struct {
	used *[]byte // the connection's
	size int
}

// roomOf returns room in the buffer of a connection.
func roomOf(conn *pgx.Conn, size int) room {
	const name = "sagamill: room"
	mine := conn.PgConn().CustomData()
	used, ok := mine[name].(*[]byte)
	if !ok {
		used = new([]byte)
		mine[name] = used
	}
	return room{used: used, size: size}
}

// Frontend implements pgproto3.FrontendMessage.
func (room) Frontend() {}

// Decode implements pgproto3.Message.
func (room) Decode([]byte) error { return errors.New("room is not received") }

// Encode implements pgproto3.Message.
func (r room) Encode(dst []byte) ([]byte, error) {
	b := append(slices.Grow((*r.used)[:0], len(dst)+r.size), dst...)
	if *r.used = nil; cap(b) <= maxBytes/8 {
		*r.used = b
	}
	return b, nil
}
