// Package services tells tests where the servers are that they need.
//
//	url := services.Postgres.URL(t)
//
// The answer is the value of the service's environment variable, or its default. If nothing takes connections there, the test
// is skipped, or fails where SAGAMILL_REQUIRE_SERVICES=1 says that everything has to be there.
//
// A server is shared by all tests: each uses names of its own (see [Name]), and removes what it has made.
package services

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Service is a server that tests may need.
type Service struct {
	Variable string // of the environment
	Default  string // a URL with host and port
}

// The servers.
var (
	Postgres = Service{"SAGAMILL_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres"}
	MySQL    = Service{"SAGAMILL_MYSQL", "mysql://root@127.0.0.1:3306/"}
	Redis    = Service{"SAGAMILL_REDIS", "redis://127.0.0.1:6379/0"}
	RabbitMQ = Service{"SAGAMILL_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/"}
	NATS     = Service{"SAGAMILL_NATS", "nats://127.0.0.1:4222"}
)

// URL returns where the server is. It ends the test if it is not there.
func (s Service) URL(tb testing.TB) string {
	tb.Helper()
	address, err := s.reach()
	if err != nil {
		missing(tb, fmt.Sprintf("a server (%s says where)", s.Variable), err)
	}
	return address
}

// Program returns the path of a program, for tests that start servers of their own. It ends the test if it is not there.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, "a program", err)
	}
	return path
}

func missing(tb testing.TB, what string, err error) {
	tb.Helper()
	if os.Getenv("SAGAMILL_REQUIRE_SERVICES") == "1" {
		tb.Fatalf("the test needs %s: %v", what, err)
	}
	tb.Skipf("needs %s: %v", what, err)
}

func (s Service) reach() (address string, err error) {
	address = s.Default
	if set := os.Getenv(s.Variable); set != "" {
		address = set
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("%s is no URL: %w", s.Variable, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 3*time.Second)
	if err != nil {
		return "", err
	}
	return address, conn.Close()
}

// Name returns a name that no other test uses, in lower-case letters and digits.
func Name() string { return "t" + strings.ToLower(rand.Text()) }
