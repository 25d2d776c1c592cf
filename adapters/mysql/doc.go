// Package mysql keeps sagas, idempotency keys and participants' inboxes in MySQL or MariaDB, with database/sql and the driver
// github.com/go-sql-driver/mysql.
//
//	pool, err := sql.Open("mysql", "user:password@tcp(host:3306)/shop?interpolateParams=true")
//	db, err := mysql.Open(ctx, pool)            // makes the tables
//	store := mysql.NewStore(db)                 // saga.Store
//	keys := mysql.NewIdempotencyStore(db)       // idempotency.Store
//	inbox := mysql.NewInbox(db)                 // saga.Inbox[*sql.Tx]
//
// Each may be used without the others; the tables of all three are made. MariaDB 10.6 or MySQL 8.0 or later is needed. Tests run
// on MariaDB 10.11; the statements are such as both know, but no MySQL was at hand to run them on.
//
// # Your own transactions
//
// [Store.In] starts sagas in a transaction of yours: the saga begins exactly if that commits. A participant's handlers get the
// transaction in which the [Inbox] records the reply.
//
// # Tables
//
// They are in the database (schema) that the connections use, and their names begin with "sagamill_"; [WithSchema] and
// [WithPrefix] change that. Open makes them, and any number of processes may do that at once. Where applications must not create
// tables, give a DBA what [Migrations] returns; the application then needs SELECT, INSERT, UPDATE and DELETE on them. Texts are
// kept as bytes, since collations take different keys for the same. The view sagamill_sagas is for people: it shows texts as such,
// and what the engine and your codec have stored as JSON.
//
// IDs, names of definitions and states have up to 255 bytes, business keys and the identities of inputs 1024. What is longer, or
// larger than max_allowed_packet lets through, is refused, alone and whatever the sql_mode is.
//
// # What is promised
//
// All that [saga.Store], [idempotency.Store] and [saga.Inbox] promise, by the suites that go with them, also when
//
//   - the server gives up transactions because of deadlocks: they are tried again, and no saga ever hears of them;
//   - connections break or the server restarts at any moment: calls return errors meanwhile, and the engine goes on when it is back;
//   - the answer to a COMMIT is lost: Commit returns an error then, never a verdict that may be wrong, and the engine reads back what
//     became of it;
//   - somebody's open transaction has a row or a key locked: that instance alone is Busy, and comes again. It is not waited for,
//     with one exception: a key that is claimed in the moment between the look at it and the claim is, as long as
//     innodb_lock_wait_timeout says (50 seconds by default; 5 are plenty);
//   - the pool has no connection free: after [WithAcquireTimeout] the call returns [ErrNoConnection]. No call needs two of them
//     at once.
//
// Time is the server's: clocks of processes, and time zones of sessions, do not matter.
//
// # Settings that matter
//
// interpolateParams=true in the DSN halves the round trips: without it the driver prepares each statement, and closes it.
//
// What is committed must stay: innodb_flush_log_at_trx_commit must be 1, innodb_doublewrite on and, where there is a binary log,
// sync_binlog 1 (MariaDB's default is 0), or Open returns [ErrUnsafe]. With a replica that may take over, what is committed has
// to be there as well (semi-synchronous replication), otherwise a failover forgets the last transitions, while their effects
// outside remain. Of a cluster in which several servers take writes (Galera, Group Replication in multi-primary mode) use one: locks
// and the counter of fencing tokens are a server's own.
//
// The pool should have room for the lanes of the orchestrator (4), for as many handlers of participants as may run at once, and
// for your own queries; give it as many idle connections (SetMaxIdleConns), or it keeps opening new ones. Isolation is READ COMMITTED
// in all transactions of the stores, whatever the default of the sessions is.
//
// # What a saga costs
//
// A transition writes one row of history and one of the instance; indexes are written, too, if it settles the instance, brings
// the wake-up time forward or changes whether the instance needs attention. A saga of n local steps takes n + 1 transitions. The
// transitions of many instances share a commit, with six round trips to the server. A start key is a row more, so are an
// idempotency key and the reply to a command.
//
// # Retention
//
// Nothing is deleted by itself. [saga.Clean] removes finished instances in small batches, with their history and start keys;
// [IdempotencyStore.Expire] removes keys that are over, and [Inbox.Expire] replies that nobody will ask for. Call them now and
// then.
package mysql
