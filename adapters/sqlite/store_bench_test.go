package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

const benchInstances = 2000

func benchID(i int) string {
	return fmt.Sprintf("01910f5e-%04d-7000-8000-4d3c2b1a0000", i%benchInstances)
}

func benchDB(b *testing.B, data int) (*sqlite.DB, *sqlite.Store) {
	b.Helper()
	db := openDB(b, filepath.Join(b.TempDir(), "bench.db"))
	store := sqlite.NewStore(db)
	var batch []saga.Transition
	for i := range benchInstances {
		batch = append(batch, saga.Transition{
			ID: benchID(i), Wake: 0, State: "new", Data: make([]byte, data), Start: &saga.Start{Definition: "order", Version: 1, Key: benchID(i)},
			History: []saga.HistoryRecord{{Revision: 1}},
		})
	}
	_, err := store.Commit(b.Context(), batch)
	require.NoError(b, err)
	return db, store
}

// BenchmarkCommit commits transitions of four records each, which bring 200 bytes of data or leave those that are stored;
// BenchmarkFloor writes the rows of the former by hand, with nothing but the compare-and-set. ns/op is for one batch.
func BenchmarkCommit(b *testing.B) {
	for _, kept := range []int{0, 200, 8192} {
		for _, size := range []int{1, 10, 100, 500} {
			name := fmt.Sprintf("data=200/batch=%d", size)
			if kept > 0 {
				name = fmt.Sprintf("kept=%d/batch=%d", kept, size)
			}
			b.Run(name, func(b *testing.B) {
				_, store := benchDB(b, kept)
				entry, engine, data := bytes.Repeat([]byte("h"), 200), bytes.Repeat([]byte("e"), 650), bytes.Repeat([]byte("d"), 200)
				if kept > 0 {
					data = nil
				}
				revisions := make([]uint64, benchInstances)
				for i := range revisions {
					revisions[i] = 1
				}
				next, batch := 0, make([]saga.Transition, size)
				for b.Loop() {
					if next+size > benchInstances {
						next = 0
					}
					for i := range batch {
						n := next + i
						batch[i] = saga.Transition{ID: benchID(n), Expect: revisions[n], State: "paying", Engine: engine[:600+revisions[n]%50], Data: data, Wake: 5e9}
						for h := range uint64(4) {
							batch[i].History = append(batch[i].History, saga.HistoryRecord{Revision: revisions[n] + h + 1, Entry: entry})
						}
						revisions[n] += 4
					}
					next += size
					verdicts, err := store.Commit(b.Context(), batch)
					if err != nil || verdicts[size-1].Outcome != saga.Committed {
						b.Fatal(verdicts, err)
					}
				}
				b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "transitions/s")
			})
		}
	}
}

func BenchmarkFloor(b *testing.B) {
	for _, size := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("data=200/batch=%d", size), func(b *testing.B) {
			db, _ := benchDB(b, 0)
			ctx := context.Background()
			update, err := db.PrepareContext(ctx, `UPDATE sagamill_instances
				SET revision = revision + 4, state = ?, engine = ?, data = ?, updated_at = ? WHERE id = ? AND revision = ?`)
			require.NoError(b, err)
			insert, err := db.PrepareContext(ctx, `INSERT INTO sagamill_history (instance_id, revision, entry, at) VALUES (?, ?, ?, ?)`)
			require.NoError(b, err)
			entry, engine, data := bytes.Repeat([]byte("h"), 200), bytes.Repeat([]byte("e"), 600), bytes.Repeat([]byte("d"), 200)
			revisions := make([]int, benchInstances)
			for i := range revisions {
				revisions[i] = 1
			}
			next := 0
			for b.Loop() {
				if next+size > benchInstances {
					next = 0
				}
				err := db.Write(ctx, func(tx *sql.Tx) error {
					update, insert := tx.StmtContext(ctx, update), tx.StmtContext(ctx, insert)
					for n := next; n < next+size; n++ {
						if _, err := update.ExecContext(ctx, "paying", engine, data, 1, benchID(n), revisions[n]); err != nil {
							return err
						}
						for h := range 4 {
							if _, err := insert.ExecContext(ctx, benchID(n), revisions[n]+h+1, entry, 1); err != nil {
								return err
							}
						}
						revisions[n] += 4
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				next += size
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "transitions/s")
		})
	}
}
