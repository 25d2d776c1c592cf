package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// I3: nothing is silently dropped. Every kind of bad input has an answer, is counted, and blocks nothing.

func TestBadCallsAreAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, stranger := clerk(&rigWorld{}), saga.Linear("stranger", (&rigWorld{}).undoable("one"))
		config := rigOf(def)
		config.MaxData, config.MaxPayload = 1000, 500
		o := runRig(t, memory.NewStore(), config)
		s := startSaga(t, def, o, "a", rigData{})
		ctx := t.Context()
		in := saga.Input{Source: "test", ID: "1"}
		send := func(key string, e clerkEvent, in saga.Input) error {
			_, err := def.Send(ctx, o, key, e, in)
			return err
		}
		routed := func(ev saga.RoutedEvent) error {
			_, err := o.Send(ctx, ev)
			return err
		}
		start := func(p saga.StartParams[rigData]) error {
			_, err := def.Start(ctx, o, p)
			return err
		}
		operate := func(op saga.Operation) error {
			_, err := o.Operate(ctx, s.ID, op)
			return err
		}
		_, strange := stranger.Start(ctx, o, saga.StartParams[rigData]{Key: "a"})
		_, twin := clerk(&rigWorld{}).Start(ctx, o, saga.StartParams[rigData]{Key: "twin"})
		require.ErrorContains(t, twin, "not this value of it")
		_, unstarted := stranger.Send(ctx, o, "a", saga.Cancel, in)
		_, missing := def.Get(ctx, o, "nobody")
		_, waited := def.Wait(ctx, o, "nobody")
		_, waitedFor := def.Wait(ctx, o, "a", "payed")
		_, untold := o.History(ctx, "nobody", 0, 0)
		for name, c := range map[string]struct {
			err  error
			want error
		}{
			"start: unknown definition":            {strange, saga.ErrUnknownDefinition},
			"start: no key":                        {start(saga.StartParams[rigData]{}), saga.ErrInvalid},
			"start: long key":                      {start(saga.StartParams[rigData]{Key: strings.Repeat("k", 256)}), saga.ErrInvalid},
			"start: key that is no text":           {start(saga.StartParams[rigData]{Key: "a\x00b"}), saga.ErrInvalid},
			"start: key that is not UTF-8":         {start(saga.StartParams[rigData]{Key: "a\xffb"}), saga.ErrInvalid},
			"start: too much data":                 {start(saga.StartParams[rigData]{Key: "b", Data: rigData{Card: strings.Repeat("x", 1000)}}), saga.ErrTooLarge},
			"start: other data":                    {start(saga.StartParams[rigData]{Key: "a", Data: rigData{Card: "x"}}), saga.ErrKeyConflict},
			"start: empty start key":               {start(saga.StartParams[rigData]{Key: "b", StartKey: &saga.RequestKey{}}), saga.ErrInvalid},
			"send: unknown definition":             {unstarted, saga.ErrUnknownDefinition},
			"send: unknown event":                  {send("a", "nonsense", in), saga.ErrUnknownEvent},
			"send: no instance":                    {send("nobody", evPing, in), saga.ErrNotFound},
			"send: no such ID":                     {routed(saga.RoutedEvent{Instance: "nobody", Event: string(evPing), Source: "test", ID: "1"}), saga.ErrNotFound},
			"send: no source":                      {send("a", evPing, saga.Input{ID: "1"}), saga.ErrInvalid},
			"send: no ID":                          {send("a", evPing, saga.Input{Source: "test"}), saga.ErrInvalid},
			"send: ID that is no text":             {send("a", evPing, saga.Input{Source: "test", ID: "\xff"}), saga.ErrInvalid},
			"send: long ID":                        {send("a", evPing, saga.Input{Source: "test", ID: strings.Repeat("1", 512)}), saga.ErrInvalid},
			"send: wrong type":                     {send("a", evPay, saga.Input{Source: "test", ID: "1", Payload: 1}), saga.ErrInvalid},
			"send: no payload":                     {send("a", evPay, in), saga.ErrInvalid},
			"send: payload too many":               {send("a", evPing, saga.Input{Source: "test", ID: "1", Payload: 1}), saga.ErrInvalid},
			"send: large":                          {routed(saga.RoutedEvent{Instance: s.ID, Event: string(evPay), Source: "test", ID: "1", Payload: make([]byte, 501)}), saga.ErrTooLarge},
			"send: unknown event by ID":            {routed(saga.RoutedEvent{Instance: s.ID, Event: "nonsense", Source: "test", ID: "1"}), saga.ErrUnknownEvent},
			"send: other definition's ID":          {routed(saga.RoutedEvent{Instance: s.ID, Definition: "other", Event: string(evPing), Source: "test", ID: "1"}), saga.ErrNotFound},
			"operate: nobody":                      {operate(saga.Operation{Verb: saga.RetryNow, Why: "x"}), saga.ErrInvalid},
			"operate: no reason":                   {operate(saga.Operation{Verb: saga.RetryNow, Who: "x"}), saga.ErrInvalid},
			"operate: no data":                     {operate(saga.Operation{Verb: saga.EditData, Who: "x", Why: "x"}), saga.ErrInvalid},
			"operate: not the data's type":         {operate(saga.Operation{Verb: saga.EditData, Data: []int{1}, Who: "x", Why: "x"}), saga.ErrRefused},
			"operate: data that cannot be encoded": {operate(saga.Operation{Verb: saga.EditData, Data: func() {}, Who: "x", Why: "x"}), saga.ErrInvalid},
			"operate: misspelt member":             {operate(saga.Operation{Verb: saga.EditData, Data: []byte(`{"Crad":"x"}`), Who: "x", Why: "x"}), saga.ErrRefused},
			"operate: two values":                  {operate(saga.Operation{Verb: saga.EditData, Data: []byte(`{} {}`), Who: "x", Why: "x"}), saga.ErrRefused},
			"operate: no such verb":                {operate(saga.Operation{Verb: "dance", Who: "x", Why: "x"}), saga.ErrRefused},
			"get: no instance":                     {missing, saga.ErrNotFound},
			"wait: no instance":                    {waited, saga.ErrNotFound},
			"wait: no such state":                  {waitedFor, saga.ErrInvalid},
			"history: no instance":                 {untold, saga.ErrNotFound},
		} {
			require.ErrorIs(t, c.err, c.want, name)
		}
		require.Equal(t, uint64(1), instanceOf(t, def, o, "a").Revision, "none of them changed the instance")
	})
}

func TestRefusedEventsAreOnTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, seen := clerk(&rigWorld{}), &rigWatcher{}
		config := rigOf(def)
		config.MaxData, config.Observer = 1000, seen
		o := runRig(t, memory.NewStore(), config)
		s := startSaga(t, def, o, "a", rigData{})
		n := 0
		refused := func(e clerkEvent, payload any, because string) {
			t.Helper()
			n++
			in := saga.Input{Source: "test", ID: fmt.Sprint(n), Payload: payload}
			answer, err := def.Send(t.Context(), o, "a", e, in)
			require.Equal(t, saga.Refused, answer)
			require.ErrorIs(t, err, saga.ErrRefused)
			var why *saga.RefusedError
			require.True(t, errors.As(err, &why))
			require.Equal(t, s.ID, why.Instance)
			require.Equal(t, string(e), why.What)
			require.Equal(t, string(clerkOpen), why.State)
			require.Contains(t, why.Reason, because)
			answer, again := def.Send(t.Context(), o, "a", e, in)
			require.Equal(t, saga.Refused, answer, "its refusal is recorded")
			require.Equal(t, err, again, "and told again")
		}
		refused(evRefund, nil, "refund")
		refused(evPay, payment{Amount: 15}, "bytes")
		refused(evPay, payment{Amount: 5}, "pay")
		_, err := o.Send(t.Context(), saga.RoutedEvent{Instance: s.ID, Event: string(evPay), Source: "raw", ID: "1", Payload: []byte(`{"Amount":"many"}`)})
		require.ErrorIs(t, err, saga.ErrRefused)
		_, err = o.Send(t.Context(), saga.RoutedEvent{Instance: s.ID, Event: string(evPay), Source: "raw", ID: "2", Payload: []byte(`}`)})
		require.ErrorIs(t, err, saga.ErrRefused)

		i := instanceOf(t, def, o, "a")
		require.Equal(t, clerkOpen, i.State)
		require.Empty(t, i.Data, "nothing of a refused event is kept")
		var results []saga.Disposition
		for _, e := range requireGapless(t, o, i.Instance)[1:] {
			require.NotEmpty(t, e.Reason)
			results = append(results, e.Result)
		}
		require.Len(t, results, 5)
		require.NotContains(t, results, saga.Applied)
		count := map[string]int{}
		for _, ob := range seen.of(saga.ObserveInput) {
			count[ob.Outcome]++
		}
		require.Equal(t, map[string]int{"refused": 5, "duplicate": 3}, count)
	})
}

// A refusal that is told again names the state that the saga is in, and not one that it would have come to.
func TestRefusalToldAgainNamesTheStateThatIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
			Name: "two", Initial: clerkOpen, Succeeded: []clerkState{clerkShipped},
			Events: []saga.Event[clerkEvent, rigData]{{Name: evPing}, {Name: evShip}},
			Table: saga.Table[clerkState, clerkEvent, rigData]{
				{From: clerkOpen, On: evPing, To: clerkPaid}, {From: clerkPaid, On: evShip, To: clerkShipped},
			},
			Otherwise: saga.Refuse,
		})
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		ship := saga.Input{Source: "test", ID: "1"}
		_, err := def.Send(t.Context(), o, "a", evShip, ship)
		require.ErrorIs(t, err, saga.ErrRefused)
		_, err = def.Send(t.Context(), o, "a", evPing, saga.Input{Source: "test", ID: "2"})
		require.NoError(t, err)
		_, err = def.Send(t.Context(), o, "a", evShip, ship)
		var refused *saga.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, string(clerkPaid), refused.State)
	})
}

// Start tells why the orchestrator could not begin.
func TestStartTellsWhyTheOrchestratorDidNotBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, kept := memory.NewStore(), clerk(&rigWorld{})
		o := runRig(t, store, rigOf(kept))
		startSaga(t, kept, o, "a", rigData{})
		changed := saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
			Name: "clerk", Initial: clerkOpen, Succeeded: []clerkState{clerkPaid}, Events: []saga.Event[clerkEvent, rigData]{{Name: evPing}},
			Table: saga.Table[clerkState, clerkEvent, rigData]{{From: clerkOpen, On: evPing, To: clerkPaid}}, Otherwise: saga.Refuse,
		})
		other, err := saga.NewOrchestrator(store, rigOf(changed), nil)
		require.NoError(t, err)
		require.ErrorIs(t, other.Run(t.Context()), saga.ErrIncompatible)
		_, err = changed.Start(t.Context(), other, saga.StartParams[rigData]{Key: "b"})
		require.ErrorIs(t, err, saga.ErrClosed)
		require.ErrorIs(t, err, saga.ErrIncompatible)
		require.Contains(t, err.Error(), "event pay; event refund")
	})
}

// A call whose context has ended says so, and not that it waited for something.
func TestCallWithAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		o := runRig(t, memory.NewStore(), rigOf(def))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for k := range 20 {
			_, err := def.Start(ctx, o, saga.StartParams[rigData]{Key: fmt.Sprint(k)})
			if err != nil { // it may also have been committed
				require.ErrorIs(t, err, context.Canceled)
				require.NotContains(t, err.Error(), "to run")
			}
		}
	})
}

// Messages of every bad kind stand in line before a good one, at a topic with a single subscriber.
func TestPoisonMessagesBlockNothingAndAreAccountedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, seen := newRigWire(), &rigWatcher{}
		def := clerk(&rigWorld{})
		stuck, letGo := parked(&rigWorld{})
		defer close(letGo)
		config := rigOf(def, stuck)
		config.Transport, config.Subscribers, config.Observer = w.transport(), 1, seen
		config.MaxData, config.MaxPayload = 1000, 500
		config.Events = []saga.EventSource{{Topic: "events"}, {Topic: "own", Route: func(m *message.Message) (saga.RoutedEvent, error) {
			switch string(m.Payload) {
			case "panic":
				panic("route")
			case "not ours":
				return saga.RoutedEvent{}, fmt.Errorf("%w: a fish", saga.ErrNotForUs)
			}
			return saga.RoutedEvent{}, errors.New("cannot be read")
		}}}
		log := watermill.NewCaptureLogger()
		o := runLogged(t, memory.NewStore(), config, log)
		a := startSaga(t, def, o, "a", rigData{})
		p := startSaga(t, stuck, o, "p", rigData{})
		var sent []*message.Message
		event := func(id, payload string, e string, to ...string) {
			sent = append(sent, w.send("events", payload, append(to, saga.MetaEvent, e, saga.MetaSource, "test", saga.MetaInputID, id)...))
		}
		toA := []string{saga.MetaDefinition, "clerk", saga.MetaKey, "a"}
		// dead letters
		sent = append(sent, w.send("events", "no event at all"), w.send("own", "panic"), w.send("own", "rubbish"))
		event("", "", string(evPing), toA...)
		event("1", "", string(evPing), saga.MetaDefinition, "nobody's", saga.MetaKey, "a")
		event("2", "", string(evPing), saga.MetaDefinition, "clerk", saga.MetaKey, "nobody")
		event("3", "", string(evPing), saga.MetaInstance, "nobody")
		event("4", "", string(evPing), saga.MetaInstance, a.ID, saga.MetaDefinition, "parked")
		event("5", "", "nonsense", toA...)
		event("6", "", "nonsense", saga.MetaInstance, a.ID)
		event("7", strings.Repeat("x", 501), string(evPay), toA...)
		event("8", "", "park.rejected", saga.MetaInstance, p.ID) // only the engine may raise this
		dead := len(sent)
		// ignored
		sent = append(sent, w.send("own", "not ours"))
		event("10", "", string(evPing), toA...)
		// refused
		event("11", "", string(evRefund), toA...)
		event("12", "}", string(evPay), toA...)
		event("15", `{"Amount":15}`, string(evPay), toA...)
		// kept, for a definition that has been mended
		event("13", `{"Amount":13}`, string(evPay), toA...)
		event("14", `{"Amount":14}`, string(evPay), saga.MetaInstance, a.ID)
		// duplicates
		event("10", "", string(evPing), toA...)
		event("11", "", string(evRefund), toA...)
		// buffered, and applied
		event("16", "", string(evShip), toA...)
		synctest.Wait()
		count := func() map[string]int {
			count := map[string]int{"dead": len(seen.of(saga.ObserveDeadLetter))}
			for _, ob := range seen.of(saga.ObserveInput) {
				count[ob.Outcome]++
			}
			return count
		}
		require.Equal(t, map[string]int{"dead": dead, "ignored": 2, "refused": 3, "waiting": 2, "duplicate": 2, "buffered": 1}, count())
		require.Len(t, sent, dead+2+3+2+2+1, "received = all of them together")
		event("17", `{"Amount":1}`, string(evPay), toA...)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, clerkShipped, s.State)
		require.Equal(t, 2, count()["applied"], "the payment, and the shipping that was kept for it")
		for k, msg := range sent {
			require.True(t, isAcked(msg), "message %d: %s", k, msg.Payload)
		}
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, letters, dead)
		told := slices.DeleteFunc(slices.Clone(log.Captured()[watermill.ErrorLogLevel]), func(m watermill.CapturedMessage) bool {
			return m.Msg != "Message kept as a dead letter" || m.Fields["topic"] == nil
		})
		require.Len(t, told, dead, "each is logged")
		for _, l := range letters {
			require.NotEmpty(t, l.Reason)
			require.LessOrEqual(t, len(l.Payload), 500)
		}
		require.Equal(t, saga.Running, instanceOf(t, stuck, o, "p").State)
		require.Equal(t, uint64(1), instanceOf(t, stuck, o, "p").Revision)
	})
}

// Messages of producers that know nothing of Watermill may have no ID.
func TestDeadLettersWithoutMessageIDAreKeptApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, def := newRigWire(), clerk(&rigWorld{})
		config := rigOf(def)
		config.Transport, config.Events = w.transport(), []saga.EventSource{{Topic: "events"}}
		o := runRig(t, memory.NewStore(), config)
		for _, payload := range []string{"one", "two", "two"} {
			w.topic("events") <- message.NewMessage("", []byte(payload))
		}
		synctest.Wait()
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, letters, 2, "one, and two, which came twice")
		page, err := o.DeadLetters(t.Context(), letters[0].ID, 1)
		require.NoError(t, err)
		require.Equal(t, letters[1:], page)
	})
}

func TestBadRepliesBlockNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, seen, def := newRigWire(), &rigWatcher{}, packSaga()
		config := rigOf(def)
		config.Transport, config.Subscribers, config.Observer, config.MaxPayload = w.transport(), 1, seen, 500
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		cmd := w.published("packers")[0]
		like := func(payload string, change ...string) *message.Message {
			c := cmd.Copy()
			for k := 0; k < len(change); k += 2 {
				c.Metadata.Set(change[k], change[k+1])
			}
			return w.reply(c, "succeeded", payload)
		}
		all := []*message.Message{
			w.send("sagamill.replies", "what?"),
			w.reply(cmd, "perhaps", ""),
			like("", saga.MetaRun, "first"),
			like("", saga.MetaInstance, "nobody"),
			like(strings.Repeat("x", 501)),
			like("", saga.MetaStep, "nonsense"), // of a step that the definition does not have
			like("", saga.MetaRun, "7"),         // of a run that never was
			like("}"),                           // a success that cannot be folded: the attempt has failed
			like(`"boxed"`, saga.MetaAttempt, "1"),
		}
		s := waitSettled(t, def, o, "a")
		require.Equal(t, []string{"boxed"}, s.Data.Log)
		for k, msg := range all {
			require.True(t, isAcked(msg), "reply %d", k)
		}
		require.Len(t, seen.of(saga.ObserveDeadLetter), 5)
		require.Len(t, seen.of(saga.ObserveReply), 5, "those that are replies, and not too large")
	})
}

func TestSameEventTwiceInOneBatchIsAppliedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		store, slow := &rigStore{Store: memory.NewStore()}, false
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if slow {
				time.Sleep(time.Second)
			}
			return next()
		}
		o := runRig(t, store, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		slow = true
		answers := make(chan saga.Disposition, 5)
		for k := range 5 { // the first one's commit is under way while the others gather
			go func() {
				in := saga.Input{Source: "test", ID: fmt.Sprint(min(k, 1)), Payload: payment{Amount: 1}}
				a, err := def.Send(t.Context(), o, "a", evPay, in)
				if k == 0 || !errors.Is(err, saga.ErrRefused) { // the second payment is refused, once
					require.NoError(t, err)
				}
				answers <- a
			}()
			synctest.Wait()
		}
		count := map[saga.Disposition]int{}
		for range 5 {
			count[<-answers]++
		}
		require.Equal(t, map[saga.Disposition]int{saga.Applied: 1, saga.Refused: 4}, count, "a refusal is told again to those who ask again")
		require.EqualValues(t, 3, instanceOf(t, def, o, "a").Revision, "start, payment, and one refusal")
		require.Equal(t, []string{"paid"}, instanceOf(t, def, o, "a").Data.Log)
	})
}

// What the database rejects, whenever it is tried, fails alone, also among inputs of one instance in one batch.
func TestInputThatTheDatabaseRejectsFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, w := clerk(&rigWorld{}), newRigWire()
		store, slow := &rigStore{Store: memory.NewStore(memory.WithMaxBytes(2000))}, false
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if slow {
				time.Sleep(time.Second) // the inputs gather
			}
			return next()
		}
		config := rigOf(def)
		config.Transport, config.Events = w.transport(), []saga.EventSource{{Topic: "events"}}
		o := runRig(t, store, config)
		s := startSaga(t, def, o, "a", rigData{})
		slow = true
		var sent []*message.Message
		for id, payload := range []string{"", "", strings.Repeat("x", 3000), ""} {
			event := evPing
			if payload != "" {
				event = evShip // it would be buffered, with its payload
			}
			sent = append(sent, w.send("events", payload, saga.MetaInstance, s.ID, saga.MetaEvent, string(event),
				saga.MetaSource, "test", saga.MetaInputID, fmt.Sprint(id)))
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		for _, msg := range sent {
			require.True(t, isAcked(msg))
		}
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Contains(t, letters[0].Reason, "rejects")
		require.Len(t, requireGapless(t, o, instanceOf(t, def, o, "a").Instance), 4, "start, and three good ones")
	})
}

func TestResultThatTheDatabaseRejectsIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def := saga.Linear("large", saga.Call("grow", func(ctx context.Context, _ rigData) (string, error) {
			done.do(ctx)
			return strings.Repeat("x", 3000), nil
		}, rigData.with).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).Retry(compensation.Retry{Attempts: 2}))
		o := runRig(t, memory.NewStore(memory.WithMaxBytes(2000)), rigOf(def))
		began := time.Now()
		startSaga(t, def, o, "a", rigData{})
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"grow", "grow", "grow/undo"}, done.list())
		require.Less(t, time.Since(began), 5*time.Second, "no time-out was waited for")
		require.Contains(t, requireGapless(t, o, s.Instance)[1].Reason, "rejects")
	})
}

// Functions of the definition panic. That is a failed attempt, and nobody else's business. If it is the step's own function, the budget
// is spent at last; the others say nothing of the step, and wait for a definition that is mended.
func TestPanicsOfStepsAreFailedAttempts(t *testing.T) {
	t.Parallel()
	good := func(context.Context, rigData) error { return nil }
	no := saga.Do("no", func(context.Context, rigData) error { return saga.Reject("no") }).NoUndo("test")
	for name, c := range map[string]struct {
		steps     []saga.Step[rigData]
		state     saga.LinearState
		attention string
	}{
		"action": {[]saga.Step[rigData]{
			saga.Do("bad", func(context.Context, rigData) error { panic("oh") }).Undo(good),
		}, saga.Failed, ""},
		"reducer": {[]saga.Step[rigData]{
			saga.Call("bad", func(context.Context, rigData) (int, error) { return 1, nil }, func(rigData, int) rigData { panic("oh") }).Undo(good),
		}, saga.Running, "step bad"},
		"request": {[]saga.Step[rigData]{
			saga.Ask("bad", packCmd, func(rigData) string { panic("oh") }, rigData.with).NoUndo("test"),
		}, saga.Running, "step bad"},
		"undo": {[]saga.Step[rigData]{
			saga.Do("bad", good).Undo(func(context.Context, rigData) error { panic("oh") }), no,
		}, saga.Running, "the compensation of bad is stuck"},
		"undo request": {[]saga.Step[rigData]{
			saga.Do("bad", good).UndoBy(saga.RequestOf(packCmd, func(rigData) string { panic("oh") })), no,
		}, saga.Running, "the compensation of bad is stuck"},
		"action after the pivot": {[]saga.Step[rigData]{
			saga.Do("pivot", good).Pivot(), saga.Do("bad", func(context.Context, rigData) error { panic("oh") }).Retriable(),
		}, saga.Running, "step bad is stuck"},
		"reason that is no text": {[]saga.Step[rigData]{
			saga.Do("pivot", good).Pivot(),
			saga.Do("bad", func(context.Context, rigData) error { return errors.New("oh\x00\xff" + strings.Repeat("ä", 1000)) }).Retriable(),
		}, saga.Running, "step bad is stuck"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, seen := newRigWire(), &rigWatcher{}
				def, other := saga.Linear("panics", c.steps...), clerk(&rigWorld{})
				config := rigOf(def, other)
				config.Transport, config.Workers, config.Lanes, config.Observer = w.transport(), 1, 1, seen
				o := runRig(t, memory.NewStore(), config)
				startSaga(t, def, o, "a", rigData{})
				time.Sleep(10 * time.Minute)
				i := instanceOf(t, def, o, "a")
				require.Equal(t, c.state, i.State)
				require.Contains(t, i.Attention, c.attention)
				require.Equal(t, c.attention != "", i.Attention != "")
				require.NotContains(t, i.Attention, "\x00")
				require.Equal(t, strings.ToValidUTF8(i.Attention, "?"), i.Attention)
				reasons := i.Attention
				for _, e := range requireGapless(t, o, i.Instance) {
					reasons += e.Reason
				}
				require.Contains(t, reasons, "oh")
				if c.attention != "" {
					require.Len(t, seen.of(saga.ObserveAttention), 1, "when it begins, not with each attempt")
					stuck, _, err := o.List(t.Context(), saga.Query{NeedsAttention: true})
					require.NoError(t, err)
					require.Len(t, stuck, 1)
				}
				startSaga(t, other, o, "b", rigData{}) // works on beside it
				answer, err := other.Send(t.Context(), o, "b", evPing, saga.Input{Source: "test", ID: "1"})
				require.NoError(t, err)
				require.Equal(t, saga.Ignored, answer)
			})
		})
	}
}

func TestConfigurationsFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	def := clerk(&rigWorld{})
	_, err := saga.NewOrchestrator(nil, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{def, clerk(&rigWorld{}), nil, packSaga()},
		Lanes:       -1, Lease: time.Minute, Events: []saga.EventSource{{}},
	}, nil)
	require.ErrorIs(t, err, saga.ErrInvalid)
	for _, want := range []string{
		"store is nil", "Lanes", "Lease", "given twice", "definition is nil", "no Publisher", "no Subscriber for their replies",
		"no Topic", "taken from topics",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Lease: time.Nanosecond}, nil)
	require.ErrorContains(t, err, "Definitions is empty")
	require.ErrorContains(t, err, "10ms")
	config := rigOf(packSaga())
	config.Name, config.Transport = "", newRigWire().transport()
	_, err = saga.NewOrchestrator(memory.NewStore(), config, nil)
	require.ErrorContains(t, err, "Name is empty")
}
