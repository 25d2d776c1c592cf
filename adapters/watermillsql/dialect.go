package watermillsql

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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
	// settle returns when no message can appear any more before one that is to be seen already. Nil: there never is such a one.
	settle func(ctx context.Context, db sql.Beginner, topic string) error
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
	settle:    settleMySQL,
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

// mysqlSchema sees to it that no message is passed over. A message that has its number (AUTO_INCREMENT) before another one may be there
// after it, whatever innodb_autoinc_lock_mode is. So who publishes shares a lock, from before the number is drawn to the end of
// the transaction; and a group that would pass over numbers waits, once, until all that share the lock then have ended (settleMySQL),
// and looks again. The lock is that of a row of the table of offsets: the one of the group "", which nobody is in.
type mysqlSchema struct{ sql.DefaultMySQLSchema }

// SchemaInitializingQueries implements sql.SchemaAdapter. Who publishes needs both tables.
func (s mysqlSchema) SchemaInitializingQueries(params sql.SchemaInitializingQueriesParams) ([]sql.Query, error) {
	messages, err := s.DefaultMySQLSchema.SchemaInitializingQueries(params)
	if err != nil {
		return nil, err
	}
	offsets, err := mysqlOffsets{}.SchemaInitializingQueries(sql.OffsetsSchemaInitializingQueriesParams(params))
	return append(messages, offsets...), err
}

// InsertQuery implements sql.SchemaAdapter. MySQL knows the values of a row before it numbers it. Without the row that is to be
// locked the UUID would be NULL, which the column does not take.
func (s mysqlSchema) InsertQuery(params sql.InsertQueryParams) (sql.Query, error) {
	q, err := s.DefaultMySQLSchema.InsertQuery(params)
	lock := fmt.Sprintf("SELECT '' FROM `watermill_offsets_%s` WHERE consumer_group = '' LOCK IN SHARE MODE", params.Topic)
	q.Query = strings.Replace(q.Query, "(?,?,?)", "(CONCAT(("+lock+"), ?),?,?)", 1)
	return q, err
}

// SelectQuery implements sql.SchemaAdapter. It asks for the number that the group is at, too.
func (s mysqlSchema) SelectQuery(params sql.SelectQueryParams) (sql.Query, error) {
	next, err := params.OffsetsAdapter.NextOffsetQuery(sql.NextOffsetQueryParams{Topic: params.Topic, ConsumerGroup: params.ConsumerGroup})
	return sql.Query{
		Query: fmt.Sprintf("SELECT `offset`, uuid, payload, metadata, (%s) FROM %s WHERE `offset` > (%s) ORDER BY `offset` LIMIT %d",
			next.Query, s.MessagesTable(params.Topic), next.Query, s.SubscribeBatchSize),
		Args: slices.Concat(next.Args, next.Args),
	}, err
}

// UnmarshalMessage implements sql.SchemaAdapter.
func (mysqlSchema) UnmarshalMessage(params sql.UnmarshalMessageParams) (sql.Row, error) {
	r, at := sql.Row{}, int64(0)
	if err := params.Row.Scan(&r.Offset, &r.UUID, &r.Payload, &r.Metadata, &at); err != nil {
		return sql.Row{}, fmt.Errorf("scan a message: %w", err)
	}
	r.Msg, r.ExtraData = messageOf(r), map[string]any{groupAt: at}
	return r, nil
}

// groupAt is the key of a row's extra data for the number that the group is at, where numbers that are missing are waited for.
const groupAt = "group at"

// skips tells whether numbers are missing between what the group is at and the last of the messages.
func skips(rows []sql.Row) bool {
	at, known := rows[0].ExtraData[groupAt].(int64)
	return known && rows[len(rows)-1].Offset-at > int64(len(rows))
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

// SchemaInitializingQueries implements sql.OffsetsAdapter. Groups are told apart by their bytes: a column of text takes "a", "A"
// and "a " for one.
func (a mysqlOffsets) SchemaInitializingQueries(params sql.OffsetsSchemaInitializingQueriesParams) ([]sql.Query, error) {
	table := a.MessagesOffsetsTable(params.Topic)
	return []sql.Query{
		{Query: `CREATE TABLE IF NOT EXISTS ` + table + ` (
			consumer_group VARBINARY(255) NOT NULL PRIMARY KEY,
			offset_acked BIGINT,
			offset_consumed BIGINT NOT NULL
		)`},
		{Query: `INSERT IGNORE INTO ` + table + ` (consumer_group, offset_consumed) VALUES ('', 0)`}, // see mysqlSchema
	}, nil
}

// NextOffsetQuery implements sql.OffsetsAdapter. No row means that another one has it, and nothing is greater than NULL.
func (a mysqlOffsets) NextOffsetQuery(params sql.NextOffsetQueryParams) (sql.Query, error) {
	return sql.Query{
		Query: `SELECT offset_acked FROM ` + a.MessagesOffsetsTable(params.Topic) + ` WHERE consumer_group = ? FOR UPDATE SKIP LOCKED`,
		Args:  []any{params.ConsumerGroup},
	}, nil
}
