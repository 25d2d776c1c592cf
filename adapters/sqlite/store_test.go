package sqlite_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// A database is made to refuse what it would only refuse at a gigabyte.
const (
	maxEngine = 2 << 20
	limits    = `
		CREATE TRIGGER refuse_update BEFORE UPDATE ON sagamill_instances WHEN length(NEW.engine) > 2097152
			BEGIN SELECT RAISE(ABORT, 'too large'); END;
		CREATE TRIGGER refuse_insert BEFORE INSERT ON sagamill_instances WHEN length(NEW.engine) > 2097152
			BEGIN SELECT RAISE(ABORT, 'too large'); END;
		CREATE TRIGGER refuse_history BEFORE INSERT ON sagamill_history WHEN length(NEW.entry) > 2097152
			BEGIN SELECT RAISE(ABORT, 'too large'); END;`
)

func tooLargeState(t *saga.Transition) { t.Engine = bytes.Repeat([]byte("x"), maxEngine+1) }

func tooLargeEntry(t *saga.Transition) {
	if len(t.History) == 0 {
		t.History = []saga.HistoryRecord{{Revision: t.Expect + 1}}
	}
	t.History[len(t.History)-1].Entry = bytes.Repeat([]byte("x"), maxEngine+1)
}

func openDB(tb testing.TB, path string) *sqlite.DB {
	tb.Helper()
	db, err := sqlite.Open(path)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) storetest.Harness { return harness(tb, tooLargeState) })
}

// A transition is also taken back when its instance has been written and its history is rejected.
func TestStoreRejectsHistory(t *testing.T) {
	t.Parallel()
	for _, rule := range storetest.Rules() {
		if strings.HasPrefix(rule.Name, "batch/") {
			t.Run(rule.Name, func(t *testing.T) {
				t.Parallel()
				rule.Check(t, harness(t, tooLargeEntry))
			})
		}
	}
}

func harness(tb testing.TB, reject func(*saga.Transition)) storetest.Harness {
	path, clock := filepath.Join(tb.TempDir(), "sagas.db"), storetest.NewClock()
	db := openDB(tb, path)
	_, err := db.ExecContext(tb.Context(), limits)
	require.NoError(tb, err)
	return storetest.Harness{
		Store:   sqlite.NewStore(db, sqlite.WithClock(clock.Now)),
		Advance: clock.Advance,
		Reject:  reject,
		Reopen: func() saga.Store {
			require.NoError(tb, db.Close())
			return sqlite.NewStore(openDB(tb, path), sqlite.WithClock(clock.Now))
		},
	}
}
