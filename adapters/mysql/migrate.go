package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migration is one numbered step from an empty schema to what this version of the package needs.
type Migration struct {
	Name string
	// SQL is a whole script for the client mysql (or mariadb). It ends with the record of the migration. MySQL commits each
	// statement that creates something for itself; the scripts may be run again when one broke off.
	SQL string

	statements []string
}

// Migrations returns all migrations in order, with the schema and the prefix filled in. A DBA who does not let applications
// create tables runs those that the table of migrations (sagamill_migrations) does not name yet:
//
//	for _, m := range migrations { fmt.Println(m.SQL) }
//
// Without [WithSchema] they are for the database that the client uses.
func Migrations(opts ...Option) ([]Migration, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	migrations, err := o.names.migrations()
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
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
		script := n.expand(string(text)) + "\n" + n.expand(fmt.Sprintf(recordMigration, m.Name)) + "\n"
		m.SQL = "-- " + m.Name + "\n" + strings.Join(n.prepare(), ";\n") + ";\n" + script
		m.statements = statements(script)
		all = append(all, m)
	}
	return all, nil
}

const recordMigration = `INSERT IGNORE INTO {{migrations}} (name) VALUES ('%s');`

// prepare makes what the migrations themselves need.
func (n names) prepare() (statements []string) {
	if n.named {
		statements = append(statements, `CREATE DATABASE IF NOT EXISTS `+quoted(n.schema))
	}
	return append(statements, n.expand(`CREATE TABLE IF NOT EXISTS {{migrations}} (
    name       VARCHAR(255) CHARACTER SET ascii NOT NULL PRIMARY KEY,
    applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB`))
}

// statements divides a script at the semicolons that end a line.
func statements(script string) (all []string) {
	for _, s := range strings.SplitAfter(script, ";\n") {
		if s = strings.TrimSuffix(strings.TrimSpace(s), ";"); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// migrate runs the migrations that the database has not seen. Any number of processes may do it at once: one works, the others
// wait for it. Where nothing is missing nothing is locked, and no right to create is needed.
func (db *DB) migrate(ctx context.Context) error {
	all, err := db.names.migrations()
	if err != nil {
		return err
	}
	var missing []Migration
	err = db.read(ctx, func(conn *sql.Conn) (err error) {
		missing, err = db.missing(ctx, conn, all)
		return err
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	if db.unmigrated {
		return fmt.Errorf("schema %q lacks migrations %s: run what Migrations returns", db.schema, strings.Join(namesOf(missing), ", "))
	}
	return db.opening(ctx, func(conn *sql.Conn) error {
		missing, err := db.missing(ctx, conn, all) // of what the others have left
		if err != nil {
			return err
		}
		for _, statement := range db.names.prepare() {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		for _, m := range missing {
			for _, statement := range m.statements {
				if _, err := conn.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("migration %s: %w", m.Name, err)
				}
			}
		}
		return nil
	})
}

// opening runs f on a connection: one process at a time, of those that open the same tables.
func (db *DB) opening(ctx context.Context, f func(*sql.Conn) error) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back
	name := fmt.Sprintf("sagamill opens %x", sha256.Sum256([]byte(db.table("migrations"))))[:64]
	var got sql.NullBool
	if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(?, ?)`, name, openWithin/time.Second).Scan(&got); err != nil {
		return err
	}
	if !got.Bool {
		return fmt.Errorf("other processes have been migrating for more than %s", openWithin)
	}
	err = f(conn)
	_, unlocked := conn.ExecContext(context.WithoutCancel(ctx), `DO RELEASE_LOCK(?)`, name)
	return errors.Join(err, unlocked)
}

// missing returns those migrations that the database has not seen. One that it has seen and we do not know is a later
// version's; those are made so that this one can go on meanwhile.
func (db *DB) missing(ctx context.Context, conn *sql.Conn, all []Migration) ([]Migration, error) {
	var exists bool
	const tables = `SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?)`
	if err := conn.QueryRowContext(ctx, tables, db.schema, db.prefix+"migrations").Scan(&exists); err != nil || !exists {
		return all, err
	}
	var done []string
	err := query(ctx, conn, db.expand(`SELECT name FROM {{migrations}}`), nil, func(row scanner) error {
		var name string
		err := row.Scan(&name)
		done = append(done, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(m Migration) bool { return slices.Contains(done, m.Name) }), nil
}

func namesOf(migrations []Migration) (list []string) {
	for _, m := range migrations {
		list = append(list, m.Name)
	}
	return list
}
