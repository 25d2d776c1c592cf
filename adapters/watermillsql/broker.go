// Package watermillsql is the transport over tables of the database that you have, PostgreSQL or MySQL (MariaDB): Watermill's SQL
// Pub/Sub with settings that lose nothing and wait as little as may be. There is no broker to run.
//
//	broker, err := watermillsql.NewPostgres(db, watermillsql.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and participants
//
// What it guarantees:
//
//   - a message is committed when Publish returns nil, or with your own transaction if it is published in that
//     ([Broker.InTx], [Broker.InPgxTx]); it reaches each group of its topic at least once. A topic is a table, a group is a row
//     in another one; both are made by whoever comes first, and a group begins with what the table holds;
//   - a message that is not acknowledged comes again: at once when the connection of its subscriber or the process is gone,
//     and after Config.RedeliverAfter otherwise;
//   - messages of a topic come to a group in order of their transactions (on PostgreSQL; on MySQL of their numbers), by one
//     subscriber at a time: the others stand by. On PostgreSQL a message is handed on when the one before has been taken, also if
//     that is not acknowledged yet; on MySQL when it is. Several topics run side by side;
//   - what all groups have acknowledged is deleted, every Config.TrimInterval. A group that is gone for good has to be deleted
//     from the table of offsets, as it keeps everything until it comes back.
//
// What it costs: a message that is never acknowledged holds up its group for ever; the engine and participants acknowledge all. Of
// the subscribers that a process has for a topic and group, one has a transaction, and so a connection of the pool, while
// its messages are handled. On PostgreSQL up to 100 messages, handed on within 25 ms, are recorded as acknowledged at once,
// at the end. A message is shown there only when no older transaction of the whole cluster that has written anything can still commit: so
// long transactions anywhere in the cluster are delays here, and so are handlers that write for long; those that wait for an
// acknowledgement are not. On MySQL, which takes one message at a time, a transaction that has published and does not end holds up
// its topics: their groups, and others that publish there if a number is missing before what a group would get next (it was
// drawn in a transaction that is rolled back, say). Of several servers that replicate to each other one may be written to.
//
// An entry whose metadata cannot be read is handed on without them, so that the engine can record it as a dead letter.
//
// Names: topics are letters, digits and -$:._ , 45 at most, since what a longer name would be cut off to may be another topic's;
// they do not begin with "offsets_". Tables are named watermill_TOPIC and watermill_offsets_TOPIC, and are made in the
// connection's schema. Message UUIDs have 36 characters at most. On MySQL a table of offsets has a row more than groups, whose name is
// empty: publishing needs it.
package watermillsql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/saga"
)

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// PollInterval is how often a subscriber that has found nothing looks again. Default 50ms.
	PollInterval time.Duration
	// RedeliverAfter is how long a subscriber waits for an acknowledgement before it ends its transaction, so that the message
	// comes again. Default 30s.
	RedeliverAfter time.Duration
	// TrimInterval is how often the topics that this process subscribes to are relieved of what all of their groups have
	// acknowledged. Default 1m. Negative: never.
	TrimInterval time.Duration
}

func (c Config) withDefaults() Config {
	def := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	def(&c.PollInterval, 50*time.Millisecond)
	def(&c.RedeliverAfter, 30*time.Second)
	def(&c.TrimInterval, time.Minute)
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.PollInterval < 0 {
		faults = append(faults, fmt.Errorf("watermillsql: Config: PollInterval is %s: it must not be negative", c.PollInterval))
	}
	if c.RedeliverAfter < 0 {
		faults = append(faults, fmt.Errorf("watermillsql: Config: RedeliverAfter is %s: it must not be negative", c.RedeliverAfter))
	}
	return errors.Join(faults...)
}

// ErrClosed is what a closed Broker answers.
var ErrClosed = errors.New("watermillsql: broker is closed")

const retryInterval = 500 * time.Millisecond // after an error of the database

// Broker carries messages through a database. It is safe for concurrent use.
type Broker struct {
	db      sql.Beginner
	dialect dialect
	config  Config
	logger  watermill.LoggerAdapter
	trimmer trimmer

	turns     sync.Map     // of channels, by topic and group: see reader
	mu        sync.RWMutex // Close waits for Publish
	closed    bool
	publisher *sql.Publisher
}

// NewPostgres makes a Broker on PostgreSQL (14 or later). The pool is yours: Close leaves it open. A nil logger means no logging.
func NewPostgres(db *stdsql.DB, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if db == nil {
		return nil, errNoDatabase
	}
	return newBroker(sql.BeginnerFromStdSQL(db), postgres, config, logger)
}

// NewPgx is NewPostgres on a pool of pgx's own.
func NewPgx(pool *pgxpool.Pool, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if pool == nil {
		return nil, errNoDatabase
	}
	return newBroker(sql.BeginnerFromPgx(pool), postgres, config, logger)
}

// NewMySQL makes a Broker on MySQL (8 or later) or MariaDB (10.6 or later). The pool is yours: Close leaves it open. A nil
// logger means no logging.
func NewMySQL(db *stdsql.DB, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if db == nil {
		return nil, errNoDatabase
	}
	return newBroker(sql.BeginnerFromStdSQL(db), mysql, config, logger)
}

var errNoDatabase = errors.New("watermillsql: the database is nil")

func newBroker(db sql.Beginner, d dialect, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	b := &Broker{db: db, dialect: d, config: config.withDefaults(), logger: logger}
	var err error
	b.publisher, err = sql.NewPublisher(db, sql.PublisherConfig{SchemaAdapter: d.schema, AutoInitializeSchema: true}, quiet{logger})
	if err != nil {
		return nil, fmt.Errorf("watermillsql: publisher: %w", err)
	}
	b.trimmer.begin(b)
	return b, nil
}

// Transport is what orchestrators and participants are given.
func (b *Broker) Transport() saga.Transport {
	return saga.Transport{
		Publisher: b,
		Subscriber: func(params saga.SubscriberParams) (message.Subscriber, error) {
			return b.Subscriber(params.Group)
		},
	}
}

// turnOf is held by whoever of a group asks the database for messages of a topic.
func (b *Broker) turnOf(topic, group string) chan struct{} {
	turn, _ := b.turns.LoadOrStore(topic+" "+group, make(chan struct{}, 1))
	return turn.(chan struct{})
}

// Publish implements message.Publisher: all messages are committed, or none is.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return ErrClosed
	}
	return publish(b.publisher, topic, messages)
}

func publish(p *sql.Publisher, topic string, messages []*message.Message) error {
	if err := validTopic(topic); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	if err := p.Publish(topic, messages...); err != nil {
		return fmt.Errorf("watermillsql: publish to %s: %w", topic, err)
	}
	return nil
}

// CreateTopics makes the tables of topics. It is needed before they are published to in a transaction of yours, which is no
// place for it: MySQL would commit that. Otherwise tables are made when they are first used.
func (b *Broker) CreateTopics(ctx context.Context, topics ...string) error {
	for _, topic := range topics {
		if err := validTopic(topic); err != nil {
			return err
		}
		if err := errors.Join(b.createTables(topic), ctx.Err()); err != nil {
			return fmt.Errorf("watermillsql: create topic %s: %w", topic, err)
		}
	}
	return nil
}

// InTx returns a publisher whose messages are part of tx: they are there if it commits, and never were if it does not. The
// topics must exist ([Broker.CreateTopics]).
func (b *Broker) InTx(tx *stdsql.Tx) message.Publisher { return txPublisher{b, sql.TxFromStdSQL(tx)} }

// InPgxTx is InTx for a transaction of pgx's own.
func (b *Broker) InPgxTx(tx pgx.Tx) message.Publisher { return txPublisher{b, sql.TxFromPgx(tx)} }

type txPublisher struct {
	broker *Broker
	tx     sql.ContextExecutor
}

// Publish implements message.Publisher.
func (p txPublisher) Publish(topic string, messages ...*message.Message) error {
	inner, err := sql.NewPublisher(p.tx, sql.PublisherConfig{SchemaAdapter: p.broker.dialect.schema}, quiet{p.broker.logger})
	if err != nil {
		return fmt.Errorf("watermillsql: publisher: %w", err)
	}
	return publish(inner, topic, messages)
}

// Close implements message.Publisher. The transaction is the caller's.
func (txPublisher) Close() error { return nil }

// Close ends what the Broker has started. Subscribers are closed by whoever opened them, and the pool is its owner's. It may be
// called any number of times.
func (b *Broker) Close() error {
	b.trimmer.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if err := b.publisher.Close(); err != nil {
		return fmt.Errorf("watermillsql: close the publisher: %w", err)
	}
	return nil
}

// quiet takes what Watermill tells of each subscriber (the statements that make its tables, say) for details.
type quiet struct{ watermill.LoggerAdapter }

// Info implements watermill.LoggerAdapter.
func (q quiet) Info(msg string, fields watermill.LogFields) { q.Debug(msg, fields) }

// With implements watermill.LoggerAdapter.
func (q quiet) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return quiet{q.LoggerAdapter.With(fields)}
}
