// Package leaktest fails the tests of a package that leave goroutines behind.
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
package leaktest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Message begins the line that tells of goroutines.
const Message = "goroutines left behind by the tests: "

// pgx gives a connection up in the background, and waits up to 15 seconds for a server that is busy. So long it is waited for.
const (
	givesUp  = "pgconn.(*PgConn).asyncClose"
	patience = 20 * time.Second
)

// Main runs the tests and ends the process.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		if err := find(givesUp, options...); err != nil {
			fmt.Printf("%s%v\n", Message, err)
			code = 1
		}
	}
	os.Exit(code)
}

// find looks for goroutines. It waits for those of one function.
func find(patientWith string, options ...goleak.Option) error {
	for begin := time.Now(); ; {
		err := goleak.Find(options...) // which waits by itself, some tenths of a second
		if err == nil || !strings.Contains(err.Error(), patientWith) || time.Since(begin) > patience {
			return err
		}
	}
}
