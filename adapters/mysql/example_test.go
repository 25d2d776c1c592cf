package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	_ "github.com/go-sql-driver/mysql" // the driver
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/saga"
)

type order struct {
	Item string `json:"item"`
}

var placeOrder = saga.Linear("place-order",
	saga.Do("reserve", func(_ context.Context, o order) error { fmt.Println("reserved:", o.Item); return nil }).
		Undo(func(context.Context, order) error { return nil }),
	saga.Do("charge", func(context.Context, order) error { fmt.Println("charged"); return nil }).Pivot(),
)

// An order and its saga are committed in one transaction: there is never the one without the other.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := sql.Open("mysql", os.Getenv("DATABASE_DSN")) // "user:password@tcp(host:3306)/shop?interpolateParams=true"
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	db, err := mysql.Open(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	store := mysql.NewStore(db)
	orchestrator, err := saga.NewOrchestrator(store, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{placeOrder},
	}, watermill.NopLogger{})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = orchestrator.Run(ctx) }()
	defer func() { _ = orchestrator.Close() }()
	<-orchestrator.Running()

	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	// your own statements
	_, kick, err := placeOrder.StartIn(ctx, orchestrator, store.In(tx), saga.StartParams[order]{Key: "o-1", Data: order{Item: "tea"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	kick()

	done, err := placeOrder.Wait(ctx, orchestrator, "o-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done.State)
}

// What a DBA is given.
func ExampleMigrations() {
	migrations, err := mysql.Migrations(mysql.WithSchema("shop"), mysql.WithPrefix("saga_"))
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range migrations {
		fmt.Println(m.Name) // m.SQL is the script
	}
	// Output:
	// 0001_sagas
	// 0002_idempotency
	// 0003_inbox
}

// The example needs a server, so it is run here.
func TestExample(t *testing.T) {
	d := newDatabase(t)
	d.exec(`CREATE DATABASE ` + d.schema)
	server := d.server.Clone()
	server.DBName = d.schema
	server.Params = map[string]string{}
	t.Setenv("DATABASE_DSN", server.FormatDSN())

	out, in, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = in
	defer func() { os.Stdout = stdout }()
	Example()
	require.NoError(t, in.Close())
	printed, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.Equal(t, "reserved: tea\ncharged\ncompleted\n", string(printed))
}
