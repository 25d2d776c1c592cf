package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the server says of a statement is told by its SQLSTATE. Those below are told before the commit: nothing has been written.
// All other errors, lost connections above all, leave open what became of the transaction.

func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// isAccident tells whether the transaction failed because of others that ran beside it, and may be tried again.
func isAccident(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01", "26000": // serialization failure, deadlock, isUnprepared
		return true
	}
	return false
}

// isLost tells whether the connection was lost, or the server is just going down or coming up.
func isLost(err error) bool {
	if errors.Is(err, ErrNoConnection) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch state := sqlState(err); state {
	case "", "57P01", "57P02", "57P03":
		return true
	default:
		return strings.HasPrefix(state, "08")
	}
}

// isUnreachable tells whether no connection could be made.
func isUnreachable(err error) bool {
	var e *pgconn.ConnectError
	return errors.As(err, &e)
}

// isOrphan tells whether a start key was taken for an instance that could not be written, as somebody else has created one of
// the same names in this moment. When it is tried again, that one is seen.
func (n names) isOrphan(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23503" && e.SchemaName == n.schema && e.TableName == n.prefix+"start_keys"
}

// isLocked tells whether a lock of somebody else's was in the way for too long.
func isLocked(err error) bool { return sqlState(err) == "55P03" }

// isRejection tells whether the server refuses the values of a statement, as it would whenever it were tried.
func isRejection(err error) bool {
	state := sqlState(err)
	if len(state) != 5 {
		return false
	}
	switch state[:2] {
	case "22", "23", "44", "54", "P0": // bad data, constraint, check option, program limit, raised by a trigger
		return true
	}
	return false
}

// isUnprepared tells whether the session has forgotten a prepared statement: something between it and us has run DISCARD ALL, say.
func isUnprepared(err error) bool { return sqlState(err) == "26000" }
