package redis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/internal/leaktest"
	"github.com/sagamill/sagamill/internal/services"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(unlogged{}) // the servers are killed on purpose
	leaktest.Main(m)
}

type unlogged struct{}

func (unlogged) Printf(context.Context, string, ...any) {}

// server is a Redis of the test's own, which it may kill and start again.
type server struct {
	tb       testing.TB
	dir      string
	settings []string
	address  string // of a socket, or host:port

	process *exec.Cmd
	life    io.Closer // the process is killed when it is closed, also by the end of this process
}

// newServer starts a server on a socket. Settings are those of redis.conf, as arguments; by default nothing is kept on disk.
func newServer(tb testing.TB, settings ...string) *server {
	tb.Helper()
	s := newServerAt(tb, "")
	s.settings = append([]string{"--port", "0", "--unixsocket", s.address, "--save", "", "--appendonly", "no"}, settings...)
	s.start()
	return s
}

// newServerAt prepares a server, on a socket if there is no port.
func newServerAt(tb testing.TB, port string) *server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "redis") // a socket's path must be short, that of tb.TempDir may not be
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	s := &server{tb: tb, dir: dir, address: filepath.Join(dir, "socket")}
	if port != "" {
		s.address = "127.0.0.1:" + port
	}
	tb.Cleanup(s.kill)
	return s
}

// start starts the server, and waits until it answers.
func (s *server) start() {
	s.tb.Helper()
	program := services.Program(s.tb, "redis-server")
	args := append([]string{"-c", `"$@" & read line; kill -9 $!; wait`, "sh", program, "--dir", s.dir, "--loglevel", "warning"}, s.settings...)
	s.process = exec.Command("sh", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(s.tb, err)
	defer func() { require.NoError(s.tb, log.Close()) }()
	s.process.Stdout, s.process.Stderr = log, log
	s.life, err = s.process.StdinPipe()
	require.NoError(s.tb, err)
	require.NoError(s.tb, s.process.Start())
	s.await()
}

// await waits until the server has loaded its data.
func (s *server) await() {
	s.tb.Helper()
	client := s.client()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 20*time.Second)
	defer cancel()
	for {
		config, err := client.ConfigGet(ctx, "dir").Result()
		if err == nil {
			require.Equal(s.tb, s.dir, config["dir"], "another server has the port")
			return
		}
		if ctx.Err() != nil {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.tb.Fatalf("redis-server does not answer: %v\n%s", err, text)
		}
		time.Sleep(5 * time.Millisecond) // the server is another process, which tells nobody that it is ready
	}
}

// kill kills the server (SIGKILL).
func (s *server) kill() {
	if s.process == nil {
		return
	}
	_ = s.life.Close()
	_ = s.process.Wait()
	s.process = nil
}

// file is a file in the server's directory.
func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// options are those of a client as the manual wants it.
func (s *server) options() *goredis.Options {
	network := "tcp"
	if strings.HasPrefix(s.address, "/") {
		network = "unix"
	}
	return &goredis.Options{Network: network, Addr: s.address, ContextTimeoutEnabled: true}
}

func (s *server) client(configure ...func(*goredis.Options)) *goredis.Client {
	o := s.options()
	for _, c := range configure {
		c(o)
	}
	client := goredis.NewClient(o)
	s.tb.Cleanup(func() { require.NoError(s.tb, client.Close()) })
	return client
}

// configure changes settings of the running server: names and values.
func (s *server) configure(settings ...string) {
	s.tb.Helper()
	client := s.client()
	for i := 0; i < len(settings); i += 2 {
		require.NoError(s.tb, client.ConfigSet(s.tb.Context(), settings[i], settings[i+1]).Err())
	}
}

// replicate makes s a replica of the primary, and waits until they are in step.
func (s *server) replicate(primary *server) {
	s.tb.Helper()
	host, port, err := net.SplitHostPort(primary.address)
	require.NoError(s.tb, err)
	client := s.client()
	require.NoError(s.tb, client.Do(s.tb.Context(), "replicaof", host, port).Err())
	await(s.tb, "the replica is in step", func() bool {
		return strings.Contains(client.Info(s.tb.Context(), "replication").Val(), "master_link_status:up")
	})
}

// promote makes a replica a primary.
func (s *server) promote() {
	s.tb.Helper()
	require.NoError(s.tb, s.client().Do(s.tb.Context(), "replicaof", "no", "one").Err())
}

// newTCPServer starts a server on a port: replicas and clusters need one.
func newTCPServer(tb testing.TB, settings ...string) *server {
	tb.Helper()
	s := newServerAt(tb, freePort(tb))
	_, port, _ := net.SplitHostPort(s.address)
	s.settings = append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}, settings...)
	s.start()
	return s
}

// freePort is a port that nobody listens on, nor on that of the cluster's bus, 10000 above. Neither is of those that systems give to
// outgoing connections.
func freePort(tb testing.TB) string {
	tb.Helper()
	for range 1000 {
		port := 10_000 + rand.N(12_000)
		if isFree(port) && isFree(port+10_000) {
			return strconv.Itoa(port)
		}
	}
	tb.Fatal("no free port")
	return ""
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	return err == nil && l.Close() == nil
}

// await waits for something that another process does.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for began := time.Now(); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			tb.Fatalf("waited for 30s: %s", what)
		}
	}
}

// sharedClient is a client of the server that all tests share.
func sharedClient(tb testing.TB) *goredis.Client {
	tb.Helper()
	o, err := goredis.ParseURL(services.Redis.URL(tb))
	require.NoError(tb, err)
	o.ContextTimeoutEnabled = true
	client := goredis.NewClient(o)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client
}

// newPrefix is a prefix of the test's own; the keys that begin with it are removed in the end.
func newPrefix(tb testing.TB, client *goredis.Client) string {
	tb.Helper()
	prefix := services.Name()
	tb.Cleanup(func() {
		ctx := context.Background()
		var all []string
		for keys := client.Scan(ctx, 0, fmt.Sprintf("{%s}*", prefix), 1000).Iterator(); keys.Next(ctx); {
			all = append(all, keys.Val())
		}
		if len(all) > 0 {
			require.NoError(tb, client.Unlink(ctx, all...).Err())
		}
	})
	return prefix
}

// silent drops what it is told.
var silent = slog.New(slog.DiscardHandler)
