// Package inventory is "the vault": it counts pieces. What is available, reserved and committed never becomes negative, and is
// never more than there is: the database's constraints say so, and every change is one constrained update.
package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/saga"
)

// Inventory keeps the stock.
type Inventory struct{ db *data.DB }

// New keeps the stock in db.
func New(ctx context.Context, db *data.DB) (*Inventory, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS stock (
			sku       NAME    PRIMARY KEY,
			available BIGINT NOT NULL CHECK (available >= 0),
			reserved  BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
			committed BIGINT NOT NULL DEFAULT 0 CHECK (committed >= 0)
		);
		CREATE TABLE IF NOT EXISTS reservations (
			order_id NAME    NOT NULL,
			sku      NAME    NOT NULL,
			quantity BIGINT NOT NULL CHECK (quantity > 0),
			status   NAME    NOT NULL CHECK (status IN ('reserved', 'released', 'committed')),
			PRIMARY KEY (order_id, sku),
			FOREIGN KEY (sku) REFERENCES stock (sku)
		);`
	if err := db.Tables(ctx, tables); err != nil {
		return nil, fmt.Errorf("inventory: make tables: %w", err)
	}
	return &Inventory{db: db}, nil
}

// Handle registers what inventory does for sagas.
func (i *Inventory) Handle(p *saga.Participant[*sql.Tx]) error {
	return errors.Join(
		saga.Handle(p, contract.ReserveStock, reserve),
		saga.Handle(p, contract.ReleaseStock, release),
		saga.Handle(p, contract.CommitStock, commit),
	)
}

// reserve locks the pieces of a basket: all of them, or none. The lines come in order of their SKUs, so two baskets never
// wait for each other. A refusal rolls back what came before it.
func reserve(ctx context.Context, tx *sql.Tx, b contract.Basket) (done contract.Nothing, err error) {
	for _, l := range b.Lines {
		ok, err := changed(tx.ExecContext(ctx,
			`UPDATE stock SET available = available - $1, reserved = reserved + $1 WHERE sku = $2 AND available >= $1`, l.Quantity, l.SKU))
		if err != nil {
			return done, err
		}
		if !ok {
			return done, saga.Reject("out of stock: %s", l.SKU)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO reservations (order_id, sku, quantity, status) VALUES ($1, $2, $3, 'reserved')`, b.Order, l.SKU, l.Quantity)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// release gives the pieces back to others.
func release(ctx context.Context, tx *sql.Tx, b contract.Basket) (contract.Nothing, error) {
	return contract.Nothing{}, settle(ctx, tx, b, "released", `UPDATE stock SET reserved = reserved - $1, available = available + $1 WHERE sku = $2`)
}

// commit takes the pieces out of the house.
func commit(ctx context.Context, tx *sql.Tx, b contract.Basket) (contract.Nothing, error) {
	return contract.Nothing{}, settle(ctx, tx, b, "committed", `UPDATE stock SET reserved = reserved - $1, committed = committed + $1 WHERE sku = $2`)
}

// settle ends an order's reservations, each of them once.
func settle(ctx context.Context, tx *sql.Tx, b contract.Basket, status, update string) error {
	for _, l := range b.Lines {
		ok, err := changed(tx.ExecContext(ctx,
			`UPDATE reservations SET status = $1 WHERE order_id = $2 AND sku = $3 AND status = 'reserved'`, status, b.Order, l.SKU))
		if err != nil {
			return err
		}
		if !ok && status == "committed" { // retriable, so somebody will hear of it
			return fmt.Errorf("order %s has no reservation of %s", b.Order, l.SKU)
		}
		if !ok {
			continue
		}
		if _, err := tx.ExecContext(ctx, update, l.Quantity, l.SKU); err != nil {
			return err
		}
	}
	return nil
}

func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Stock is what there is of an article.
type Stock struct {
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
	Committed int64 `json:"committed"`
}

// ErrUnknownSKU says that there is no such article.
var ErrUnknownSKU = errors.New("no such article")

// Stock reads the counts of an article.
func (i *Inventory) Stock(ctx context.Context, sku string) (s Stock, err error) {
	err = i.db.QueryRowContext(ctx, `SELECT available, reserved, committed FROM stock WHERE sku = $1`, sku).Scan(&s.Available, &s.Reserved, &s.Committed)
	if errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("%w: %s", ErrUnknownSKU, sku)
	}
	return s, err
}

// Restock says how many pieces of an article are available: of a new one, or of one that was counted or delivered.
func (i *Inventory) Restock(ctx context.Context, sku string, available int64) (Stock, error) {
	err := i.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO stock (sku, available) VALUES ($1, $2) ON CONFLICT (sku) DO UPDATE SET available = excluded.available`, sku, available)
		return err
	})
	if err != nil {
		return Stock{}, fmt.Errorf("inventory: restock %s: %w", sku, err)
	}
	return i.Stock(ctx, sku)
}

// Ready tells whether the database answers.
func (i *Inventory) Ready(ctx context.Context) error { return i.db.PingContext(ctx) }
