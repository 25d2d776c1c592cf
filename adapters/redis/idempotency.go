package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/adapters/internal/header"
	"github.com/sagamill/sagamill/idempotency"
)

// IdempotencyStore is an idempotency.Store in Redis. All time in it is the server's.
type IdempotencyStore struct {
	options
	client goredis.UniversalClient
	keys   keys

	seen atomic.Uint64 // the greatest token that this store was given
}

var _ idempotency.Store = (*IdempotencyStore)(nil)

// NewIdempotencyStore makes a store on a client, which stays the caller's to close. Any number of them with one prefix, in any
// number of processes, are one store. It asks the server whether its settings suit ([IdempotencyStore.Check]) and logs each
// warning. A server that does not answer is a warning too, so that a service can start while Redis is away. An error
// says that the options or the client will not do.
func NewIdempotencyStore(ctx context.Context, client goredis.UniversalClient, opts ...Option) (*IdempotencyStore, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	s := &IdempotencyStore{options: o, client: client, keys: newKeys(o.prefix)}
	switch client.(type) {
	case nil:
		return nil, errors.New("redis: no client")
	case *goredis.Ring:
		return nil, errors.New("redis: a Ring asks another server for a key when its own is down, so two requests could both claim it; use a Client or ClusterClient")
	case *goredis.Client, *goredis.ClusterClient:
	default:
		if o.replicas > 0 {
			return nil, fmt.Errorf("redis: WaitReplicas needs a *redis.Client or *redis.ClusterClient, not a %T", client)
		}
	}
	s.warn(ctx)
	return s, nil
}

// keys are the names of the store's keys. All have one hash tag, so that Redis Cluster keeps them in one slot: a script can
// touch them all, and one counter is before all records.
type keys struct{ over, held, counter, mark, records string }

func newKeys(prefix string) keys {
	tag := "{" + prefix + "}:"
	return keys{over: tag + "over", held: tag + "held", counter: tag + "token", mark: tag + "mark", records: tag + "key:"}
}

func (k keys) record(key idempotency.Key) string { return k.records + key.String() }

// Begin implements [idempotency.Store].
func (s *IdempotencyStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := cmp.Or(ctx.Err(), key.Validate(), idempotency.ValidateLease(lease)); err != nil {
		return idempotency.Claim{}, err
	}
	fingerprint := f[:]
	if f.IsZero() {
		fingerprint = nil
	}
	seen := s.seen.Load()
	// The client may send a call again whose answer was lost. The attempt's name lets the script know its own claim.
	reply, err := s.run(ctx, s.scripts.begin, []string{s.keys.record(key), s.keys.over, s.keys.held, s.keys.counter},
		fingerprint, micros(lease), micros(idempotency.AbandonedAfter), rand.Text(), seen)
	claim, last, unread := readClaim(reply)
	if errors.Is(err, ErrNotReplicated) && claim.State == idempotency.Acquired {
		s.giveBack(ctx, key, claim.Token)
	}
	if err := cmp.Or(err, unread); err != nil {
		return idempotency.Claim{}, fmt.Errorf("redis: begin: %w", err)
	}
	if claim.State == idempotency.Acquired {
		s.sees(claim.Token)
		if last < seen {
			s.logger.WarnContext(ctx, "redis: the server has forgotten records that it had: it was emptied, or fell back to an older state",
				"prefix", s.prefix, "token_before", seen, "token_now", uint64(claim.Token))
		}
	}
	return claim, nil
}

// sees keeps the greatest token, which those to come must exceed whatever the server has forgotten.
func (s *IdempotencyStore) sees(token idempotency.Token) {
	for {
		seen := s.seen.Load()
		if uint64(token) <= seen || s.seen.CompareAndSwap(seen, uint64(token)) {
			return
		}
	}
}

// giveBack releases a claim that its caller will not hear of. If that fails, the end of the lease does it.
func (s *IdempotencyStore) giveBack(ctx context.Context, key idempotency.Key, token idempotency.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.scripts.release.Run(ctx, s.client, []string{s.keys.record(key), s.keys.over}, text(token)).Err()
}

// readClaim reads what begin.lua answers: the state, and what belongs to it. last is the greatest token given before.
func readClaim(cmd *goredis.Cmd) (claim idempotency.Claim, last uint64, err error) {
	reply, err := cmd.Slice()
	if err != nil {
		return claim, 0, err
	}
	parts := make([]string, len(reply))
	for i := range reply {
		parts[i], _ = reply[i].(string) // what is not there stays empty, and fails below if it must not be
	}
	switch {
	case len(parts) == 3 && parts[0] == "acquired":
		var token uint64
		token, err = strconv.ParseUint(parts[1], 10, 64)
		if err == nil {
			last, err = strconv.ParseUint(parts[2], 10, 64)
		}
		claim = idempotency.Claim{State: idempotency.Acquired, Token: idempotency.Token(token)}
	case len(parts) == 2 && parts[0] == "in flight":
		var left int64
		left, err = strconv.ParseInt(parts[1], 10, 64)
		claim = idempotency.Claim{State: idempotency.InFlight, RetryAfter: time.Duration(left) * time.Microsecond}
	case len(parts) == 4 && parts[0] == "completed":
		claim.State = idempotency.Completed
		claim.Response, err = readResponse(parts[1], parts[2], parts[3])
	case len(parts) == 1 && parts[0] == "mismatch":
		claim.State = idempotency.Mismatch
	default:
		err = errors.New("not what the script answers")
	}
	if err != nil {
		return idempotency.Claim{}, 0, fmt.Errorf("reply %.200q: %w", parts, err)
	}
	return claim, last, nil
}

func readResponse(status, headers, body string) (r idempotency.Response, err error) {
	if r.Status, err = strconv.Atoi(status); err != nil {
		return r, fmt.Errorf("status: %w", err)
	}
	if r.Header, err = header.Decode(headers); err != nil {
		return r, fmt.Errorf("header: %w", err)
	}
	r.Body = []byte(body)
	return r, nil
}

// Renew implements [idempotency.Store].
func (s *IdempotencyStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := cmp.Or(ctx.Err(), idempotency.ValidateLease(lease)); err != nil {
		return err
	}
	return s.held(ctx, "renew", s.scripts.renew, []string{s.keys.record(key)}, text(token), micros(lease))
}

// Complete implements [idempotency.Store].
func (s *IdempotencyStore) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	if err := cmp.Or(ctx.Err(), c.Validate()); err != nil {
		return err
	}
	headers, err := header.Encode(c.Response.Header)
	if err != nil {
		return fmt.Errorf("redis: complete: %w", err)
	}
	return s.held(ctx, "complete", s.scripts.complete, []string{s.keys.record(key), s.keys.over, s.keys.held},
		text(token), micros(c.TTL), c.Holds, c.Response.Status, headers, c.Response.Body)
}

// Release implements [idempotency.Store].
func (s *IdempotencyStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.held(ctx, "release", s.scripts.release, []string{s.keys.record(key), s.keys.over}, text(token))
}

// held runs a script that needs the key to be held by the token, and answers ErrFenced if it is not, which the script says by 0.
func (s *IdempotencyStore) held(ctx context.Context, op string, script *goredis.Script, keys []string, args ...any) error {
	reply, err := s.run(ctx, script, keys, args...)
	if err == nil {
		var done bool
		if done, err = reply.Bool(); err == nil && !done {
			err = idempotency.ErrFenced
		}
	}
	if err != nil {
		return fmt.Errorf("redis: %s: %w", op, err)
	}
	return nil
}

func text(token idempotency.Token) string { return strconv.FormatUint(uint64(token), 10) }

// micros is at least one: what is positive stays so.
func micros(d time.Duration) int64 { return max(d.Microseconds(), 1) }
