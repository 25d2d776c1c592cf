package saga

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever stands in the column, it is read, or an error says that it cannot be; what was read is written as it was, and nothing
// that comes to such an instance makes decide panic.
func FuzzStoredState(f *testing.F) {
	trip := scripted["trip"]
	w := newWorld(trip)
	for k, in := range []input{
		{start: &startInput{data: []byte(`{"city":"Oslo"}`)}},
		{outcome: &outcome{Step: "book-hotel", Run: 1, Attempt: 1, Kind: outcomeSucceeded, Result: []byte(`{"ref":"H7"}`)}},
		{event: &waiting{Event: "cancel", Source: "s", ID: "1"}},
	} {
		_, err := w.decide(in)
		require.NoError(f, err)
		text, err := json.Marshal(w.inst.engine)
		require.NoError(f, err)
		f.Add(text, w.inst.state, uint8(k))
	}
	f.Add([]byte(`{"row":{"name":"gone","base":7},"ledger":[{"step":"x","run":-1,"status":"undoing"}],"timers":[{"kind":"state"}]}`), "nowhere", uint8(3))
	f.Add([]byte(`{"row":{"name":"running/begin","base":-5},"outbox":[{"id":"","step":"book-hotel"}]}`), "running", uint8(2))
	f.Add([]byte(`[`), "", uint8(0))
	f.Fuzz(func(t *testing.T, stored []byte, state string, next uint8) {
		r := Record{ID: "trip-1", Definition: "trip", Version: 1, Key: "1", Revision: 3, State: state, Engine: stored, Data: []byte(`{}`), UpdatedAt: worldBegan}
		inst, err := fromRecord(r)
		if err != nil {
			require.ErrorContains(t, err, "trip-1")
			return
		}
		written, err := inst.encode(&object{})
		require.NoError(t, err)
		r.Engine = written
		again, err := fromRecord(r)
		require.NoError(t, err)
		twice, err := again.encode(&object{})
		require.NoError(t, err)
		require.Equal(t, string(written), string(twice))
		require.NotPanics(t, func() { decide(trip.compiled(), inst, inputForTest(next), JSON{}, limits{waiting: 4, data: 400}) })
		_, err = viewOf(fromRecord(r))
		require.NoError(t, err)
		leftover(r)
	})
}

// inputForTest makes one of several inputs.
func inputForTest(kind uint8) input {
	switch kind % 6 {
	case 0:
		return input{outcome: &outcome{Step: "book-hotel", Run: 1, Attempt: 1, Kind: outcomeSucceeded}}
	case 1:
		return input{outcome: &outcome{Step: "charge-card", Run: 1, Attempt: 2, Kind: outcomeRejected, Undo: kind > 100}}
	case 2:
		return input{event: &waiting{Event: "cancel", Source: "s", ID: "2"}}
	case 3:
		return input{wake: &wake{now: worldBegan.Add(time.Hour), leaseOver: kind > 100, runningHere: func(string, int, bool) bool { return false }}}
	case 4:
		return input{operator: &operation{verb: SkipStep, who: "ann", why: "test", step: "book-hotel"}}
	}
	return input{published: []string{"x"}}
}

// Whatever a line of the history holds, it is read or refused.
func FuzzStoredHistory(f *testing.F) {
	f.Add([]byte(`{"kind":"event","event":"cancel","result":"applied","moves":[{"event":"cancel","from":"a","to":"b"}]}`))
	f.Add([]byte(`{"kind":7}`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		e, err := decodeEntry(HistoryRecord{Revision: 7, At: worldBegan, Entry: stored})
		if err != nil {
			return
		}
		require.Equal(t, uint64(7), e.Revision)
		require.Equal(t, worldBegan, e.At)
		written, err := json.Marshal(e)
		require.NoError(t, err)
		again, err := decodeEntry(HistoryRecord{Revision: 7, At: worldBegan, Entry: written})
		require.NoError(t, err)
		require.Equal(t, len(e.Moves), len(again.Moves))
		require.Equal(t, e.Kind, again.Kind)
	})
}
