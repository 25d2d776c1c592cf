package watermillsql

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
)

func turnOnPostgres(ctx context.Context, tx sql.Tx, topic, group string) (mine bool, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended('watermill ' || $1, 0))`, topic+" "+group)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return false, errors.New("no answer")
	}
	return mine, rows.Scan(&mine)
}

func joinPostgres(ctx context.Context, db sql.Beginner, topic, group string) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO "watermill_offsets_%s" (consumer_group, offset_acked, last_processed_transaction_id)
		VALUES ($1, 0, '0') ON CONFLICT DO NOTHING`, topic), group)
	return err
}

func trimPostgres(ctx context.Context, db sql.Beginner, topic string) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf(`DELETE FROM "watermill_%s" WHERE (transaction_id, "offset") <= (
		SELECT last_processed_transaction_id, offset_acked FROM "watermill_offsets_%s" ORDER BY 1, 2 LIMIT 1)`, topic, topic))
	return err
}

// What follows reads the table of offsets in statements of their own: as part of one that writes, MySQL would wait for
// the rows that subscribers have locked while they handle a message.

// trimMySQL deletes some at a time, so that it does not hold many locks.
func trimMySQL(ctx context.Context, db sql.Beginner, topic string) error {
	acked, err := number(ctx, db, fmt.Sprintf("SELECT COALESCE(MIN(offset_acked), 0) FROM `watermill_offsets_%s`", topic))
	for err == nil && acked > 0 {
		var result sql.Result
		if result, err = db.ExecContext(ctx, fmt.Sprintf("DELETE FROM `watermill_%s` WHERE `offset` <= ? ORDER BY `offset` LIMIT 1000", topic), acked); err == nil {
			if n, _ := result.RowsAffected(); n < 1000 {
				return nil
			}
		}
	}
	return err
}

func joinMySQL(ctx context.Context, db sql.Beginner, topic, group string) error {
	n, err := number(ctx, db, fmt.Sprintf("SELECT COUNT(*) FROM `watermill_offsets_%s` WHERE consumer_group = ?", topic), group)
	if err != nil || n > 0 {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT IGNORE INTO `watermill_offsets_%s` (consumer_group, offset_acked, offset_consumed) VALUES (?, 0, 0)", topic), group)
	return err
}

// settleMySQL waits for the transactions that have published, or are about to: see mysqlSchema. The caller has none open, for
// which they might wait.
func settleMySQL(ctx context.Context, db sql.Beginner, topic string) error {
	n, err := number(ctx, db, fmt.Sprintf("SELECT COUNT(*) FROM `watermill_offsets_%s` WHERE consumer_group = '' FOR UPDATE", topic))
	if err == nil && n != 1 {
		return errors.New(`the table of offsets has no row of the group ""`)
	}
	return err
}

// number reads the number that a query answers.
func number(ctx context.Context, db sql.Beginner, query string, args ...any) (n int64, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return 0, errors.New("no answer")
	}
	return n, rows.Scan(&n)
}
