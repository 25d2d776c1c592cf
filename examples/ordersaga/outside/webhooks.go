package outside

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/signature"
)

// Webhooks: they are written down with what they tell, and sent until they are taken, as a gateway does that can be trusted.

const (
	sendEvery    = 50 * time.Millisecond // how often the world looks for what is due
	sendAtMost   = 20                    // times that a webhook is tried which is refused
	sendAtOnce   = 16                    // webhooks on their way
	answerWithin = 5 * time.Second       // is the shop to answer
)

// schedule writes a webhook down, to be sent some time later. Written down again it is the same one.
func (w *World) schedule(ctx context.Context, tx *sql.Tx, path string, body map[string]any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO webhooks (id, path, body, due) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		body["id"], path, string(text), time.Now().Add(w.pace).UnixMilli())
	return err
}

type webhook struct {
	id, path string
	body     []byte
	tries    int
	due      int64
}

// Send sends webhooks to the shop at url, signed with secret, until ctx is done.
func (w *World) Send(ctx context.Context, url string, secret []byte, report func(error)) {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for {
		if err := w.sendDue(ctx, url, secret); err != nil && ctx.Err() == nil {
			report(fmt.Errorf("outside: send webhooks: %w", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *World) sendDue(ctx context.Context, url string, secret []byte) error {
	due, err := w.due(ctx)
	if err == nil && len(due) > 0 {
		due, err = w.claim(ctx, due)
	}
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	slots, errs := make(chan struct{}, sendAtOnce), make([]error, len(due))
	for k, h := range due {
		slots <- struct{}{}
		sending.Go(func() {
			defer func() { <-slots }()
			errs[k] = w.sendOne(ctx, url, secret, h)
		})
	}
	sending.Wait()
	return errors.Join(errs...)
}

func (w *World) sendOne(ctx context.Context, url string, secret []byte, h webhook) error {
	state, again := "waiting", min(100*time.Millisecond<<min(h.tries, 6), 5*time.Second)
	switch status := post(ctx, url, secret, h); {
	case ctx.Err() != nil:
		return nil
	case status/100 == 2:
		state = "taken"
	case status/100 == 4 && h.tries+1 >= sendAtMost: // it is refused; while nobody answers, it is sent on
		state = "given up"
	}
	return w.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE webhooks SET state = $1, tries = tries + 1, due = $2 WHERE id = $3`,
			state, time.Now().Add(again).UnixMilli(), h.id)
		return err
	})
}

func (w *World) due(ctx context.Context) (due []webhook, err error) {
	rows, err := w.db.QueryContext(ctx, `SELECT id, path, body, tries, due FROM webhooks WHERE state = 'waiting' AND due <= $1 ORDER BY due LIMIT 100`, time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var h webhook
		if err := rows.Scan(&h.id, &h.path, &h.body, &h.tries, &h.due); err != nil {
			return nil, err
		}
		due = append(due, h)
	}
	return due, rows.Err()
}

// claim keeps other processes from sending the same ones, for as long as that may take.
func (w *World) claim(ctx context.Context, due []webhook) (ours []webhook, err error) {
	later := time.Now().Add(2 * answerWithin).UnixMilli()
	err = w.db.Write(ctx, func(tx *sql.Tx) error {
		ours = nil
		for _, h := range due {
			result, err := tx.ExecContext(ctx, `UPDATE webhooks SET due = $1 WHERE id = $2 AND due = $3 AND state = 'waiting'`, later, h.id, h.due)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			if n == 1 {
				ours = append(ours, h)
			}
		}
		return nil
	})
	return ours, err
}

// direct sends to the shop, whatever proxy there is for others.
var direct = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: sendAtOnce, IdleConnTimeout: time.Minute}}

// post tells with which status the shop answered; 0: it did not.
func post(ctx context.Context, url string, secret []byte, h webhook) int {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+h.path, bytes.NewReader(h.body))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(signature.Header, signature.Sign(secret, h.body, time.Now()))
	response, err := direct.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
