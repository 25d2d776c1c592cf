package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migration is one numbered step from an empty schema to what this version of the package needs.
type Migration struct {
	Name string
	// SQL is a whole script for psql: one transaction that ends with the record of the migration, so that running it twice
	// fails and changes nothing.
	SQL string

	statements string
}

// Migrations returns all migrations in order, with the schema and the prefix filled in. A DBA who does not let applications
// create tables runs those that the table of migrations (sagamill_migrations) does not name yet:
//
//	for _, m := range migrations { fmt.Println(m.SQL) }
func Migrations(opts ...Option) ([]Migration, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	migrations, err := o.names.migrations()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return migrations, nil
}

func (n names) migrations() ([]Migration, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql") // in lexical, that is in numerical order
	if err != nil {
		return nil, err
	}
	var all []Migration
	for _, file := range files {
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m := Migration{Name: strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql")}
		m.statements = n.expand(string(text)) + fmt.Sprintf("\n"+n.expand(recordMigration)+"\n", m.Name)
		m.SQL = "-- " + m.Name + "\nBEGIN;\n" + n.prepare() + "\n" + m.statements + "COMMIT;\n"
		all = append(all, m)
	}
	return all, nil
}

const recordMigration = `INSERT INTO {{migrations}} (name) VALUES ('%s');`

// prepare makes what the migrations themselves need.
func (n names) prepare() string {
	return `CREATE SCHEMA IF NOT EXISTS ` + pgx.Identifier{n.schema}.Sanitize() + ";\n" + n.expand(
		`CREATE TABLE IF NOT EXISTS {{migrations}} (name text COLLATE "C" PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());`)
}

// migrate runs the migrations that the database has not seen, in one transaction. Any number of processes may do it at once:
// one works, the others wait for it. Where nothing is missing nothing is locked, and no right to create is needed.
func (db *DB) migrate(ctx context.Context) error {
	all, err := db.names.migrations()
	if err != nil {
		return err
	}
	missing, err := db.missing(ctx, db.pool, all)
	if err != nil || len(missing) == 0 {
		return err
	}
	if db.unmigrated {
		return fmt.Errorf("schema %q lacks migrations %s: run what Migrations returns", db.schema, strings.Join(namesOf(missing), ", "))
	}
	return db.opening(ctx, func(tx pgx.Tx) error {
		missing, err := db.missing(ctx, tx, all) // of what the others have left
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, db.names.prepare()); err != nil {
			return err
		}
		for _, m := range missing {
			if _, err := tx.Exec(ctx, m.statements); err != nil {
				return fmt.Errorf("migration %s: %w", m.Name, err)
			}
		}
		return nil
	})
}

// missing returns those migrations that the database has not seen. One that it has seen and we do not know is a later
// version's; those are made so that this one can go on meanwhile.
func (db *DB) missing(ctx context.Context, q querier, all []Migration) ([]Migration, error) {
	var exists bool
	const tables = `SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = $2)`
	if err := q.QueryRow(ctx, tables, db.schema, db.prefix+"migrations").Scan(&exists); err != nil || !exists {
		return all, err
	}
	rows, err := q.Query(ctx, db.expand(`SELECT name FROM {{migrations}}`))
	if err != nil {
		return nil, err
	}
	done, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(m Migration) bool { return slices.Contains(done, m.Name) }), nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func namesOf(migrations []Migration) (list []string) {
	for _, m := range migrations {
		list = append(list, m.Name)
	}
	return list
}
