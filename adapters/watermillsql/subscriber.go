package watermillsql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriber reads Watermill's tables. Unlike Watermill's own it hands a message on while those before it are still waiting to be
// acknowledged, and moves the group on once for all of them: who answers a message only when what it says is committed, as the
// orchestrator does, commits many at once.
type subscriber struct {
	broker *Broker
	group  string

	mu      sync.Mutex
	closing chan struct{} // closed by Close
	closed  bool
	ends    []context.CancelFunc
	readers sync.WaitGroup
}

// batchTime is how long messages of one transaction are handed on. What is acknowledged is recorded at its end.
const batchTime = 25 * time.Millisecond

// closeWithin is how long Close waits for a database that does not answer.
const closeWithin = 2 * time.Second

// Subscriber makes a subscriber in a group. Closing it leaves the Broker open.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validGroup(group); err != nil {
		return nil, err
	}
	return &subscriber{broker: b, group: group, closing: make(chan struct{})}, nil
}

// createTables makes the tables of a topic, unless they exist.
func (b *Broker) createTables(topic string) error {
	s, err := sql.NewSubscriber(b.db, sql.SubscriberConfig{SchemaAdapter: b.dialect.schema, OffsetsAdapter: b.dialect.offsets}, quiet{b.logger})
	if err != nil {
		return err
	}
	return errors.Join(s.SubscribeInitialize(topic), s.Close())
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := validTopic(topic); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("watermillsql: subscriber is closed")
	}
	err := s.broker.createTables(topic)
	if err == nil {
		err = s.broker.dialect.join(ctx, s.broker.db, topic, s.group)
	}
	if err != nil {
		return nil, fmt.Errorf("watermillsql: subscribe to %s: %w", topic, err)
	}
	ctx, end := context.WithCancel(ctx)
	s.ends = append(s.ends, end)
	s.broker.trimmer.add(topic)
	r := &reader{subscriber: s, topic: topic, out: make(chan *message.Message)}
	s.readers.Go(func() { defer close(r.out); r.run(ctx) })
	return r.out, nil
}

// Close implements message.Subscriber. A message that is not acknowledged by now comes to another one of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	end := func() {
		for _, end := range s.ends {
			end()
		}
	}
	defer end()
	defer time.AfterFunc(closeWithin, end).Stop()
	s.readers.Wait() // what is acknowledged is recorded
	return nil
}

// reader is one subscription.
type reader struct {
	*subscriber
	topic string
	out   chan *message.Message
	// settled is a number of a message: no other one can appear before it.
	settled int64
}

func (r *reader) run(ctx context.Context) {
	turn := r.broker.turnOf(r.topic, r.group)
	for r.readInTurn(ctx, turn) {
	}
}

// readInTurn lets one reader of a group at a time ask the database, of those that this process has: the others would not get
// anything. It answers false if the subscription is over.
func (r *reader) readInTurn(ctx context.Context, turn chan struct{}) bool {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-r.closing:
		return false
	case <-ctx.Done():
		return false
	}
	more, err := r.once(ctx)
	pause := time.Duration(0)
	switch {
	case err != nil && strings.Contains(strings.ToLower(err.Error()), "deadlock"): // which MySQL makes of ordinary things
		r.broker.logger.Debug("Messages cannot be read, trying again", watermill.LogFields{"topic": r.topic, "err": err.Error()})
	case err != nil && ctx.Err() == nil:
		r.broker.logger.Error("Messages cannot be read, trying again", err, watermill.LogFields{"topic": r.topic, "consumer_group": r.group})
		pause = retryInterval
	case !more:
		pause = r.broker.config.PollInterval
	}
	return r.wait(ctx, pause)
}

// wait answers false if the subscription is over.
func (r *reader) wait(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-r.closing:
		return false
	case <-ctx.Done():
		return false
	case <-t.C:
	}
	select {
	case <-r.closing:
		return false
	default:
		return ctx.Err() == nil
	}
}

// once reads a batch, hands it on, and moves the group on by what is acknowledged. It answers whether there may be more.
func (r *reader) once(ctx context.Context) (more bool, err error) {
	d, db := r.broker.dialect, r.broker.db
	tx, err := db.BeginTx(ctx, &stdsql.TxOptions{Isolation: d.isolation})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if d.turn != nil {
		if mine, err := d.turn(ctx, tx, r.topic, r.group); err != nil || !mine {
			return false, err
		}
	}
	rows, err := r.read(ctx, tx)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if last := rows[len(rows)-1].Offset; d.settle != nil && last > r.settled && skips(rows) {
		_ = tx.Rollback() // what is missing may wait for the transaction
		if err := d.settle(ctx, db, r.topic); err != nil {
			return false, fmt.Errorf("wait for messages that are published late: %w", err)
		}
		r.settled = last
		return r.once(ctx)
	}
	acked, refused := r.handOn(ctx, rows)
	if acked > 0 {
		q, err := d.offsets.AckMessageQuery(sql.AckMessageQueryParams{Topic: r.topic, LastRow: rows[acked-1], Rows: rows[:acked], ConsumerGroup: r.group})
		if err == nil {
			_, err = tx.ExecContext(ctx, q.Query, q.Args...)
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			return false, fmt.Errorf("record what is acknowledged: %w", err)
		}
	}
	if refused {
		_ = tx.Rollback() // before the pause: others may be luckier
		r.wait(ctx, retryInterval)
	}
	return true, nil
}

// read returns the messages whose turn it is.
func (r *reader) read(ctx context.Context, tx sql.Tx) (all []sql.Row, err error) {
	d := r.broker.dialect
	q, err := d.schema.SelectQuery(sql.SelectQueryParams{Topic: r.topic, ConsumerGroup: r.group, OffsetsAdapter: d.offsets})
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, q.Query, q.Args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		row, err := d.schema.UnmarshalMessage(sql.UnmarshalMessageParams{Row: rows})
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, nil
}

// handOn hands messages on, and waits until they are acknowledged. It answers how many are, with all before them, and whether one
// was refused.
func (r *reader) handOn(ctx context.Context, rows []sql.Row) (acked int, refused bool) {
	ctx, end := context.WithCancel(ctx) // the messages' contexts, too
	defer end()
	handed := r.offer(ctx, rows) // of which all are waited for: what comes again shall not come beside itself
	deadline := time.NewTimer(r.broker.config.RedeliverAfter)
	defer deadline.Stop()
	for k, row := range rows[:handed] {
		select {
		case <-row.Msg.Acked():
		case <-row.Msg.Nacked():
			refused = true
		case <-deadline.C:
			return acked, refused
		case <-r.closing:
			return acked + ready(rows[k:handed], refused), refused
		case <-ctx.Done():
			return acked, refused
		}
		if !refused {
			acked++
		}
	}
	return acked, refused
}

// ready counts the first of the messages that are acknowledged already.
func ready(rows []sql.Row, refused bool) (n int) {
	for ; n < len(rows) && !refused; n++ {
		select {
		case <-rows[n].Msg.Acked():
		default:
			return n
		}
	}
	return n
}

// offer hands messages on for as long as they are taken quickly, and answers how many were taken. Nobody waits for ever in a
// transaction.
func (r *reader) offer(ctx context.Context, rows []sql.Row) int {
	over := time.NewTimer(r.broker.config.RedeliverAfter)
	defer over.Stop()
	for k, row := range rows {
		row.Msg.SetContext(ctx)
		select {
		case r.out <- row.Msg:
		case <-over.C:
			return k
		case <-r.closing:
			return k
		case <-ctx.Done():
			return k
		}
		if k == 0 {
			over.Reset(batchTime)
		}
	}
	return len(rows)
}
