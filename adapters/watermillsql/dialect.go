package watermillsql

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"fmt"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// dialect is what differs between databases. The schemas are Watermill's, with the differences that follow.
type dialect struct {
	schema    sql.SchemaAdapter
	offsets   sql.OffsetsAdapter
	isolation stdsql.IsolationLevel // of transactions that read messages
	// turn tells whether the transaction is the one of the group's that reads the topic now. Nil: it finds no messages otherwise.
	turn func(ctx context.Context, tx sql.Tx, topic, group string) (bool, error)
	// join makes the group's row in the table of offsets, unless there is one.
	join func(ctx context.Context, db sql.Beginner, topic, group string) error
	// trim deletes what all groups have acknowledged.
	trim func(ctx context.Context, db sql.Beginner, topic string) error
}

var postgres = dialect{
	schema: postgresSchema{sql.DefaultPostgreSQLSchema{
		SubscribeBatchSize: 100, GeneratePayloadType: func(string) string { return "BYTEA" },
	}},
	offsets:   postgresOffsets{},
	isolation: stdsql.LevelReadCommitted, // the messages are read after the lock is taken, and as of then
	turn:      turnOnPostgres,
	join:      joinPostgres,
	trim:      trimPostgres,
}

var mysql = dialect{
	schema: mysqlSchema{sql.DefaultMySQLSchema{
		// One at a time: MySQL locks what would come after the last message that is there, so that who publishes waits until the
		// batch is acknowledged; for ever, if that is its own handler.
		SubscribeBatchSize: 1, GeneratePayloadType: func(string) string { return "LONGBLOB" },
	}},
	offsets:   mysqlOffsets{},
	isolation: stdsql.LevelSerializable, // see Watermill's schema
	join:      joinMySQL,
	trim:      trimMySQL,
}

type postgresSchema struct{ sql.DefaultPostgreSQLSchema }

// UnmarshalMessage implements sql.SchemaAdapter.
func (postgresSchema) UnmarshalMessage(params sql.UnmarshalMessageParams) (sql.Row, error) {
	r, id := sql.Row{}, sql.XID8(0)
	if err := params.Row.Scan(&r.Offset, &id, &r.UUID, &r.Payload, &r.Metadata); err != nil {
		return sql.Row{}, fmt.Errorf("scan a message: %w", err)
	}
	r.Msg, r.ExtraData = messageOf(r), map[string]any{"transaction_id": id}
	return r, nil
}

type mysqlSchema struct{ sql.DefaultMySQLSchema }

// UnmarshalMessage implements sql.SchemaAdapter.
func (mysqlSchema) UnmarshalMessage(params sql.UnmarshalMessageParams) (sql.Row, error) {
	r := sql.Row{}
	if err := params.Row.Scan(&r.Offset, &r.UUID, &r.Payload, &r.Metadata); err != nil {
		return sql.Row{}, fmt.Errorf("scan a message: %w", err)
	}
	r.Msg = messageOf(r)
	return r, nil
}

// MalformedKey is the metadata key of an entry whose own metadata cannot be read. It says why.
const MalformedKey = "_malformed"

// messageOf makes a message of any row. An error would stop the topic here for ever.
func messageOf(r sql.Row) *message.Message {
	msg := message.NewMessage(string(r.UUID), r.Payload)
	if len(r.Metadata) == 0 {
		return msg
	}
	meta := message.Metadata{}
	if err := json.Unmarshal(r.Metadata, &meta); err != nil {
		meta = message.Metadata{MalformedKey: err.Error()}
	}
	if meta != nil {
		msg.Metadata = meta
	}
	return msg
}

// Subscribers of one group would queue up for its row, each with a connection. They pass on instead, and look again later. On
// PostgreSQL an advisory lock is their turn: a lock of the row would give the transaction a number, and messages are not shown while
// a transaction with a lower number than theirs is under way.

type postgresOffsets struct {
	sql.DefaultPostgreSQLOffsetsAdapter
}

// NextOffsetQuery implements sql.OffsetsAdapter.
func (a postgresOffsets) NextOffsetQuery(params sql.NextOffsetQueryParams) (sql.Query, error) {
	return sql.Query{
		Query: `SELECT offset_acked, last_processed_transaction_id FROM ` + a.MessagesOffsetsTable(params.Topic) +
			` WHERE consumer_group = $1`,
		Args: []any{params.ConsumerGroup},
	}, nil
}

type mysqlOffsets struct {
	sql.DefaultMySQLOffsetsAdapter
}

// NextOffsetQuery implements sql.OffsetsAdapter. No row means that another one has it, and nothing is greater than NULL.
func (a mysqlOffsets) NextOffsetQuery(params sql.NextOffsetQueryParams) (sql.Query, error) {
	return sql.Query{
		Query: `SELECT offset_acked FROM ` + a.MessagesOffsetsTable(params.Topic) + ` WHERE consumer_group = ? FOR UPDATE SKIP LOCKED`,
		Args:  []any{params.ConsumerGroup},
	}, nil
}
