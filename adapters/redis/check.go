package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Warning says that a setting, of the server or of the client, weakens what the store promises.
type Warning struct {
	Setting string
	Value   string // empty if it could not be asked for
	Problem string
}

func (w Warning) String() string {
	if w.Value == "" {
		return w.Setting + ": " + w.Problem
	}
	return w.Setting + " is " + w.Value + ": " + w.Problem
}

// Check asks the server for the settings that the package documentation asks for, and answers what is amiss. What the server does
// not tell, as it is with many that are rented, is a warning as well. In a cluster it asks the server that has the store's
// slot. The error is that of a server that does not answer.
func (s *IdempotencyStore) Check(ctx context.Context) ([]Warning, error) {
	warnings := s.judgeClient()
	var asked goredis.Cmdable = s.client
	if c, ok := s.client.(*goredis.ClusterClient); ok {
		node, err := c.MasterForKey(ctx, s.keys.counter)
		if err != nil {
			return warnings, fmt.Errorf("redis: check: %w", err)
		}
		asked = node
	}
	text, err := asked.Info(ctx).Result()
	if refused(err) {
		return append(warnings, Warning{Setting: "INFO", Problem: fmt.Sprintf("the server refuses to tell its settings (%v): see that they are as they must be", err)}), nil
	}
	if err != nil {
		return warnings, fmt.Errorf("redis: check: %w", err)
	}
	f := facts{info: parseInfo(text), replicas: s.replicas}
	_, f.clusterClient = s.client.(*goredis.ClusterClient)
	if f.info["aof_enabled"] == "1" && f.info["loading"] != "1" {
		config, err := asked.ConfigGet(ctx, "appendfsync").Result()
		if err != nil && !refused(err) {
			return warnings, fmt.Errorf("redis: check: %w", err)
		}
		f.appendfsync = config["appendfsync"] // INFO does not have it
	}
	return append(warnings, f.judge()...), nil
}

// warn logs what Check finds.
func (s *IdempotencyStore) warn(ctx context.Context) {
	warnings, err := s.Check(ctx)
	for _, w := range warnings {
		s.logger.WarnContext(ctx, "redis: "+w.String(), "prefix", s.prefix, "setting", w.Setting, "value", w.Value)
	}
	if err != nil {
		s.logger.WarnContext(ctx, "redis: the server's settings could not be checked", "prefix", s.prefix, "error", err)
	}
}

// refused tells whether the server answered, with an error.
func refused(err error) bool {
	var answer goredis.Error
	return errors.As(err, &answer)
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	return info
}

func (s *IdempotencyStore) judgeClient() []Warning {
	var all []Warning
	var heedsContext bool
	var readTimeout time.Duration
	switch c := s.client.(type) {
	case *goredis.Client:
		heedsContext, readTimeout = c.Options().ContextTimeoutEnabled, c.Options().ReadTimeout
	case *goredis.ClusterClient:
		heedsContext, readTimeout = c.Options().ContextTimeoutEnabled, c.Options().ReadTimeout
	default: // of the user's own making
		return nil
	}
	if !heedsContext {
		all = append(all, Warning{"ContextTimeoutEnabled", "false",
			"a call that gets no answer lasts longer than its context, up to all of the client's timeouts and retries; set it in the client's options"})
	}
	if s.replicas > 0 && 0 < readTimeout && readTimeout <= s.wait {
		all = append(all, Warning{"ReadTimeout", readTimeout.String(), "the client gives up before WaitReplicas does"})
	}
	return all
}

// facts are what a server tells of itself.
type facts struct {
	info          map[string]string
	appendfsync   string // empty: it would not tell
	replicas      int    // that the store waits for
	clusterClient bool
}

func (f facts) judge() []Warning {
	var all []Warning
	add := func(setting, value, problem string, args ...any) {
		all = append(all, Warning{setting, value, fmt.Sprintf(problem, args...)})
	}
	if version := f.info["redis_version"]; tooOld(version) {
		add("redis_version", version, "the scripts need 5.0 or later")
	}
	if f.info["cluster_enabled"] == "1" && !f.clusterClient {
		add("cluster-enabled", "yes", "the client is not a ClusterClient, and fails once the store's slot is on another server")
	}
	if f.info["role"] == "slave" {
		add("role", "replica", "a replica refuses writes, so each call will fail; connect to the primary, or through Sentinel")
	}
	switch policy := f.info["maxmemory_policy"]; {
	case policy == "":
		add("maxmemory-policy", "", "could not be checked; it must be noeviction")
	case strings.HasPrefix(policy, "allkeys-"):
		add("maxmemory-policy", policy, "when memory is short the server drops records, and their requests run again; set noeviction")
	}
	f.judgePersistence(add)
	f.judgeReplicas(add)
	return all
}

func (f facts) judgePersistence(add func(setting, value, problem string, args ...any)) {
	if f.info["loading"] == "1" { // with its own AOF off meanwhile
		add("appendonly", "", "could not be checked, as the server is loading its data; it must be yes")
		return
	}
	switch f.info["aof_enabled"] {
	case "1":
	case "0":
		add("appendonly", "no", "a restart forgets what came after the last snapshot, or everything, and those requests run again; set yes")
		return
	default:
		add("appendonly", "", "could not be checked; it must be yes")
		return
	}
	switch f.appendfsync {
	case "":
		add("appendfsync", "", "could not be checked; it must be everysec or always")
	case "no":
		add("appendfsync", "no", "a crash of the machine forgets what the operating system had not written yet, commonly of 30 seconds; set everysec or always")
	}
}

func (f facts) judgeReplicas(add func(setting, value, problem string, args ...any)) {
	if f.info["role"] == "slave" {
		return
	}
	connected, err := strconv.Atoi(f.info["connected_slaves"])
	switch {
	case err != nil:
		add("connected_slaves", "", "could not be checked; if there are replicas, set WaitReplicas")
	case connected > 0 && f.replicas == 0:
		add("WaitReplicas", "0", "there are %d replicas, and a failover forgets what had not reached the one that takes over; set 1 or more", connected)
	case connected < f.replicas:
		add("WaitReplicas", strconv.Itoa(f.replicas), "only %d replicas are connected, so each call will fail", connected)
	}
}

// tooOld tells whether a version is too old.
func tooOld(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 5
}
