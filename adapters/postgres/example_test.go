package postgres_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/internal/services"
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
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	db, err := postgres.Open(ctx, pool, postgres.WithSchema("shop"))
	if err != nil {
		log.Fatal(err)
	}
	store := postgres.NewStore(db)
	orchestrator, err := saga.NewOrchestrator(store, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{placeOrder},
	}, watermill.NopLogger{})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = orchestrator.Run(ctx) }()
	defer func() { _ = orchestrator.Close() }()
	<-orchestrator.Running()

	var kick func()
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// your own statements
		_, kick, err = placeOrder.StartIn(ctx, orchestrator, store.In(tx), saga.StartParams[order]{Key: "o-1", Data: order{Item: "tea"}})
		return err
	})
	if err != nil {
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
	migrations, err := postgres.Migrations(postgres.WithSchema("shop"), postgres.WithPrefix("saga_"))
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
	name := services.Name()
	d.exec(`CREATE DATABASE ` + name)
	t.Cleanup(func() { d.exec(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	u.Path = "/" + name
	t.Setenv("DATABASE_URL", u.String())

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
