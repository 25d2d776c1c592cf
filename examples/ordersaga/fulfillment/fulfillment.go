// Package fulfillment is "the worker": it hears of confirmed orders, has them packed, and ships them when it is told to.
package fulfillment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/listen"
	"github.com/sagamill/sagamill/saga"
)

// Warehouse packs parcels. It tells by a webhook when one is packed. To ask twice for one order is to ask once.
type Warehouse interface {
	Pack(ctx context.Context, order string) error
	Stop(ctx context.Context, order string) error // it need not be packed any more
}

// Carrier takes parcels. To ask twice for one order is to ask once.
type Carrier interface {
	Label(ctx context.Context, order string) (trackingNumber string, err error)
}

// Fulfillment keeps what is packed and shipped.
type Fulfillment struct {
	db        *data.DB
	warehouse Warehouse
	carrier   Carrier
	news      chan struct{} // capacity 1: there is something to ask of the warehouse
}

// New keeps the shipments in db.
func New(ctx context.Context, db *data.DB, warehouse Warehouse, carrier Carrier) (*Fulfillment, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS packing (
			order_id NAME    PRIMARY KEY,
			revision BIGINT NOT NULL, -- of the last event that was heard
			status   NAME    NOT NULL CHECK (status IN ('to pack', 'stopped')),
			asked    BOOLEAN NOT NULL DEFAULT FALSE -- whether the warehouse knows
		);
		CREATE INDEX IF NOT EXISTS packing_unasked ON packing (asked, order_id);
		CREATE TABLE IF NOT EXISTS shipments (
			order_id        NAME PRIMARY KEY,
			at              NAME NOT NULL,
			tracking_number NAME NOT NULL DEFAULT ''
		);`
	if err := db.Tables(ctx, tables); err != nil {
		return nil, fmt.Errorf("fulfillment: make tables: %w", err)
	}
	return &Fulfillment{db: db, warehouse: warehouse, carrier: carrier, news: make(chan struct{}, 1)}, nil
}

// Hear records an event of the lifecycle of an order; Run does what follows from it. Older ones than the last that was heard are
// dropped: a confirmation that is heard after the cancellation packs nothing.
func (f *Fulfillment) Hear(ctx context.Context, e listen.Event) error {
	status := map[string]string{
		contract.OrderConfirmed: "to pack", contract.OrderCancelled: "stopped", contract.OrderFailed: "stopped",
	}[e.Name]
	if status == "" {
		return nil
	}
	err := f.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE packing SET revision = $2, status = $3, asked = FALSE WHERE order_id = $1 AND revision < $2`,
			e.Order, e.Revision, status)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO packing (order_id, revision, status) VALUES ($1, $2, $3) ON CONFLICT (order_id) DO NOTHING`,
			e.Order, e.Revision, status)
		return err
	})
	select {
	case f.news <- struct{}{}:
	default:
	}
	return err
}

// Run tells the warehouse what to pack, and what not any more, until ctx is done. While the warehouse does not answer it is asked
// again; that holds up nobody else. Several processes may do so. If one asks for what another one has heard to be out of date, the
// warehouse is told once more what holds. Only if that process dies before it has noted so, a parcel may be packed in vain.
func (f *Fulfillment) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := f.ask(ctx); err != nil && ctx.Err() == nil {
			report(fmt.Errorf("fulfillment: ask the warehouse: %w", err))
		}
		select {
		case <-f.news:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

type toAsk struct {
	order, status string
	revision      uint64
}

func (f *Fulfillment) ask(ctx context.Context) error {
	list, err := f.unasked(ctx)
	if err != nil {
		return err
	}
	for _, x := range list {
		tell := f.warehouse.Stop
		if x.status == "to pack" {
			tell = f.warehouse.Pack
		}
		err := tell(ctx, x.order)
		if err = errors.Join(err, f.told(ctx, x, err == nil)); err != nil {
			return err
		}
	}
	return nil
}

// told records whether the warehouse knows. If another event was heard since x was read, it does not: another process may have
// asked what follows from that one before this one asked for x, so it is asked once more.
func (f *Fulfillment) told(ctx context.Context, x toAsk, knows bool) error {
	return f.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE packing SET asked = ($3 AND revision = $2) WHERE order_id = $1`, x.order, x.revision, knows)
		return err
	})
}

func (f *Fulfillment) unasked(ctx context.Context) (list []toAsk, err error) {
	rows, err := f.db.QueryContext(ctx, `SELECT order_id, revision, status FROM packing WHERE NOT asked`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var x toAsk
		if err := rows.Scan(&x.order, &x.revision, &x.status); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, rows.Err()
}

// Handle registers what fulfillment does for sagas.
func (f *Fulfillment) Handle(p *saga.Participant[*sql.Tx]) error {
	return errors.Join(
		saga.Handle(p, contract.CreateShipment, f.createShipment),
		saga.Handle(p, contract.GenerateLabel, f.generateLabel),
	)
}

func (f *Fulfillment) createShipment(ctx context.Context, tx *sql.Tx, p contract.Parcel) (done contract.Nothing, err error) {
	_, err = tx.ExecContext(ctx, `INSERT INTO shipments (order_id, at) VALUES ($1, $2)`, p.Order, time.Now().UTC().Format(time.RFC3339Nano))
	return done, err
}

func (f *Fulfillment) generateLabel(ctx context.Context, tx *sql.Tx, p contract.Parcel) (contract.Label, error) {
	number, err := f.carrier.Label(ctx, p.Order)
	if err != nil {
		return contract.Label{}, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE shipments SET tracking_number = $1 WHERE order_id = $2`, number, p.Order)
	return contract.Label{TrackingNumber: number}, err
}

// Shipped tells how often an order was shipped: a test's question.
func (f *Fulfillment) Shipped(ctx context.Context, order string) (n int, err error) {
	err = f.db.QueryRowContext(ctx, `SELECT count(*) FROM shipments WHERE order_id = $1`, order).Scan(&n)
	return n, err
}

// Ready tells whether the database answers.
func (f *Fulfillment) Ready(ctx context.Context) error { return f.db.PingContext(ctx) }
