package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// ErrNotReplicated is answered with [WaitReplicas] when too few replicas have confirmed a call in time. It took effect on the
// primary, and may be lost or not; a claim is given back if that can be done.
var ErrNotReplicated = errors.New("redis: not confirmed by enough replicas")

// run runs a script, and waits until it is on as many replicas as there must be. With an [ErrNotReplicated] there is the script's
// reply all the same.
func (s *IdempotencyStore) run(ctx context.Context, script *goredis.Script, keys []string, args ...any) (*goredis.Cmd, error) {
	reply, err := s.runOnce(ctx, script, keys, args)
	if c, ok := s.client.(*goredis.ClusterClient); ok && err != nil {
		c.ReloadState(ctx) // otherwise it goes on asking a server that is dead for a minute
	}
	return reply, err
}

func (s *IdempotencyStore) runOnce(ctx context.Context, script *goredis.Script, keys []string, args []any) (*goredis.Cmd, error) {
	if s.replicas == 0 {
		reply := script.Run(ctx, s.client, keys, args...)
		return reply, reply.Err()
	}
	reply, err := s.runReplicated(ctx, script.EvalSha, keys, args)
	if errors.Is(err, goredis.ErrNoScript) || goredis.HasErrorPrefix(err, "NOSCRIPT") {
		return s.runReplicated(ctx, script.Eval, keys, args)
	}
	return reply, err
}

type eval func(ctx context.Context, c goredis.Scripter, keys []string, args ...any) *goredis.Cmd

func (s *IdempotencyStore) runReplicated(ctx context.Context, eval eval, keys []string, args []any) (*goredis.Cmd, error) {
	node, err := s.primary(ctx)
	if err != nil {
		reply := goredis.NewCmd(ctx)
		reply.SetErr(err)
		return reply, err
	}
	// WAIT confirms what its own connection wrote. The mark is such a write also where the script only read: what an answer
	// tells must not be lost either, whoever wrote it.
	pipe := node.Pipeline()
	reply := eval(ctx, pipe, keys, args...)
	mark := pipe.Incr(ctx, s.keys.mark)
	confirmed := pipe.Do(ctx, "wait", s.replicas, s.wait.Milliseconds())
	_, _ = pipe.Exec(ctx) // each has its error
	if err := reply.Err(); err != nil {
		return reply, err
	}
	for _, err := range []error{mark.Err(), confirmed.Err()} {
		if err != nil {
			return reply, fmt.Errorf("%w: %w", ErrNotReplicated, err)
		}
	}
	if n, err := confirmed.Int(); err != nil || n < s.replicas {
		return reply, fmt.Errorf("%w: by %d of %d within %s", ErrNotReplicated, n, s.replicas, s.wait)
	}
	return reply, nil
}

// primary answers the client of the server that has the store's slot.
func (s *IdempotencyStore) primary(ctx context.Context) (*goredis.Client, error) {
	switch c := s.client.(type) {
	case *goredis.Client:
		return c, nil
	case *goredis.ClusterClient:
		return c.MasterForKey(ctx, s.keys.counter)
	}
	return nil, fmt.Errorf("redis: a %T does not tell which server it asks", s.client)
}
