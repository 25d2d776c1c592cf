package order

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/saga"
)

// Book is what the order service keeps itself, beside the sagas: what it told its customers, and its invoices.
type Book struct{ db *data.DB }

// NewBook keeps the book in db.
func NewBook(ctx context.Context, db *data.DB) (*Book, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS notifications (
			effect   NAME PRIMARY KEY, -- the step's stable key: a step that runs twice says it once
			order_id NAME NOT NULL,
			at       NAME NOT NULL,
			text     TEXT NOT NULL
		);
		CREATE INDEX IF NOT EXISTS notifications_order ON notifications (order_id);
		CREATE TABLE IF NOT EXISTS invoices (
			number   SERIAL,
			order_id NAME NOT NULL UNIQUE,
			at       NAME NOT NULL
		);`
	if err := db.Tables(ctx, tables); err != nil {
		return nil, fmt.Errorf("order: make tables: %w", err)
	}
	return &Book{db: db}, nil
}

// Notification is a message to a customer.
type Notification struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// notify is a step's action. The row is the message: a real shop would have it mailed from here.
func (b *Book) notify(ctx context.Context, o Order, text string) error {
	return b.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO notifications (effect, order_id, at, text) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			saga.Info(ctx).EffectKey, o.ID, now(), text)
		return err
	})
}

// invoice is a step's action: it gives an order one number, whatever happens.
func (b *Book) invoice(ctx context.Context, o Order) (number string, err error) {
	err = b.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO invoices (order_id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, o.ID, now())
		if err != nil {
			return err
		}
		var n int64
		err = tx.QueryRowContext(ctx, `SELECT number FROM invoices WHERE order_id = $1`, o.ID).Scan(&n)
		number = fmt.Sprintf("INV-%06d", n)
		return err
	})
	return number, err
}

// Notifications lists what an order's customer was told, in order.
func (b *Book) Notifications(ctx context.Context, order string) ([]Notification, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT at, text FROM notifications WHERE order_id = $1 ORDER BY at, effect`, order)
	if err != nil {
		return nil, fmt.Errorf("order: notifications of %s: %w", order, err)
	}
	defer func() { _ = rows.Close() }()
	list := []Notification{}
	for rows.Next() {
		var n Notification
		var at string
		if err := rows.Scan(&at, &n.Text); err != nil {
			return nil, fmt.Errorf("order: notifications of %s: %w", order, err)
		}
		if n.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return nil, fmt.Errorf("order: notifications of %s: %w", order, err)
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00") }
