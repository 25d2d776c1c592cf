// Package fulfillment is "the worker": it hears of confirmed orders, has them packed, and ships them when it is told to.
package fulfillment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/listen"
	"github.com/sagamill/sagamill/saga"
)

// Warehouse packs parcels. It tells by a webhook when one is packed. To ask twice for one order is to ask once.
type Warehouse interface {
	Pack(ctx context.Context, order string) error
}

// Carrier takes parcels. To ask twice for one order is to ask once.
type Carrier interface {
	Label(ctx context.Context, order string) (trackingNumber string, err error)
}

// Fulfillment keeps what is packed and shipped.
type Fulfillment struct {
	db        *sqlite.DB
	warehouse Warehouse
	carrier   Carrier
}

// New keeps the shipments in db.
func New(ctx context.Context, db *sqlite.DB, warehouse Warehouse, carrier Carrier) (*Fulfillment, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS packing (
			order_id TEXT    PRIMARY KEY,
			revision INTEGER NOT NULL, -- of the last event that was heard
			status   TEXT    NOT NULL CHECK (status IN ('to pack', 'stopped'))
		) STRICT;
		CREATE TABLE IF NOT EXISTS shipments (
			order_id        TEXT PRIMARY KEY,
			at              TEXT NOT NULL,
			tracking_number TEXT NOT NULL DEFAULT ''
		) STRICT;`
	err := db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, tables)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fulfillment: make tables: %w", err)
	}
	return &Fulfillment{db: db, warehouse: warehouse, carrier: carrier}, nil
}

// Hear takes an event of the lifecycle of an order. Older ones than the last that was heard are dropped: a confirmation that is
// overtaken by a cancellation packs nothing.
func (f *Fulfillment) Hear(ctx context.Context, e listen.Event) error {
	status := map[string]string{contract.OrderConfirmed: "to pack", contract.OrderCancelled: "stopped"}[e.Name]
	if status == "" {
		return nil
	}
	return f.db.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO packing (order_id, revision, status) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET revision = excluded.revision, status = excluded.status WHERE excluded.revision > packing.revision`,
			e.Order, e.Revision, status)
		if err != nil {
			return err
		}
		if news, err := result.RowsAffected(); err != nil || news == 0 || status != "to pack" {
			return err
		}
		return f.warehouse.Pack(ctx, e.Order)
	})
}

// Handle registers what fulfillment does for sagas.
func (f *Fulfillment) Handle(p *saga.Participant[*sql.Tx]) error {
	return errors.Join(
		saga.Handle(p, contract.CreateShipment, f.createShipment),
		saga.Handle(p, contract.GenerateLabel, f.generateLabel),
	)
}

func (f *Fulfillment) createShipment(ctx context.Context, tx *sql.Tx, p contract.Parcel) (done contract.Nothing, err error) {
	_, err = tx.ExecContext(ctx, `INSERT INTO shipments (order_id, at) VALUES (?, ?)`, p.Order, time.Now().UTC().Format(time.RFC3339Nano))
	return done, err
}

func (f *Fulfillment) generateLabel(ctx context.Context, tx *sql.Tx, p contract.Parcel) (contract.Label, error) {
	number, err := f.carrier.Label(ctx, p.Order)
	if err != nil {
		return contract.Label{}, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE shipments SET tracking_number = ? WHERE order_id = ?`, number, p.Order)
	return contract.Label{TrackingNumber: number}, err
}

// Shipped tells how often an order was shipped: a test's question.
func (f *Fulfillment) Shipped(ctx context.Context, order string) (n int, err error) {
	err = f.db.QueryRowContext(ctx, `SELECT count(*) FROM shipments WHERE order_id = ?`, order).Scan(&n)
	return n, err
}

// Ready tells whether the database answers.
func (f *Fulfillment) Ready(ctx context.Context) error { return f.db.PingContext(ctx) }
