package data

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"

	"github.com/sagamill/sagamill/adapters/sqlite"
)

// openSQLite opens a service's file: that of order is the one that path names, the others lie beside it.
func openSQLite(path, service string) (*DB, error) {
	if service != Main {
		ext := filepath.Ext(path)
		path = strings.TrimSuffix(path, ext) + "-" + service + ext
	}
	db, err := sqlite.Open(path)
	if err != nil {
		return nil, err
	}
	return &DB{
		DB: db.DB, Inbox: sqlite.NewInbox(db), Sagas: sqlite.NewStore(db), Keys: sqlite.NewIdempotencyStore(db),
		close: db.Close, write: db.Write,
		makeTables: func(ctx context.Context, ddl string) error {
			return db.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, ddl)
				return err
			})
		},
		words: strings.NewReplacer("SERIAL", "INTEGER PRIMARY KEY AUTOINCREMENT", "NAME", "TEXT"),
	}, nil
}
