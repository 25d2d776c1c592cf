package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// perTransaction is the shape of a workflow engine that commits each step by itself, as DBOS does (docs.dbos.dev, "Architecture"):
// a row of the workflow, a row for the output of each step, and the workflow's end, six transactions for four steps. It is
// written by hand, without what such an engine does besides.
type perTransaction struct {
	pool  *pgxpool.Pool
	steps int
}

func newPerTransaction(ctx context.Context, pool *pgxpool.Pool, steps int) (*perTransaction, error) {
	_, err := pool.Exec(ctx, `
		CREATE TABLE workflow_status (
			id text PRIMARY KEY, status text NOT NULL, name text NOT NULL, input text NOT NULL, output text,
			created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
		);
		CREATE INDEX ON workflow_status (status);
		CREATE INDEX ON workflow_status (created_at);
		CREATE TABLE operation_outputs (
			workflow_id text NOT NULL REFERENCES workflow_status, step int NOT NULL, name text NOT NULL, output text NOT NULL,
			PRIMARY KEY (workflow_id, step)
		)`)
	return &perTransaction{pool, steps}, err
}

const someOutput = `{"customer":"ada-lovelace","items":["phone","case","charger"],"total":129900}`

func (p *perTransaction) one(ctx context.Context) error {
	id := fmt.Sprintf("workflow-%d", keys.Add(1))
	_, err := p.pool.Exec(ctx, `INSERT INTO workflow_status (id, status, name, input) VALUES ($1, 'PENDING', 'happy', $2)`, id, someOutput)
	for step := 0; err == nil && step < p.steps; step++ {
		_, err = p.pool.Exec(ctx, `INSERT INTO operation_outputs (workflow_id, step, name, output) VALUES ($1, $2, 'step', $3)`, id, step, someOutput)
	}
	if err == nil {
		_, err = p.pool.Exec(ctx, `UPDATE workflow_status SET status = 'SUCCESS', output = $2, updated_at = now() WHERE id = $1`, id, someOutput)
	}
	return err
}

// run measures a round.
func (p *perTransaction) run(ctx context.Context, o options) (f figures, err error) {
	alone, err := inTurns(ctx, o.alone, p.one)
	if err != nil {
		return f, err
	}
	f.Alone = alone[0]
	cpu, began := cpuTime(), time.Now()
	n := max(o.sagas/5, 100) // it takes long
	f.Saturated, err = together(ctx, n, 64, p.one)
	f.PerSecond, f.CPU = float64(n)/time.Since(began).Seconds(), (cpuTime()-cpu).Seconds()*1000/float64(n)
	return f, err
}
