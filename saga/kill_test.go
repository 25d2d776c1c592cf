package saga_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// A trip in a process of its own, on SQLite, is killed (SIGKILL) after each commit and before each publish in turn: of the
// orchestrator's transitions, the participant's barrier, commands, replies and events. A second process, started on the same
// files, must bring it to its end, and every effect must be there exactly once: in the participant's own tables, and in a
// ledger kept outside of both, where the systems that know nothing of sagas write what they were asked to do.

// killTrip is the data of the trip: hotel and flight are booked by a participant, the card is charged by a local step.
type killTrip struct {
	Card   string
	Hotel  int64
	Flight int64
}

type booking struct{ What string }

var (
	bookCmd   = saga.Command[booking, int64]{Name: "book", Topic: "travel.commands"}
	cancelCmd = saga.Command[booking, struct{}]{Name: "cancel", Topic: "travel.commands"}
)

func TestKilledAfterEachCommitAndBeforeEachPublish(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hundred processes")
	}
	for _, card := range []string{"good", "refused"} {
		t.Run(card, func(t *testing.T) {
			t.Parallel()
			points := killPoints(t, card)
			require.GreaterOrEqual(t, len(points), 13, "kill points: %v", points)
			for _, point := range points {
				t.Run(point, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					out, err := killChild(dir, card, point).CombinedOutput()
					var exit *exec.ExitError
					require.ErrorAs(t, err, &exit, "the process was to be killed at %s: %s", point, out)
					require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)
					out, err = killChild(dir, card, "").CombinedOutput()
					require.NoError(t, err, "recovery after %s: %s", point, out)
					requireOnce(t, dir, card)
				})
			}
		})
	}
}

// killPoints runs a trip undisturbed, and lists where it could have been killed.
func killPoints(t *testing.T, card string) []string {
	dir := t.TempDir()
	out, err := killChild(dir, card, "").CombinedOutput()
	require.NoError(t, err, "%s", out)
	requireOnce(t, dir, card)
	var points []string
	for line := range strings.Lines(string(out)) {
		if point, ok := strings.CutPrefix(strings.TrimSpace(line), "point "); ok {
			points = append(points, point)
		}
	}
	return points
}

func killChild(dir, card, point string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "SAGAMILL_KILL_DIR="+dir, "SAGAMILL_KILL_CARD="+card, "SAGAMILL_KILL_AT="+point)
	return cmd
}

// requireOnce looks at what really happened.
func requireOnce(t *testing.T, dir, card string) {
	t.Helper()
	travel, err := sqlite.Open(filepath.Join(dir, "travel.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, travel.Close()) }()
	require.Equal(t, []string{"flight booked 1", "hotel booked 1"}, query(t, travel.DB,
		`SELECT what || ' booked ' || count(*) FROM bookings GROUP BY what ORDER BY what`))
	outside := openOutside(t, dir)
	defer func() { require.NoError(t, outside.Close()) }()
	calls := query(t, outside, `SELECT what || ' ' || count(DISTINCT key) FROM calls GROUP BY what ORDER BY what`)
	cancelled := query(t, travel.DB, `SELECT what || ' ' || sum(cancelled) FROM bookings GROUP BY what ORDER BY what`)
	order := query(t, travel.DB, `SELECT what FROM cancellations ORDER BY rowid`)
	if card == "good" {
		require.Equal(t, []string{"charge 1", "mail 1"}, calls)
		require.Equal(t, []string{"flight 0", "hotel 0"}, cancelled)
		require.Empty(t, order)
		return
	}
	require.Empty(t, calls)
	require.Equal(t, []string{"flight 1", "hotel 1"}, cancelled)
	require.Equal(t, []string{"flight", "hotel"}, order, "undone in reverse order of start")
}

func query(t *testing.T, db *sql.DB, q string) []string {
	t.Helper()
	rows, err := db.Query(q)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		all = append(all, s)
	}
	require.NoError(t, rows.Err())
	return all
}

func openOutside(t *testing.T, dir string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "outside.db")+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS calls (what TEXT, key TEXT)`)
	require.NoError(t, err)
	return db
}

// TestKillChild is the process that is killed.
func TestKillChild(t *testing.T) {
	dir, card := os.Getenv("SAGAMILL_KILL_DIR"), os.Getenv("SAGAMILL_KILL_CARD")
	if dir == "" {
		t.Skip("runs as a child of TestKilledAfterEachCommitAndBeforeEachPublish")
	}
	k := &killer{at: os.Getenv("SAGAMILL_KILL_AT")}
	outside := openOutside(t, dir)
	defer func() { require.NoError(t, outside.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()

	broker := gochannel.New(gochannel.Config{}, nil)
	defer func() { require.NoError(t, broker.Close()) }()
	transport := broker.Transport()
	transport.Publisher = killPublisher{transport.Publisher, k}
	stopTravel := startTravel(t, ctx, dir, transport, k)
	defer stopTravel()

	def := killDefinition(outside)
	db, err := sqlite.Open(filepath.Join(dir, "saga.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	o, err := saga.NewOrchestrator(killStore{sqlite.NewStore(db), k}, saga.OrchestratorConfig{
		Name: "travel-agency", Definitions: []saga.AnyDefinition{def}, Transport: transport, Lease: 300 * time.Millisecond, PollInterval: 100 * time.Millisecond,
	}, nil)
	require.NoError(t, err)
	go func() { _ = o.Run(ctx) }()
	defer func() { require.NoError(t, o.Close()) }()
	_, err = def.Start(ctx, o, saga.StartParams[killTrip]{Key: "trip", Data: killTrip{Card: card}})
	require.NoError(t, err)
	done, err := def.Wait(ctx, o, "trip")
	require.NoError(t, err)
	require.True(t, done.Settled)
	want := map[string]saga.LinearState{"good": saga.Completed, "refused": saga.Failed}
	require.Equal(t, want[card], done.State)
}

func killDefinition(outside *sql.DB) *saga.LinearDefinition[killTrip] {
	call := func(ctx context.Context, what string) error {
		_, err := outside.ExecContext(ctx, `INSERT INTO calls (what, key) VALUES (?, ?)`, what, saga.Info(ctx).EffectKey)
		return err
	}
	book := func(what string) func(killTrip) booking { return func(killTrip) booking { return booking{what} } }
	return saga.Linear("kill-trip",
		saga.Ask("book-hotel", bookCmd, book("hotel"), func(t killTrip, n int64) killTrip { t.Hotel = n; return t }).
			UndoBy(saga.RequestOf(cancelCmd, book("hotel"))),
		saga.Ask("book-flight", bookCmd, book("flight"), func(t killTrip, n int64) killTrip { t.Flight = n; return t }).
			UndoBy(saga.RequestOf(cancelCmd, book("flight"))),
		saga.Do("charge-card", func(ctx context.Context, t killTrip) error {
			if t.Card == "refused" {
				return saga.Reject("refused")
			}
			if t.Hotel == 0 || t.Flight == 0 {
				return fmt.Errorf("results are lost: %+v", t)
			}
			return call(ctx, "charge")
		}).Pivot(),
		saga.Emit("announce", "trips", "TripBooked", func(t killTrip) killTrip { return t }),
		saga.Do("mail", func(ctx context.Context, _ killTrip) error { return call(ctx, "mail") }).Retriable(),
	)
}

// startTravel runs the participant: plain inserts and updates, with nothing that would hide a second execution.
func startTravel(t *testing.T, ctx context.Context, dir string, transport saga.Transport, k *killer) (stop func()) {
	db, err := sqlite.Open(filepath.Join(dir, "travel.db"))
	require.NoError(t, err)
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS bookings (what TEXT, cancelled INTEGER);
		CREATE TABLE IF NOT EXISTS cancellations (what TEXT)`)
	require.NoError(t, err)
	p, err := saga.NewParticipant[*sql.Tx](killInbox{sqlite.NewInbox(db), k}, saga.ParticipantConfig{Name: "travel", Transport: transport}, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(p, bookCmd, func(ctx context.Context, tx *sql.Tx, b booking) (int64, error) {
		r, err := tx.ExecContext(ctx, `INSERT INTO bookings VALUES (?, 0)`, b.What)
		if err != nil {
			return 0, err
		}
		return r.LastInsertId()
	}))
	require.NoError(t, saga.Handle(p, cancelCmd, func(ctx context.Context, tx *sql.Tx, b booking) (struct{}, error) {
		_, err := tx.ExecContext(ctx, `UPDATE bookings SET cancelled = cancelled + 1 WHERE what = ?`, b.What)
		_, err2 := tx.ExecContext(ctx, `INSERT INTO cancellations VALUES (?)`, b.What)
		return struct{}{}, errors.Join(err, err2)
	}))
	go func() { _ = p.Run(ctx) }()
	<-p.Running()
	return func() { require.NoError(t, errors.Join(p.Close(), db.Close())) }
}

// killer kills the process at one of its points, which are numbered by kind as they are passed.
type killer struct {
	at     string // "commit 3", "publish 1", "barrier 2"; empty: never
	counts [3]atomic.Int32
}

func (k *killer) pass(kind int, name string) {
	point := name + " " + strconv.Itoa(int(k.counts[kind].Add(1)))
	fmt.Println("point " + point)
	if point == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

type killStore struct {
	saga.Store
	k *killer
}

func (s killStore) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	s.k.pass(0, "commit")
	return verdicts, err
}

type killPublisher struct {
	message.Publisher
	k *killer
}

func (p killPublisher) Publish(topic string, msgs ...*message.Message) error {
	p.k.pass(1, "publish")
	return p.Publisher.Publish(topic, msgs...)
}

type killInbox struct {
	saga.Inbox[*sql.Tx]
	k *killer
}

func (i killInbox) Handle(ctx context.Context, e saga.Effect, f func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	reply, err := i.Inbox.Handle(ctx, e, f)
	i.k.pass(2, "barrier")
	return reply, err
}
