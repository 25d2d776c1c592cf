package data

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/sagamill/sagamill/adapters/mysql"
)

// MySQLConfig says how the driver reaches the database of a service (or of the messages), by a URL mysql://USER:PASSWORD@HOST:PORT/SHOP:
// that is SHOP_service. It is created if it is not there.
func MySQLConfig(address, service string) (*mysqldriver.Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	shop := strings.Trim(u.Path, "/")
	if u.Host == "" || shop == "" || strings.ContainsAny(shop, "`/") {
		return nil, fmt.Errorf("%q is not mysql://USER:PASSWORD@HOST:PORT/SHOP", u.Redacted())
	}
	c := mysqldriver.NewConfig()
	c.Net, c.Addr, c.User, c.DBName = "tcp", u.Host, u.User.Username(), shop+"_"+service
	if u.Port() == "" {
		c.Addr += ":3306"
	}
	c.Passwd, _ = u.User.Password()
	c.InterpolateParams = true // half the round trips
	c.ClientFoundRows = true   // an UPDATE counts the rows that it finds, as the other databases do
	c.Params = map[string]string{"innodb_lock_wait_timeout": "5"}
	c.Logger = &mysqldriver.NopLogger{} // what breaks is told by errors
	return c, nil
}

// CreateMySQL creates the database that the connections are to use.
func CreateMySQL(ctx context.Context, c *mysqldriver.Config) error {
	c = c.Clone()
	name := c.DBName
	c.DBName = ""
	connector, err := mysqldriver.NewConnector(c)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	_, err = pool.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+name+"`")
	return errors.Join(err, pool.Close())
}

// openMySQL opens a service's database.
func openMySQL(ctx context.Context, address, service string) (*DB, error) {
	config, err := MySQLConfig(address, service)
	if err != nil {
		return nil, err
	}
	if err := CreateMySQL(ctx, config); err != nil {
		return nil, err
	}
	connector, err := mysqldriver.NewConnector(config)
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(translating{connector})
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	db, err := mysql.Open(ctx, pool)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return &DB{
		DB: pool, Inbox: mysql.NewInbox(db), Sagas: mysql.NewStore(db), Keys: mysql.NewIdempotencyStore(db),
		write: func(ctx context.Context, f func(*sql.Tx) error) error {
			return serializable(ctx, pool, func(err error) bool {
				switch n := mysqlNumber(err); n {
				case 1213, 1205, 1020: // deadlock, waited for too long, changed meanwhile
					return true
				}
				return false
			}, f)
		},
		words: strings.NewReplacer(
			"SERIAL", "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "NAME", "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
			"CREATE INDEX IF NOT EXISTS", "CREATE INDEX"),
		makeTables: func(ctx context.Context, ddl string) error {
			for statement := range strings.SplitSeq(ddl, ";\n") {
				_, err := pool.ExecContext(ctx, strings.TrimSuffix(strings.TrimSpace(statement), ";"))
				if err != nil && mysqlNumber(err) != 1061 { // the index is there
					return err
				}
			}
			return nil
		},
		close: pool.Close,
	}, nil
}

func mysqlNumber(err error) uint16 {
	var refused *mysqldriver.MySQLError
	if errors.As(err, &refused) {
		return refused.Number
	}
	return 0
}
