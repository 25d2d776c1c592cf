// Package outside simulates the world that the shop deals with: a payment gateway, a fraud check, a warehouse and a carrier.
// It keeps books of its own, as the real ones do, and tells its news by webhooks, again and again until they are taken.
package outside

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

// World is the world outside. If it is Lively, it does what it is expected to do by itself: payments are confirmed, frauds
// checked, parcels packed and scanned. Otherwise it only keeps the gateway's books, and whoever plays the world sends webhooks.
type World struct {
	db     *data.DB
	lively bool
	pace   time.Duration // how long the world takes for anything
}

// New keeps the world's books in db.
func New(ctx context.Context, db *data.DB, lively bool, pace time.Duration) (*World, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS transactions (
			n        SERIAL,
			id       NAME    NOT NULL,
			order_id NAME    NOT NULL,
			origin   NAME    NOT NULL, -- the key of the call that made it
			named    BOOLEAN NOT NULL, -- whether a webhook has named it
			method   NAME    NOT NULL,
			amount   BIGINT NOT NULL,
			status   NAME    NOT NULL CHECK (status IN ('authorized', 'captured', 'voided', 'refunded', 'barred')),
			UNIQUE (order_id, id)
		);
		CREATE INDEX IF NOT EXISTS transactions_origin ON transactions (origin);
		CREATE TABLE IF NOT EXISTS answers (
			call_key    NAME    PRIMARY KEY, -- the idempotency key of a call
			calls       BIGINT NOT NULL,
			done        BOOLEAN NOT NULL DEFAULT FALSE,
			declined    BOOLEAN NOT NULL DEFAULT FALSE,
			transaction_id NAME NOT NULL DEFAULT ''
		);
		CREATE TABLE IF NOT EXISTS movements (
			n              SERIAL,
			order_id       NAME    NOT NULL,
			transaction_id NAME    NOT NULL,
			type           NAME    NOT NULL,
			amount         BIGINT NOT NULL
		);
		CREATE INDEX IF NOT EXISTS movements_order ON movements (order_id);
		CREATE TABLE IF NOT EXISTS webhooks (
			id    NAME    PRIMARY KEY,
			path  NAME    NOT NULL,
			body  TEXT    NOT NULL,
			due   BIGINT NOT NULL, -- milliseconds since 1970
			tries BIGINT NOT NULL DEFAULT 0,
			state NAME    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'taken', 'given up'))
		);
		CREATE INDEX IF NOT EXISTS webhooks_due ON webhooks (state, due);`
	if err := db.Tables(ctx, tables); err != nil {
		return nil, fmt.Errorf("outside: make tables: %w", err)
	}
	return &World{db: db, lively: lively, pace: pace}, nil
}

// The warehouse, the carrier and the fraud check: each does its work some time after it was asked, once for each order.

// CheckFraud asks for a decision about an order. The simulated check finds nothing.
func (w *World) CheckFraud(ctx context.Context, order string) error {
	return w.later(ctx, "/webhooks/fraud", map[string]any{"id": "fraud-" + order, "order_id": order, "decision": "pass"})
}

// Pack asks the warehouse to pack an order.
func (w *World) Pack(ctx context.Context, order string) error {
	return w.later(ctx, "/webhooks/warehouse", map[string]any{"id": "packed-" + order, "type": "packed", "order_id": order})
}

// Stop tells the warehouse that an order need not be packed any more. It may be too late.
func (w *World) Stop(ctx context.Context, order string) error {
	return w.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE webhooks SET state = 'given up' WHERE id = $1 AND state = 'waiting'`, "packed-"+order)
		return err
	})
}

// Label asks the carrier for a tracking number. Some time later it scans the parcel.
func (w *World) Label(ctx context.Context, order string) (trackingNumber string, err error) {
	err = w.later(ctx, "/webhooks/carrier", map[string]any{"id": "scan-" + order, "type": "scan", "order_id": order})
	return "1Z" + fingerprint(order)[:12], err
}

// later sends a webhook, if the world is lively.
func (w *World) later(ctx context.Context, path string, body map[string]any) error {
	if !w.lively {
		return nil
	}
	return w.db.Write(ctx, func(tx *sql.Tx) error { return w.schedule(ctx, tx, path, body) })
}

// Movements is the gateway's own ledger of an order: what a test asks when it wants to know what money really moved.
func (w *World) Movements(ctx context.Context, order string) (list []payment.Movement, err error) {
	rows, err := w.db.QueryContext(ctx, `SELECT type, transaction_id, amount FROM movements WHERE order_id = $1 ORDER BY n`, order)
	if err != nil {
		return nil, fmt.Errorf("outside: movements of %s: %w", order, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var m payment.Movement
		if err := rows.Scan(&m.Type, &m.Transaction, &m.Amount); err != nil {
			return nil, fmt.Errorf("outside: movements of %s: %w", order, err)
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// Net is what the gateway has taken from an order's customer.
func (w *World) Net(ctx context.Context, order string) (net int64, err error) {
	list, err := w.Movements(ctx, order)
	for _, m := range list {
		switch m.Type {
		case payment.Capture:
			net += m.Amount
		case payment.Refund:
			net -= m.Amount
		}
	}
	return net, err
}
