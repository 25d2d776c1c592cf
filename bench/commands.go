package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/adapters/redisstream"
	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/saga"
)

// Command steps: each is asked of a participant in another process, which answers behind its barrier, in PostgreSQL. Beside the engine
// runs raw Watermill with the same messages: a handler answers each command behind the same barrier, another one answers each
// reply with the next command. It keeps no state: what it knows of a saga travels in the message.

// conversation is what the two processes have to agree on.
type conversation struct {
	Store       string `json:"store"`
	Schema      string `json:"schema"`
	Broker      string `json:"broker"`
	Prefix      string `json:"prefix"` // of topics
	Steps       int    `json:"steps"`
	Subscribers int    `json:"subscribers"`
	Raw         bool   `json:"raw"`
}

func (c conversation) topic(step int) string { return c.Prefix + strconv.Itoa(step) }
func (c conversation) replies() string       { return c.Prefix + "replies" }

// connected is a process's end of a conversation.
type connected struct {
	db        *postgres.DB
	transport saga.Transport
	close     func()
}

func (c conversation) connect(ctx context.Context) (*connected, error) {
	pool, err := newPool(ctx, c.Store, c.Schema, 48) // a subscriber of watermill-sql holds a connection while its message is handled
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, pool, postgres.WithSchema(c.Schema))
	if err != nil {
		pool.Close()
		return nil, err
	}
	if c.Broker == "sql" {
		b, err := watermillsql.NewPgx(pool, watermillsql.Config{PollInterval: 5 * time.Millisecond}, nil)
		if err != nil {
			pool.Close()
			return nil, err
		}
		return &connected{db, b.Transport(), func() { _ = b.Close(); pool.Close() }}, nil
	}
	options, err := redis.ParseURL(c.Broker)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("-broker: %w", err)
	}
	universal := &redis.UniversalOptions{
		Addrs: []string{options.Addr}, DB: options.DB, Username: options.Username, Password: options.Password, TLSConfig: options.TLSConfig,
	}
	b, err := redisstream.New(universal, redisstream.Config{}, nil)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &connected{db, b.Transport(), func() {
		_ = b.Close()
		pool.Close()
	}}, nil
}

// forget removes the topics from a broker that outlives the schema.
func (c conversation) forget(ctx context.Context) {
	options, err := redis.ParseURL(c.Broker)
	if err != nil {
		return
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	for step := range c.Steps {
		client.Del(ctx, c.topic(step))
	}
	client.Del(ctx, c.replies())
}

func (c conversation) command(step int) saga.Command[cargo, struct{}] {
	return saga.Command[cargo, struct{}]{Name: "step-" + strconv.Itoa(step), Topic: c.topic(step), Replies: c.replies()}
}

// childEnv holds the conversation that a process was started for, as its participant.
const childEnv = "SAGAMILL_BENCH_PARTICIPANT"

// participate is the other process. It ends when its standard input does.
func participate(ctx context.Context, setup string) error {
	var c conversation
	if err := json.Unmarshal([]byte(setup), &c); err != nil {
		return err
	}
	end, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer end.close()
	inbox := postgres.NewInbox(end.db)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	if c.Raw {
		return end.answerRaw(ctx, c, inbox)
	}
	p, err := saga.NewParticipant(inbox, saga.ParticipantConfig{Name: "service", Transport: end.transport, Subscribers: c.Subscribers}, nil)
	if err != nil {
		return err
	}
	for step := range c.Steps {
		if err := saga.Handle(p, c.command(step), func(context.Context, pgx.Tx, cargo) (struct{}, error) { return struct{}{}, nil }); err != nil {
			return err
		}
	}
	go func() { <-p.Running(); fmt.Println("ready") }()
	return p.Run(ctx)
}

// handle runs a handler for the messages of a topic, on so many subscribers, until ctx is done.
func (e *connected) handle(ctx context.Context, all *sync.WaitGroup, group, topic string, subscribers int, do func(*message.Message) error) error {
	for n := range subscribers {
		s, err := e.transport.Subscriber(saga.SubscriberParams{Topic: topic, Group: group, Number: n})
		if err != nil {
			return err
		}
		messages, err := s.Subscribe(ctx, topic)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		all.Go(func() {
			defer func() { _ = s.Close() }()
			for {
				select {
				case <-ctx.Done():
					return
				case msg, ok := <-messages:
					if !ok {
						return
					}
					if err := do(msg); err != nil {
						if ctx.Err() == nil {
							fmt.Fprintln(os.Stderr, "bench: raw:", err)
						}
						msg.Nack()
						continue
					}
					msg.Ack()
				}
			}
		})
	}
	return nil
}

// answerRaw answers commands by hand.
func (e *connected) answerRaw(ctx context.Context, c conversation, inbox *postgres.Inbox) error {
	var all sync.WaitGroup
	defer all.Wait()
	for step := range c.Steps {
		err := e.handle(ctx, &all, "service", c.topic(step), c.Subscribers, func(msg *message.Message) error {
			reply, err := inbox.Handle(ctx, saga.Effect{ID: msg.Metadata.Get(saga.MetaEffect)}, func(context.Context, pgx.Tx) ([]byte, error) { return []byte("{}"), nil })
			if err != nil {
				return err
			}
			out := message.NewMessage(watermill.NewUUID(), reply.Payload)
			for k, v := range msg.Metadata {
				out.Metadata.Set(k, v)
			}
			return e.transport.Publisher.Publish(c.replies(), out)
		})
		if err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

// startParticipant starts the other process, and waits until it listens.
func startParticipant(ctx context.Context, c conversation) (pid int, stop func(), err error) {
	setup, err := json.Marshal(c)
	if err != nil {
		return 0, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	child := exec.CommandContext(ctx, self)
	child.Env, child.Stderr = append(os.Environ(), childEnv+"="+string(setup)), os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return 0, nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return 0, nil, err
	}
	if err := child.Start(); err != nil {
		return 0, nil, err
	}
	stop = func() { _ = in.Close(); _ = child.Wait() }
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		stop()
		return 0, nil, errors.Join(fmt.Errorf("the participant does not begin: it says %q", line), err)
	}
	return child.Process.Pid, stop, nil
}

// commandRun is what a round has shown. CPU is in ms a saga.
type commandRun struct {
	PerSecond   float64 `json:"sagas_per_second"`
	CPU         float64 `json:"cpu_ms"`             // of the process that asks
	Participant float64 `json:"participant_cpu_ms"` // of the one that answers
	Server      float64 `json:"server_cpu_ms"`      // of PostgreSQL
}

// measure fills in what n sagas cost.
func (r *commandRun) measure(ctx context.Context, db *database, participant, n int, do func() error) error {
	before, err := db.counters(ctx)
	if err != nil {
		return err
	}
	own, others, began := cpuTime(), cpuOf(participant, ""), time.Now()
	if err := do(); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := db.counters(ctx)
	of := func(used time.Duration) float64 { return used.Seconds() * 1000 / float64(n) }
	r.PerSecond = float64(n) / took.Seconds()
	r.CPU, r.Participant, r.Server = of(cpuTime()-own), of(cpuOf(participant, "")-others), of(after.cpu-before.cpu)
	return err
}

// runCommands measures a round of the engine, or of raw Watermill.
func runCommands(ctx context.Context, o options, raw bool) (r commandRun, err error) {
	db, err := openPostgres(ctx, o.store)
	if err != nil {
		return r, err
	}
	defer db.close()
	c := conversation{
		Store: o.store, Schema: db.schema, Broker: o.broker, Prefix: "b" + strings.TrimPrefix(db.schema, "sagamill_bench_") + "-",
		Steps: o.steps, Subscribers: o.subscribers, Raw: raw,
	}
	defer c.forget(context.WithoutCancel(ctx))
	end, err := c.connect(ctx)
	if err != nil {
		return r, err
	}
	defer end.close()
	participant, stop, err := startParticipant(ctx, c)
	if err != nil {
		return r, err
	}
	defer stop()
	if raw {
		return end.askRaw(ctx, c, o, func(do func() error) (commandRun, error) {
			err := r.measure(ctx, db, participant, o.sagas, do)
			return r, err
		})
	}
	var steps []saga.Step[cargo]
	for step := range o.steps {
		whole := func(d cargo) cargo { return d }
		steps = append(steps, saga.Ask[cargo, cargo, struct{}]("step-"+strconv.Itoa(step), c.command(step), whole, nil).NoUndo("it does nothing"))
	}
	w := linear("command steps", saga.Linear("commands", steps...), saga.Completed)
	config := saga.OrchestratorConfig{Name: "bench", Definitions: []saga.AnyDefinition{w.definition}, Transport: end.transport, Subscribers: c.Subscribers}
	err = orchestrateWith(ctx, db.store, config, func(ctx context.Context, engine *saga.Orchestrator) error {
		return r.measure(ctx, db, participant, o.sagas, func() error {
			_, err := together(ctx, o.sagas, o.inflight, func(ctx context.Context) error { return w.one(ctx, engine) })
			return err
		})
	})
	return r, err
}

// askRaw sends commands by hand: each reply is answered with the next one.
func (e *connected) askRaw(ctx context.Context, c conversation, o options, measure func(func() error) (commandRun, error)) (r commandRun, err error) {
	payload, err := json.Marshal(anOrder)
	if err != nil {
		return r, err
	}
	ask := func(id string, step int) error {
		msg := message.NewMessage(watermill.NewUUID(), payload)
		name := "step-" + strconv.Itoa(step)
		for k, v := range map[string]string{ // what a command of the engine says
			saga.MetaDefinition: "commands", saga.MetaInstance: id, saga.MetaKey: id, saga.MetaEffect: id + "/" + name + "/1",
			saga.MetaCommand: name, saga.MetaStep: strconv.Itoa(step), saga.MetaRun: "1", saga.MetaAttempt: "1", saga.MetaReplyTo: c.replies(),
		} {
			msg.Metadata.Set(k, v)
		}
		return e.transport.Publisher.Publish(c.topic(step), msg)
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var over sync.Map // of channels, by the saga's ID
	err = e.handle(ctx, &all, "asker", c.replies(), c.Subscribers, func(msg *message.Message) error {
		id := msg.Metadata.Get(saga.MetaInstance)
		step, err := strconv.Atoi(msg.Metadata.Get(saga.MetaStep))
		if err != nil {
			return err
		}
		if step+1 < c.Steps {
			return ask(id, step+1)
		}
		if done, there := over.LoadAndDelete(id); there {
			close(done.(chan struct{}))
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	var number atomic.Int64
	one := func(ctx context.Context) error {
		id := "saga-" + strconv.FormatInt(number.Add(1), 10) + strings.Repeat("x", 20) // as long as an instance's ID
		done := make(chan struct{})
		over.Store(id, done)
		if err := ask(id, 0); err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		case <-time.After(time.Minute):
			return fmt.Errorf("%s has no end", id)
		}
	}
	return measure(func() error {
		_, err := together(ctx, o.sagas, o.inflight, one)
		return err
	})
}

// commandFigures are a broker's: medians.
type commandFigures struct {
	Broker string     `json:"broker"`
	Engine commandRun `json:"engine"`
	Raw    commandRun `json:"raw_watermill"`
	Ratio  float64    `json:"ratio"`
}

func (f commandFigures) String() string {
	var b strings.Builder
	name := "command steps, " + f.Broker
	fmt.Fprintf(&b, "%-26s %15s %10s %12s %13s %10s\n", "", "", "sagas/s", "CPU ms/saga", "participant's", "server's")
	for _, line := range []struct {
		of string
		r  commandRun
	}{{"engine", f.Engine}, {"raw Watermill", f.Raw}} {
		fmt.Fprintf(&b, "%-26s %15s %10.0f %12.2f %13.2f %10.2f\n", name, line.of, line.r.PerSecond, line.r.CPU, line.r.Participant, line.r.Server)
	}
	fmt.Fprintf(&b, "%-26s %15s %9.2fx", name, "engine / raw", f.Ratio)
	return b.String()
}

func measureCommands(ctx context.Context, o options) (f commandFigures, err error) {
	if !strings.HasPrefix(o.store, "postgres") {
		return f, errors.New("-store must be postgres://..., which participants in other processes share")
	}
	var engines, raws []commandRun
	for range o.rounds {
		raw, err := runCommands(ctx, o, true)
		if err != nil {
			return f, fmt.Errorf("raw Watermill: %w", err)
		}
		engine, err := runCommands(ctx, o, false)
		if err != nil {
			return f, err
		}
		engines, raws = append(engines, engine), append(raws, raw)
	}
	f = commandFigures{Broker: "redis", Engine: middle(engines), Raw: middle(raws)}
	f.Ratio = median(pairs(engines, raws, func(e, r commandRun) float64 { return e.PerSecond / r.PerSecond }))
	if o.broker == "sql" {
		f.Broker = "watermill-sql"
	}
	if f.Ratio < o.least {
		err = fmt.Errorf("the engine reaches %.2f of raw Watermill, less than %.2f", f.Ratio, o.least)
	}
	return f, err
}

func middle(runs []commandRun) commandRun {
	of := func(f func(commandRun) float64) float64 {
		return median(pairs(runs, runs, func(r, _ commandRun) float64 { return f(r) }))
	}
	return commandRun{
		of(func(r commandRun) float64 { return r.PerSecond }), of(func(r commandRun) float64 { return r.CPU }),
		of(func(r commandRun) float64 { return r.Participant }), of(func(r commandRun) float64 { return r.Server }),
	}
}
