package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var good = server{version: "8.4.0", autocommit: true, flush: 1, syncBinlog: 1, binlogFormat: "ROW", doublewrite: "ON"}

func TestServersThatWork(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.0.36", "8.4.0-commercial", "9.1.0", "10.6.0-MariaDB", "5.5.5-10.11.19-MariaDB-0+deb12u1", "11.4.2-MariaDB-log"} {
		s := good
		s.version = version
		require.NoError(t, s.check(), version)
	}
	mariaDB := server{version: "10.11.19-MariaDB", autocommit: true, flush: 3, doublewrite: "1"}
	require.NoError(t, mariaDB.check())
	require.Empty(t, mariaDB.unsafe())
	require.Empty(t, good.unsafe())
}

func TestServersThatDoNot(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*server){
		"MySQL 5.7.44, at least 8.0":            func(s *server) { s.version = "5.7.44" },
		"MariaDB 10.5.9-MariaDB, at least 10.6": func(s *server) { s.version = "10.5.9-MariaDB" },
		"autocommit":                            func(s *server) { s.autocommit = false },
		"read-only":                             func(s *server) { s.readOnly = true },
		"binlog_format is STATEMENT":            func(s *server) { s.binlog, s.binlogFormat = true, "STATEMENT" },
	} {
		s := good
		spoil(&s)
		require.ErrorContains(t, s.check(), want)
	}
}

func TestServersThatForget(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*server){
		"innodb_flush_log_at_trx_commit is 2":  func(s *server) { s.flush = 2 },
		"log_bin is on and sync_binlog is 100": func(s *server) { s.binlog, s.syncBinlog = true, 100 },
		"innodb_doublewrite is off":            func(s *server) { s.doublewrite = "OFF" },
	} {
		s := good
		spoil(&s)
		require.Equal(t, []string{want}, s.unsafe())
	}
}
