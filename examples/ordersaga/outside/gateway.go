package outside

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

// The payment gateway. It knows each call by its idempotency key, and answers one that comes again as it did before.

// Payment methods for tests.
const (
	Visa          = "pm_card_visa"           // succeeds
	ChargeDecline = "pm_card_chargeDeclined" // refused at once
	FailsLater    = "pm_card_failsLater"     // accepted, then payment.failed
	Silent        = "pm_card_silent"         // accepted, then nothing is ever heard
	Flaky         = "pm_card_flaky"          // unavailable, then no answer after the effect, then success
)

// Errors of the flaky card. Neither says whether there was an effect.
var (
	ErrUnavailable = errors.New("gateway: 503 service unavailable")
	ErrTimeout     = errors.New("gateway: no answer in time")
)

var _ payment.Gateway = (*World)(nil)

// answer is what a call was answered.
type answer struct {
	declined    bool
	transaction string
}

// once does what a call asks for, and remembers the answer under its key. With a flaky card the first call does nothing, and
// the second does it but does not say so.
func (w *World) once(ctx context.Context, key, method string, do func(tx *sql.Tx) (answer, error)) (a answer, err error) {
	silence := error(nil)
	err = w.db.Write(ctx, func(tx *sql.Tx) error {
		var calls int
		var done bool
		silence = nil
		_, err := tx.ExecContext(ctx, `INSERT INTO answers (call_key, calls) VALUES ($1, 1) ON CONFLICT (call_key) DO UPDATE SET calls = answers.calls + 1`, key)
		if err == nil {
			err = tx.QueryRowContext(ctx, `SELECT calls, done, declined, transaction_id FROM answers WHERE call_key = $1`, key).
				Scan(&calls, &done, &a.declined, &a.transaction)
		}
		if err != nil || done {
			return err
		}
		if method == Flaky && calls == 1 {
			silence = ErrUnavailable
			return nil
		}
		if method == Flaky && calls == 2 {
			silence = ErrTimeout
		}
		if a, err = do(tx); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE answers SET done = TRUE, declined = $1, transaction_id = $2 WHERE call_key = $3`, a.declined, a.transaction, key)
		return err
	})
	return a, errors.Join(err, silence)
}

// Authorize implements payment.Gateway.
func (w *World) Authorize(ctx context.Context, key string, c contract.Charge) (payment.Authorized, error) {
	a, err := w.once(ctx, key, c.Method, func(tx *sql.Tx) (answer, error) { return w.authorize(ctx, tx, key, c) })
	if err != nil {
		return payment.Authorized{}, err
	}
	if a.declined {
		return payment.Authorized{}, payment.ErrDeclined
	}
	return payment.Authorized{Transaction: a.transaction, URL: "https://gateway.example/pay/" + a.transaction}, nil
}

func (w *World) authorize(ctx context.Context, tx *sql.Tx, key string, c contract.Charge) (answer, error) {
	var barred int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM transactions WHERE origin = $1`, key).Scan(&barred); err != nil || barred > 0 {
		return answer{declined: true}, err // it was given back before it came
	}
	switch c.Method {
	case Visa, FailsLater, Silent, Flaky:
	default:
		return answer{declined: true}, nil
	}
	id := "tx_" + fingerprint(key)[:16]
	if err := w.open(ctx, tx, transaction{id: id, order: c.Order, origin: key, method: c.Method, amount: c.Amount}); err != nil {
		return answer{}, err
	}
	news := map[string]string{Visa: "payment.succeeded", Flaky: "payment.succeeded", FailsLater: "payment.failed"}[c.Method]
	if !w.lively || news == "" {
		return answer{transaction: id}, nil
	}
	return answer{transaction: id}, w.schedule(ctx, tx, "/webhooks/payment", map[string]any{
		"id": "evt_" + id, "type": news, "order_id": c.Order, "transaction_id": id, "amount": c.Amount, "currency": c.Currency,
	})
}

// Capture implements payment.Gateway. It accepts a transaction that nobody has heard of: the webhook which named it was signed.
func (w *World) Capture(ctx context.Context, key string, m contract.Money) error {
	method, err := w.methodOf(ctx, m.Order)
	if err != nil {
		return err
	}
	a, err := w.once(ctx, key, method, func(tx *sql.Tx) (answer, error) {
		t, err := w.find(ctx, tx, key, m)
		if err != nil {
			return answer{}, err
		}
		if t.status != "authorized" {
			return answer{declined: true}, nil
		}
		return answer{transaction: t.id}, w.move(ctx, tx, t, "captured", payment.Capture)
	})
	if err == nil && a.declined {
		return payment.ErrDeclined
	}
	return err
}

// GiveBack implements payment.Gateway.
func (w *World) GiveBack(ctx context.Context, key, authorization string, m contract.Money) ([]payment.Movement, error) {
	method, err := w.methodOf(ctx, m.Order)
	if err != nil {
		return nil, err
	}
	_, err = w.once(ctx, key, method, func(tx *sql.Tx) (answer, error) {
		t, err := w.toGiveBack(ctx, tx, key, authorization, m)
		switch {
		case err != nil:
		case t.status == "authorized":
			err = w.move(ctx, tx, t, "voided", payment.Void)
		case t.status == "captured":
			err = w.move(ctx, tx, t, "refunded", payment.Refund)
		}
		return answer{}, err // any other has no money left
	})
	if err != nil {
		return nil, err
	}
	return w.Movements(ctx, m.Order)
}

// toGiveBack finds the transaction that is meant.
func (w *World) toGiveBack(ctx context.Context, tx *sql.Tx, key, authorization string, m contract.Money) (transaction, error) {
	if m.Transaction != "" {
		return w.find(ctx, tx, key, m)
	}
	t, err := w.first(ctx, tx, `origin = $1`, authorization)
	if errors.Is(err, sql.ErrNoRows) { // it never came, and shall not come any more
		_, err = tx.ExecContext(ctx, `INSERT INTO transactions (id, order_id, origin, named, method, amount, status) VALUES ($1, $2, $3, TRUE, '', 0, 'barred')`,
			"barred_"+fingerprint(authorization)[:16], m.Order, authorization)
	}
	return t, err
}

type transaction struct {
	id, order, origin, method, status string
	amount                            int64
}

func (w *World) first(ctx context.Context, tx *sql.Tx, where string, args ...any) (t transaction, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id, order_id, origin, method, amount, status FROM transactions WHERE `+where+` ORDER BY n LIMIT 1`, args...).
		Scan(&t.id, &t.order, &t.origin, &t.method, &t.amount, &t.status)
	return t, err
}

// find finds a transaction by the id that a webhook gave it. The first id that is news names what the order had authorized;
// another one is another payment of the same customer, which nobody has told us of before.
func (w *World) find(ctx context.Context, tx *sql.Tx, key string, m contract.Money) (t transaction, err error) {
	t, err = w.first(ctx, tx, `id = $1 AND order_id = $2`, m.Transaction, m.Order)
	if err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE transactions SET named = TRUE WHERE id = $1 AND order_id = $2`, t.id, t.order)
		return t, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return t, err
	}
	t, err = w.first(ctx, tx, `order_id = $1 AND NOT named AND status = 'authorized'`, m.Order)
	if err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE transactions SET named = TRUE, id = $1 WHERE id = $2 AND order_id = $3`, m.Transaction, t.id, t.order)
		t.id = m.Transaction
		return t, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return t, err
	}
	t = transaction{id: m.Transaction, order: m.Order, origin: key, amount: m.Amount, status: "authorized"}
	if err = w.open(ctx, tx, t); err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE transactions SET named = TRUE WHERE id = $1 AND order_id = $2`, t.id, t.order)
	}
	return t, err
}

func (w *World) open(ctx context.Context, tx *sql.Tx, t transaction) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO transactions (id, order_id, origin, named, method, amount, status) VALUES ($1, $2, $3, FALSE, $4, $5, 'authorized')`,
		t.id, t.order, t.origin, t.method, t.amount)
	if err != nil {
		return fmt.Errorf("gateway: transaction %s: %w", t.id, err)
	}
	return w.record(ctx, tx, t, payment.Authorize)
}

func (w *World) move(ctx context.Context, tx *sql.Tx, t transaction, status string, movement payment.EntryType) error {
	if _, err := tx.ExecContext(ctx, `UPDATE transactions SET status = $1 WHERE id = $2 AND order_id = $3`, status, t.id, t.order); err != nil {
		return err
	}
	return w.record(ctx, tx, t, movement)
}

func (w *World) record(ctx context.Context, tx *sql.Tx, t transaction, movement payment.EntryType) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO movements (order_id, transaction_id, type, amount) VALUES ($1, $2, $3, $4)`, t.order, t.id, string(movement), t.amount)
	return err
}

// methodOf tells how an order's customer pays; empty if nothing was asked for so far.
func (w *World) methodOf(ctx context.Context, order string) (method string, err error) {
	err = w.db.QueryRowContext(ctx, `SELECT method FROM transactions WHERE order_id = $1 AND method <> '' LIMIT 1`, order).Scan(&method)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return method, err
}

func fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
