package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"
)

// What the server says of a statement is told by its number (the same in MySQL and MariaDB, where both have it). All but those
// below, lost connections above all, leave open what became of the transaction.

func number(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// isAccident tells whether the transaction failed because of others that ran beside it, and may be tried again.
func isAccident(err error) bool {
	switch number(err) {
	case 1213, 1020: // deadlock; record has changed since it was read (MariaDB, innodb_snapshot_isolation)
		return true
	}
	return false
}

// isLocked tells whether a lock of somebody else's was in the way.
func isLocked(err error) bool {
	switch number(err) {
	case 1205, 3572: // lock wait time-out, also for NOWAIT in MariaDB; NOWAIT in MySQL
		return true
	}
	return false
}

// isTaken tells whether a row of the same key is there.
func isTaken(err error) bool {
	switch number(err) {
	case 1062, 1586:
		return true
	}
	return false
}

// isRejection tells whether the server refuses the values of a statement, as it would whenever it were tried.
func isRejection(err error) bool {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) || isTaken(err) {
		return false
	}
	switch e.Number {
	case 1118, 1153, 1366, 1364, 3819, 4025: // row or packet too large, incorrect or missing value, check violated
		return true
	}
	return slices.Contains([]string{"22", "23", "44", "45"}, string(e.SQLState[:2])) // bad data, constraint, check option, SIGNAL
}

// isLost tells whether the connection was lost, or the server is just going down or coming up.
func isLost(err error) bool {
	switch {
	case err == nil, errors.Is(err, ErrNoConnection), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	switch number(err) {
	case 0, 1040, 1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031:
		return true // no answer of the server's, too many connections, shutting down, network, killed, idle for too long
	}
	return false
}

// isStale tells whether a connection of the pool was found to be dead before anything was sent on it.
func isStale(err error) bool { return errors.Is(err, driver.ErrBadConn) }

// ErrRolledBack says that the server has rolled back the whole transaction of the user's, because of a deadlock for instance:
// it is to be run again from its beginning.
var ErrRolledBack = errors.New("the server has rolled back the transaction")

// isRolledBack tells whether a savepoint is not there any more.
func isRolledBack(err error) bool { return number(err) == 1305 }
