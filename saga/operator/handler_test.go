package operator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/operator"
)

// parcel is sent by a printer that is out of paper.
type parcel struct {
	To    string `json:"to"`
	Label string `json:"label,omitempty"`
}

type printer struct{ paper atomic.Bool }

func (p *printer) print(context.Context, parcel) (string, error) {
	if !p.paper.Load() {
		return "", errors.New("no paper,\x1b[2J\n\u202eask Ann")
	}
	return "L1", nil
}

func nothing(context.Context, parcel) error { return nil }

// desk is a handler, and the saga that it is about.
type desk struct {
	http.Handler
	o       *saga.Orchestrator
	def     *saga.Definition[saga.LinearState, saga.LinearEvent, parcel]
	printer *printer
	store   *rig
	log     bytes.Buffer
}

// rig is a store that may be away.
type rig struct {
	saga.Store
	away bool
}

func (r *rig) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if r.away {
		return nil, errors.New("the database is away")
	}
	return r.Store.Load(ctx, ids...)
}

func newDesk(t *testing.T) *desk {
	d := &desk{printer: &printer{}, store: &rig{Store: memory.NewStore()}}
	d.def = saga.Linear("send-parcel",
		saga.Do("pack", nothing).Undo(nothing),
		saga.Do("pay", nothing).Pivot(),
		saga.Call("label", d.printer.print, func(p parcel, label string) parcel { p.Label = label; return p }).Retriable().
			Retry(compensation.Retry{First: time.Minute, Max: time.Minute, Alert: 2}),
	)
	var err error
	d.o, err = saga.NewOrchestrator(d.store, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{d.def}, Random: func() float64 { return 0.5 },
	}, nil)
	require.NoError(t, err)
	go func() { _ = d.o.Run(context.WithoutCancel(t.Context())) }()
	<-d.o.Running()
	t.Cleanup(func() { require.NoError(t, d.o.Close()) })
	who := func(r *http.Request) (string, error) {
		if name := r.Header.Get("Who"); name != "mallory" {
			return name, nil
		}
		return "", errors.New("mallory may not")
	}
	d.Handler, err = operator.Handler(d.o, operator.Config{Who: who, Logger: slog.New(slog.NewTextHandler(&d.log, nil))})
	require.NoError(t, err)
	return d
}

// start starts a parcel, and waits until it is stuck.
func (d *desk) start(t *testing.T, id string) {
	t.Helper()
	_, err := d.def.Start(t.Context(), d.o, saga.StartParams[parcel]{ID: id, Key: "key-" + id, Data: parcel{To: "Oslo"}})
	require.NoError(t, err)
	time.Sleep(90 * time.Second)
	synctest.Wait()
}

func (d *desk) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Who", "ann")
	for k := 0; k < len(headers); k += 2 {
		r.Header.Set(headers[k], headers[k+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// read asks for something, and reads the answer into a value of type V.
func read[V any](t *testing.T, d *desk, method, path, body string) (v V) {
	t.Helper()
	w := d.ask(method, path, body)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

func (d *desk) text(t *testing.T, path string) string {
	t.Helper()
	w := d.ask(http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	return "\n" + w.Body.String()
}

type object = map[string]any

// A night at the desk: what is stuck, why, what happened, and the printer has paper again.
func TestOperatorFindsAndMendsWhatIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		found := read[object](t, d, "GET", "/sagas?attention=true", "")
		require.Equal(t, object{"sagas": []any{object{
			"id": "p1", "definition": "send-parcel", "version": 1.0, "key": "key-p1", "state": "running", "settled": false,
			"attention":  "step label is stuck after 2 attempts: no paper,\x1b[2J\n\u202eask Ann",
			"created_at": "2000-01-01T00:00:00Z", "updated_at": "2000-01-01T00:00:54Z",
		}}}, found)
		require.Equal(t, `
ID  DEFINITION      KEY     STATE    IDLE SINCE            ATTENTION
p1  send-parcel v1  key-p1  running  2000-01-01T00:00:54Z  step label is stuck after 2 attempts: no paper, [2J  ask Ann
`, d.text(t, "/sagas?attention=true&format=text"))
		require.Equal(t, `
saga        send-parcel version 1, key-p1
id          p1
state       running, at revision 6
since       2000-01-01T00:00:54Z, started 2000-01-01T00:00:00Z
attention   step label is stuck after 2 attempts: no paper, [2J  ask Ann
cause       none
data        {"to":"Oslo"}
would undo  none

STEP   RUN  CLASS          STATUS       ATTEMPTS  UNDOS  REASON
pack   1    compensatable  succeeded    1         0
pay    1    pivot          succeeded    1         0
label  1    retriable      sent, stuck  2         0      no paper, [2J  ask Ann

TIMER        DUE
retry:label  2000-01-01T00:01:48Z
`, d.text(t, "/sagas/p1?format=text"))

		d.printer.paper.Store(true)
		after := read[object](t, d, "POST", "/sagas/p1/operations", `{"verb": "retry-now", "step": "label", "why": "paper is in"}`)
		require.Equal(t, "p1", after["id"])
		_, err := d.def.Wait(t.Context(), d.o, "key-p1")
		require.NoError(t, err)
		require.Equal(t, `
1  2000-01-01 00:00:00.000  started; began pack
2  2000-01-01 00:00:00.000  pack succeeded; began pay
3  2000-01-01 00:00:00.000  pay succeeded; began label
4  2000-01-01 00:00:00.000  label failed: no paper, [2J  ask Ann
5  2000-01-01 00:00:54.000  timer label; began label (attempt 2)
6  2000-01-01 00:00:54.000  label failed: no paper, [2J  ask Ann
7  2000-01-01 00:01:30.000  retry-now label by ann: paper is in; began label (attempt 3)
8  2000-01-01 00:01:30.000  label succeeded; running -> completed on begin
`, d.text(t, "/sagas/p1/history?format=text"))
		one := read[object](t, d, "GET", "/sagas/p1", "")
		require.Equal(t, object{"to": "Oslo", "label": "L1"}, one["data"], "as JSON, not as bytes")
		require.Equal(t, true, one["settled"])
		require.Empty(t, read[object](t, d, "GET", "/sagas?attention=true", "")["sagas"])
	})
}

func TestOperatorFinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		d.printer.paper.Store(true)
		time.Sleep(time.Hour)
		d.start(t, "p2")
		d.printer.paper.Store(false)
		d.start(t, "p3")
		for query, want := range map[string]string{
			"":                                   "p1 p2 p3",
			"settled=true":                       "p1 p2",
			"settled=false":                      "p3",
			"attention=true":                     "p3",
			"state=completed":                    "p1 p2",
			"state=nowhere":                      "",
			"definition=send-parcel":             "p1 p2 p3",
			"definition=other":                   "",
			"definition=send-parcel&key=key-p2":  "p2",
			"definition=send-parcel&key=key-p22": "",
			"key-prefix=key-p2":                  "p2",
			"older-than=1h":                      "p1",
			"idle-for=1m":                        "p1 p2",
			"limit=2":                            "p1 p2 next:p2",
			"limit=2&after=p2":                   "p3",
			"format=json":                        "p1 p2 p3",
		} {
			var ids []string
			answer := read[struct {
				Sagas []struct{ ID string }
				Next  string
			}](t, d, "GET", "/sagas?"+query, "")
			for _, s := range answer.Sagas {
				ids = append(ids, s.ID)
			}
			if answer.Next != "" {
				ids = append(ids, "next:"+answer.Next)
			}
			require.Equal(t, want, strings.Join(ids, " "), query)
		}
		require.Contains(t, d.text(t, "/sagas?limit=1&format=text"), "\nmore: after=p1\n")
	})
}

// A step of a history comes with what was given and replaced, as people read it.
func TestOperatorReadsHistoryInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		read[object](t, d, "POST", "/sagas/p1/operations", `{"verb": "move-timer", "timer": "retry:label", "in": "1h30m", "why": "lunch"}`)
		read[object](t, d, "POST", "/sagas/p1/operations", `{"verb": "edit-data", "data": {"to": "Bergen"}, "why": "moved"}`)
		done := read[object](t, d, "POST", "/sagas/p1/operations", `{"verb": "mark-done", "step": "label", "data": "L9", "why": "by hand"}`)
		require.Equal(t, object{"to": "Bergen", "label": "L9"}, done["data"])
		type part struct {
			Entries []struct {
				Revision      int
				Verb, Who, In string
				Reason        string
				Before, Given any
			}
			Next int
		}
		first := read[part](t, d, "GET", "/sagas/p1/history?after=6&limit=2", "")
		require.Equal(t, 8, first.Next)
		require.Equal(t, "1h30m0s", first.Entries[0].In)
		require.Equal(t, object{"to": "Oslo"}, first.Entries[1].Before)
		second := read[part](t, d, "GET", "/sagas/p1/history?after=8", "")
		require.Zero(t, second.Next)
		require.Len(t, second.Entries, 1)
		require.Equal(t, "L9", second.Entries[0].Given)
		require.Equal(t, "ann", second.Entries[0].Who)
		require.Contains(t, d.text(t, "/sagas/p1/history?limit=3&format=text"), "\nmore: after=3\n")
		require.Equal(t, 8, read[part](t, d, "GET", "/sagas/p1/history?last=2", "").Entries[0].Revision)
		require.Len(t, read[part](t, d, "GET", "/sagas/p1/history?last=100", "").Entries, 9)
		require.Equal(t, `
9  2000-01-01 00:01:30.000  mark-done label given "L9" by ann: by hand; running -> completed on begin
`, d.text(t, "/sagas/p1/history?after=8&format=text"))
	})
}

// What waits, and what would be undone, is shown.
func TestOperatorSeesEventsThatWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type state string
		type event string
		note := saga.Event[event, parcel]{Name: "note"}
		def := saga.Define(saga.Spec[state, event, parcel]{
			Name: "kept", Initial: "packing", Start: "begin", Succeeded: []state{"sent"}, Failed: []state{"dropped"},
			Events: []saga.Event[event, parcel]{note, {Name: "send"}, {Name: "drop"}},
			Table: saga.Table[state, event, parcel]{
				{From: "packing", On: "begin", To: "packed", Run: saga.Run(saga.Do("pack", nothing).Undo(nothing))},
				{From: "packing", On: "pack.rejected", To: "dropped", Compensate: true},
				{From: "packed", On: "send", To: "sending"},
				{From: "packed", On: "drop", To: "dropped", Compensate: true},
				{From: "sending", On: "note", To: "sent"},
				{From: "packed", On: "note", Policy: saga.Buffer},
			},
			Otherwise: saga.Refuse,
		})
		o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{def}}, nil)
		require.NoError(t, err)
		go func() { _ = o.Run(context.WithoutCancel(t.Context())) }()
		defer func() { require.NoError(t, o.Close()) }()
		_, err = def.Start(t.Context(), o, saga.StartParams[parcel]{ID: "k/1", Key: "k", Data: parcel{}})
		require.NoError(t, err)
		_, err = def.Wait(t.Context(), o, "k", "packed")
		require.NoError(t, err)
		_, err = def.Send(t.Context(), o, "k", "note", saga.Input{Source: "shop", ID: "n1"})
		require.NoError(t, err)
		d := &desk{o: o}
		d.Handler, err = operator.Handler(o, operator.Config{Who: func(*http.Request) (string, error) { return "ann", nil }, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		one := read[object](t, d, "GET", "/sagas/k%2F1", "")
		require.Equal(t, []any{[]any{"pack"}}, one["would_undo"])
		require.Equal(t, []any{object{"event": "note", "source": "shop", "id": "n1", "buffered": true, "payload": nil}}, one["waiting"])
		shown := d.text(t, "/sagas/k%2F1?format=text")
		require.Contains(t, shown, "would undo  pack\n")
		require.Contains(t, shown, "note              shop    n1  it fits no state so far  -\n")
		read[object](t, d, "POST", "/sagas/k%2F1/operations", `{"verb": "drop-event", "source": "shop", "id": "n1", "why": "a mistake"}`)
		require.Empty(t, read[object](t, d, "GET", "/sagas/k%2F1", "")["waiting"])
		read[object](t, d, "POST", "/sagas/k%2F1/operations", `{"verb": "force-compensate", "to": "dropped", "why": "recalled"}`)
		s, err := def.Wait(t.Context(), o, "k")
		require.NoError(t, err)
		require.Equal(t, state("dropped"), s.State)
	})
}

func TestOperatorSeesToDeadLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		for k, payload := range []string{"\xff", "not JSON", `{"n": 1}`, "\"\xff\"", strings.Repeat("[", 9000) + strings.Repeat("]", 9000)} {
			id := "topic/" + string(rune('a'+k))
			require.NoError(t, d.store.Bury(t.Context(), saga.DeadLetter{ID: id, Topic: "topic", Reason: "who is it?", Payload: []byte(payload), Metadata: map[string]string{"k": "v"}}))
		}
		type shown struct {
			DeadLetters []struct {
				ID, Reason string
				Metadata   map[string]string
				Payload    any
			} `json:"dead_letters"`
			Next string
		}
		first := read[shown](t, d, "GET", "/dead-letters?limit=2", "")
		require.Equal(t, "topic/b", first.Next)
		require.Equal(t, "/w==", first.DeadLetters[0].Payload)
		require.Equal(t, "not JSON", first.DeadLetters[1].Payload)
		require.Equal(t, map[string]string{"k": "v"}, first.DeadLetters[1].Metadata)
		rest := read[shown](t, d, "GET", "/dead-letters?after=topic%2Fb", "")
		require.Empty(t, rest.Next)
		require.Equal(t, object{"n": 1.0}, rest.DeadLetters[0].Payload)
		require.Equal(t, "Iv8i", rest.DeadLetters[1].Payload, "no JSON: a reader would refuse it")
		require.Less(t, d.ask("GET", "/dead-letters", "").Body.Len(), 20000, "what is nested deep is not indented")
		require.Equal(t, `
ID       TOPIC  AT                    REASON      PAYLOAD
topic/a  topic  2000-01-01T00:00:00Z  who is it?  "/w=="
more: after=topic%2Fa
`, d.text(t, "/dead-letters?limit=1&format=text"))
		read[object](t, d, "DELETE", "/dead-letters?id=topic%2Fb", "")
		require.Equal(t, http.StatusNotFound, d.ask("DELETE", "/dead-letters?id=topic%2Fb", "").Code)
		require.Len(t, read[shown](t, d, "GET", "/dead-letters", "").DeadLetters, 4)
	})
}

func TestOperatorIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		before, err := d.o.Get(t.Context(), "p1")
		require.NoError(t, err)
		type told struct {
			method, path, body string
			status             int
			detail             string
		}
		operation := func(body string, status int, detail string) told {
			return told{"POST", "/sagas/p1/operations", body, status, detail}
		}
		for name, c := range map[string]told{
			"misspelt query":      {"GET", "/sagas?atention=true", "", 400, `it has "atention"; it takes definition`},
			"empty value":         {"GET", "/sagas?definition=d&state=", "", 400, "state is empty"},
			"twice":               {"GET", "/sagas?state=a&state=b", "", 400, "it has state twice"},
			"no database's text":  {"GET", "/sagas?state=%00", "", 400, "nothing that a database would keep"},
			"no letter's text":    {"GET", "/dead-letters?after=%ff", "", 400, "nothing that a database would keep"},
			"attention":           {"GET", "/sagas?attention=false", "", 400, "attention is true"},
			"key and others":      {"GET", "/sagas?definition=d&key=k&settled=true", "", 400, "key finds one saga"},
			"broken query":        {"GET", "/sagas?a=%zz", "", 400, "the query"},
			"format":              {"GET", "/sagas?format=xml", "", 400, "format is text or json"},
			"query of one":        {"GET", "/sagas/p1?limit=1", "", 400, `it has "limit"; it takes format`},
			"flag":                {"GET", "/sagas?settled=perhaps", "", 400, `settled is true or false, not "perhaps"`},
			"duration":            {"GET", "/sagas?idle-for=3", "", 400, `idle-for is "3"`},
			"negative duration":   {"GET", "/sagas?older-than=-3s", "", 400, "it is negative"},
			"number":              {"GET", "/sagas/p1/history?after=x", "", 400, `after is "x"`},
			"negative number":     {"GET", "/sagas/p1/history?after=-1", "", 400, "it is negative"},
			"unknown saga's last": {"GET", "/sagas/p9/history?last=2", "", 404, "p9"},
			"limit":               {"GET", "/dead-letters?limit=501", "", 400, "it is at most 500"},
			"key of what":         {"GET", "/sagas?key=k", "", 400, "a key is one of a definition"},
			"unknown saga":        {"GET", "/sagas/p9", "", 404, "p9"},
			"unknown history":     {"GET", "/sagas/p9/history", "", 404, "p9"},
			"unknown letter":      {"DELETE", "/dead-letters?id=x", "", 404, "dead letter x"},
			"no letter":           {"DELETE", "/dead-letters", "", 400, "which dead letter"},
			"unknown later":       {"GET", "/sagas/p9/history?after=5", "", 404, "p9"},
			"letters twice":       {"DELETE", "/dead-letters?id=a&id=b", "", 400, "it has id twice"},
			"nowhere":             {"GET", "/", "", 404, "there is no GET / here"},
			"not that method":     {"PUT", "/sagas/p1", "", 404, "there is no PUT /sagas/p1 here"},
			"member of others":    operation(`{"verb": "retry-now", "step": "label", "why": "x", "to": "y"}`, 400, "retry-now takes step, and no to"),
			"no step":             operation(`{"verb": "retry-now", "why": "x"}`, 400, "retry-now needs step"),
			"no time":             operation(`{"verb": "move-timer", "timer": "retry:label", "why": "x"}`, 400, "move-timer needs timer and in"),
			"time that is over":   operation(`{"verb": "move-timer", "timer": "retry:label", "in": "-1h", "why": "x"}`, 400, "not negative"),
			"long why":            operation(`{"verb": "retry-now", "step": "label", "why": "`+strings.Repeat("x", 1025)+`"}`, 400, "up to 255 and 1024 bytes"),
			"no JSON":             operation(`verb`, 400, "the body"),
			"unknown member":      operation(`{"verb": "retry-now", "who": "bob"}`, 400, `unknown field "who"`),
			"something follows":   operation(`{"verb": "retry-now"} {}`, 400, "something follows"),
			"duration of a timer": operation(`{"verb": "move-timer", "timer": "retry:label", "in": "soon", "why": "x"}`, 400, "in:"),
			"no why":              operation(`{"verb": "retry-now", "step": "label"}`, 400, "needs Who and Why"),
			"no data":             operation(`{"verb": "edit-data", "data": null, "why": "x"}`, 400, "edit-data needs data"),
			"unknown verb":        operation(`{"verb": "dance", "why": "x"}`, 400, `there is no verb "dance"`),
			"misspelt data":       operation(`{"verb": "edit-data", "data": {"too": "Oslo"}, "why": "x"}`, 409, "too"),
			"makes no sense":      operation(`{"verb": "retry-now", "step": "pay", "why": "x"}`, 409, "nothing to try again"),
			"operation on what":   {"POST", "/sagas/p9/operations", `{"verb": "retry-now", "step": "pay", "why": "x"}`, 404, "p9"},
			"large":               operation(`{"verb": "`+strings.Repeat("x", 1<<20)+`"}`, 413, "the body"),
		} {
			w := d.ask(c.method, c.path, c.body)
			require.Equal(t, c.status, w.Code, "%s: %s", name, w.Body)
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), name)
			var p struct {
				Title, Detail string
				Status        int
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p), name)
			require.Contains(t, p.Detail, c.detail, name)
			require.Equal(t, c.status, p.Status, name)
			require.Equal(t, http.StatusText(c.status), p.Title, name)
		}
		now, err := d.o.Get(t.Context(), "p1")
		require.NoError(t, err)
		require.Equal(t, before, now)
		d.store.away = true
		require.Equal(t, http.StatusServiceUnavailable, d.ask("GET", "/sagas/p1", "").Code)
		d.store.away = false
		require.NoError(t, d.o.Close())
		require.Equal(t, http.StatusServiceUnavailable, d.ask("POST", "/sagas/p1/operations", `{"verb": "retry-now", "step": "label", "why": "x"}`).Code)
		require.Equal(t, http.StatusOK, d.ask("GET", "/sagas/p1", "").Code, "reading needs the store alone")
	})
}

func TestOperatorLetsIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		for _, call := range [][2]string{
			{"GET", "/sagas"}, {"GET", "/nowhere"}, {"PUT", "/sagas/p1"}, {"GET", "/sagas/p1"}, {"GET", "/sagas/p1/history"}, {"POST", "/sagas/p1/operations"}, {"GET", "/dead-letters"}, {"DELETE", "/dead-letters"},
		} {
			w := d.ask(call[0], call[1], `{"verb": "retry-now", "step": "label", "why": "x"}`, "Who", "mallory")
			require.Equal(t, http.StatusForbidden, w.Code, call)
			require.Contains(t, w.Body.String(), "mallory may not")
			require.Equal(t, http.StatusForbidden, d.ask(call[0], call[1], "", "Who", "").Code, "nobody: %v", call)
		}
		require.Equal(t, "no-store", d.ask("GET", "/sagas/p1", "").Header().Get("Cache-Control"))
		foreign := d.ask("POST", "/sagas/p1/operations", `{"verb": "retry-now", "step": "label", "why": "x"}`, "Sec-Fetch-Site", "cross-site")
		require.Equal(t, http.StatusForbidden, foreign.Code, "a page of another origin")
		require.Equal(t, "application/problem+json", foreign.Header().Get("Content-Type"))
		i, err := d.o.Get(t.Context(), "p1")
		require.NoError(t, err)
		require.NotEmpty(t, i.Attention)

		_, err = operator.Handler(d.o, operator.Config{})
		require.ErrorIs(t, err, saga.ErrInvalid)
		_, err = operator.Handler(nil, operator.Config{Who: func(*http.Request) (string, error) { return "x", nil }})
		require.ErrorIs(t, err, saga.ErrInvalid)
	})
}

// The handler works below a prefix, on a real server, also for IDs that URLs have to escape.
func TestOperatorBelowAPrefix(t *testing.T) {
	t.Parallel()
	def := saga.Linear("l", saga.Do("s", nothing).Pivot())
	o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{def}}, nil)
	require.NoError(t, err)
	go func() { _ = o.Run(context.WithoutCancel(t.Context())) }()
	defer func() { require.NoError(t, o.Close()) }()
	for _, id := range []string{"a/b", "dead-letters", "a b?c", "ü"} {
		_, err := def.Start(t.Context(), o, saga.StartParams[parcel]{ID: id, Key: id})
		require.NoError(t, err)
	}
	desk, err := operator.Handler(o, operator.Config{Who: func(*http.Request) (string, error) { return "ann", nil }})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/operator/", http.StripPrefix("/operator", desk))
	server := httptest.NewServer(mux)
	defer server.Close()
	get := func(path string) (status int, shown object) {
		r, err := server.Client().Get(server.URL + "/operator" + path)
		require.NoError(t, err)
		require.NoError(t, json.NewDecoder(r.Body).Decode(&shown))
		require.NoError(t, r.Body.Close())
		return r.StatusCode, shown
	}
	status, all := get("/sagas")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, all["sagas"], 4)
	for _, id := range []string{"a/b", "dead-letters", "a b?c", "ü"} {
		status, one := get("/sagas/" + url.PathEscape(id))
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, id, one["id"])
		status, history := get("/sagas/" + url.PathEscape(id) + "/history")
		require.Equal(t, http.StatusOK, status)
		require.NotEmpty(t, history["entries"])
	}
	status, _ = get("/")
	require.Equal(t, http.StatusNotFound, status)
}

// Who did what, and what failed, is logged, once.
func TestOperatorIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.start(t, "p1")
		at := func() (lines []string) {
			text := strings.ReplaceAll(strings.TrimSpace(d.log.String()), "time=2000-01-01T00:01:30.000Z ", "")
			d.log.Reset()
			return strings.Split(text, "\n")
		}
		d.ask("GET", "/sagas/p1", "")
		require.Equal(t, []string{""}, at(), "who only looks is not logged")
		d.ask("POST", "/sagas/p1/operations", `{"verb": "move-timer", "timer": "retry:label", "in": "1h", "why": "lunch"}`)
		line := at()
		require.Len(t, line, 1)
		for _, part := range []string{"level=INFO msg=operator who=ann verb=move-timer instance=p1 why=lunch", "timer=retry:label", "in=1h"} {
			require.Contains(t, line[0], part)
		}
		d.ask("POST", "/sagas/p1/operations", `{"verb": "retry-now", "step": "pay", "why": "x"}`)
		require.Contains(t, at()[0], `level=WARN msg="operator refused" who=ann verb=retry-now instance=p1 why=x step=pay error=`)
		d.ask("POST", "/sagas/p1/operations", `{"verb": "edit-data", "data": {"to": "secret"}, "why": "x"}`)
		require.NotContains(t, at()[0], "secret")
		d.ask("GET", "/sagas", "", "Who", "mallory")
		require.Equal(t, []string{`level=WARN msg="operator not let in" method=GET path=/sagas error="mallory may not"`}, at())
		d.store.away = true
		d.ask("GET", "/sagas/p1", "")
		require.Equal(t, []string{`level=ERROR msg="operator's call failed" method=GET path=/sagas/p1 who=ann error="saga: get instance p1: the database is away"`}, at())
		d.store.away = false
		require.NoError(t, d.o.Close())
		d.ask("POST", "/sagas/p1/operations", `{"verb": "retry-now", "step": "label", "why": "x"}`)
		line = at()
		require.Len(t, line, 1)
		require.Contains(t, line[0], `level=ERROR msg="operator's call failed"`)
	})
}
