// Package payment is "the cashier": it asks the gateway for money, gives it back, and keeps a ledger of its own.
package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/saga"
)

// Gateway is what payment needs of a payment gateway. Each call has an idempotency key: called again, it answers as before.
// An error that is not ErrDeclined means that nobody knows whether it took effect.
type Gateway interface {
	// Authorize asks for money, and answers where the customer confirms that.
	Authorize(ctx context.Context, key string, c contract.Charge) (Authorized, error)
	// Capture takes the money of a transaction that was authorized.
	Capture(ctx context.Context, key string, m contract.Money) error
	// GiveBack refunds a transaction that was captured, voids one that was only authorized, and does nothing to one that has
	// no money left. Without a transaction it means what the call of Authorize under the key authorization asked for; if that
	// call never came, it never will have an effect. The answer is the statement of the order: all that ever moved.
	GiveBack(ctx context.Context, key, authorization string, m contract.Money) ([]Movement, error)
}

// Authorized is the gateway's answer to Authorize.
type Authorized struct{ URL, Transaction string }

// Movement is a line of the gateway's statement.
type Movement struct {
	Type        EntryType
	Transaction string
	Amount      int64
}

// ErrDeclined says that the gateway refuses for good.
var ErrDeclined = errors.New("declined")

// Payment keeps the ledger.
type Payment struct {
	db      *data.DB
	gateway Gateway
}

// EntryType is what an entry of the ledger is about.
type EntryType string

const (
	Authorize EntryType = "authorize"
	Capture   EntryType = "capture"
	Void      EntryType = "void"
	Refund    EntryType = "refund"
)

// New keeps the ledger in db.
func New(ctx context.Context, db *data.DB, gateway Gateway) (*Payment, error) {
	const tables = `
		CREATE TABLE IF NOT EXISTS entries (
			n              SERIAL,
			tenant         NAME    NOT NULL,
			order_id       NAME    NOT NULL,
			at             NAME    NOT NULL,
			type           NAME    NOT NULL CHECK (type IN ('authorize', 'capture', 'void', 'refund')),
			amount         BIGINT NOT NULL CHECK (amount >= 0),
			transaction_id NAME    NOT NULL
		);
		CREATE INDEX IF NOT EXISTS entries_order ON entries (order_id);
		CREATE TABLE IF NOT EXISTS ledgers (
			order_id NAME   PRIMARY KEY,
			pages    BIGINT NOT NULL
		);`
	if err := db.Tables(ctx, tables); err != nil {
		return nil, fmt.Errorf("payment: make tables: %w", err)
	}
	return &Payment{db: db, gateway: gateway}, nil
}

// Handle registers what payment does for sagas.
//
// The gateway is outside: what it was asked for stays though our transaction is rolled back. So each call has the effect's own
// key, and a refund asks the gateway also when we know nothing of what is to be refunded (NullCompensation).
func (p *Payment) Handle(participant *saga.Participant[*sql.Tx]) error {
	return errors.Join(
		saga.Handle(participant, contract.Authorize, p.authorize),
		saga.Handle(participant, contract.Capture, p.capture),
		saga.Handle(participant, contract.Refund, p.refund, saga.NullCompensation),
	)
}

func (p *Payment) authorize(ctx context.Context, tx *sql.Tx, c contract.Charge) (contract.Authorization, error) {
	if err := lock(ctx, tx, c.Order); err != nil {
		return contract.Authorization{}, err
	}
	a, err := p.gateway.Authorize(ctx, saga.Info(ctx).EffectKey, c)
	if err != nil {
		return contract.Authorization{}, orRejection(err, "the payment was declined")
	}
	m := contract.Money{Order: c.Order, Tenant: c.Tenant, Amount: c.Amount, Transaction: a.Transaction}
	return contract.Authorization{URL: a.URL}, write(ctx, tx, Authorize, m)
}

func (p *Payment) capture(ctx context.Context, tx *sql.Tx, m contract.Money) (done contract.Nothing, err error) {
	if err := lock(ctx, tx, m.Order); err != nil {
		return done, err
	}
	if err := p.gateway.Capture(ctx, saga.Info(ctx).EffectKey, m); err != nil {
		return done, orRejection(err, "the capture was refused")
	}
	return done, write(ctx, tx, Capture, m)
}

// refund is the compensation of both, and, as an action, what gives back a payment that came too late. Our ledger may lack
// what is undone here, if the gateway's answer never came; so it is brought up to the gateway's statement.
func (p *Payment) refund(ctx context.Context, tx *sql.Tx, m contract.Money) (done contract.Nothing, err error) {
	if err := lock(ctx, tx, m.Order); err != nil {
		return done, err
	}
	info := saga.Info(ctx)
	statement, err := p.gateway.GiveBack(ctx, info.EffectKey, info.ActionKey, m)
	if err != nil {
		return done, err
	}
	known, err := count(ctx, tx, m.Order)
	if err != nil {
		return done, err
	}
	for _, line := range statement {
		if known[line.Type]--; known[line.Type] >= 0 {
			continue
		}
		m.Transaction, m.Amount = line.Transaction, line.Amount
		if err := write(ctx, tx, line.Type, m); err != nil {
			return done, err
		}
	}
	return done, nil
}

// lock lets one command at a time work on an order's ledger: between the gateway's statement and our entries nothing moves.
func lock(ctx context.Context, tx *sql.Tx, order string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO ledgers (order_id, pages) VALUES ($1, 1) ON CONFLICT (order_id) DO UPDATE SET pages = ledgers.pages + 1`, order)
	return err
}

// count tells how many entries of each type an order has.
func count(ctx context.Context, tx *sql.Tx, order string) (known map[EntryType]int, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT type, count(*) FROM entries WHERE order_id = $1 GROUP BY type`, order)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	known = map[EntryType]int{}
	for rows.Next() {
		var t EntryType
		var n int
		if err := rows.Scan(&t, &n); err != nil {
			return nil, err
		}
		known[t] = n
	}
	return known, rows.Err()
}

func orRejection(err error, reason string) error {
	if errors.Is(err, ErrDeclined) {
		return saga.Reject("%s", reason)
	}
	return err
}

func write(ctx context.Context, tx *sql.Tx, t EntryType, m contract.Money) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO entries (tenant, order_id, at, type, amount, transaction_id) VALUES ($1, $2, $3, $4, $5, $6)`,
		m.Tenant, m.Order, time.Now().UTC().Format(time.RFC3339Nano), string(t), m.Amount, m.Transaction)
	return err
}

// Ledger is what payment knows of an order's money.
type Ledger struct {
	Authorized int64   `json:"authorized"`
	Captured   int64   `json:"captured"`
	Refunded   int64   `json:"refunded"`
	Net        int64   `json:"net"` // captured - refunded
	Entries    []Entry `json:"entries"`
}

// Entry is a line of the ledger.
type Entry struct {
	At            time.Time `json:"at"`
	Type          EntryType `json:"type"`
	Amount        int64     `json:"amount"`
	TransactionID string    `json:"transaction_id"`
}

// Ledger reads what there is of a tenant's order. An order without payments has an empty one.
func (p *Payment) Ledger(ctx context.Context, tenant, order string) (Ledger, error) {
	l := Ledger{Entries: []Entry{}}
	rows, err := p.db.QueryContext(ctx, `SELECT at, type, amount, transaction_id FROM entries WHERE tenant = $1 AND order_id = $2 ORDER BY n`, tenant, order)
	if err != nil {
		return l, fmt.Errorf("payment: ledger of %s: %w", order, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e Entry
		var at string
		if err := rows.Scan(&at, &e.Type, &e.Amount, &e.TransactionID); err != nil {
			return l, fmt.Errorf("payment: ledger of %s: %w", order, err)
		}
		if e.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return l, fmt.Errorf("payment: ledger of %s: %w", order, err)
		}
		l.add(e)
	}
	return l, rows.Err()
}

func (l *Ledger) add(e Entry) {
	l.Entries = append(l.Entries, e)
	switch e.Type {
	case Authorize:
		l.Authorized += e.Amount
	case Capture:
		l.Captured += e.Amount
	case Refund:
		l.Refunded += e.Amount
	}
	l.Net = l.Captured - l.Refunded
}

// Ready tells whether the database answers.
func (p *Payment) Ready(ctx context.Context) error { return p.db.PingContext(ctx) }
