// Package postgres keeps sagas, idempotency keys and participants' inboxes in PostgreSQL, with the driver pgx.
//
//	pool, err := pgxpool.New(ctx, "postgres://...")
//	db, err := postgres.Open(ctx, pool)            // makes the tables
//	store := postgres.NewStore(db)                 // saga.Store
//	keys := postgres.NewIdempotencyStore(db)       // idempotency.Store
//	inbox := postgres.NewInbox(db)                 // saga.Inbox[pgx.Tx]
//
// Each may be used without the others; the tables of all three are made. PostgreSQL 13 or later is needed, tests run on 15.
//
// # Your own transactions
//
// [Store.In] starts sagas in a transaction of yours: the saga begins exactly if that commits.
//
//	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, `INSERT INTO orders ...`); err != nil {
//			return err
//		}
//		_, kick, err = placeOrder.StartIn(ctx, orchestrator, store.In(tx), saga.StartParams[Order]{Key: id, Data: order})
//		return err
//	})
//	kick() // once it is committed
//
// [Store.InSQL] does the same for database/sql. A participant's handlers get the transaction in which the [Inbox] records the
// reply.
//
// # Tables
//
// They are in the schema "public", and their names begin with "sagamill_"; [WithSchema] and [WithPrefix] change that. Open
// makes them, and any number of processes may do that at once. Where applications must not create tables, give a DBA what
// [Migrations] returns; the application then needs USAGE on the schema, SELECT, INSERT, UPDATE and DELETE on the tables, USAGE and
// SELECT on the sequence. The view sagamill_sagas is for people: it shows what the engine and your codec have stored as JSON.
//
// Nothing in the tables refers to the server they are on: they can be dumped, restored elsewhere and replicated. Of a copy
// that is not up to date holds what holds of any database: what it lacks has not happened.
//
// # What is promised
//
// All that [saga.Store], [idempotency.Store] and [saga.Inbox] promise, by the suites that go with them, also when
//
//   - the server gives up transactions because of deadlocks or serialization failures: they are tried again, and no saga ever hears of
//     them;
//   - connections break or the server restarts at any moment: calls return errors meanwhile, and the engine goes on when it is back;
//   - the answer to a COMMIT is lost: Commit returns an error then, never a verdict that may be wrong, and the engine reads back what
//     became of it;
//   - somebody's open transaction has a row or a key locked: after [WithLockTimeout] that instance alone is Busy, and comes again;
//   - the pool has no connection free: after [WithAcquireTimeout] the call returns [ErrNoConnection]. No call needs two of them
//     at once.
//
// Time is the server's: clocks of processes do not matter.
//
// # Settings that matter
//
// What is committed must stay: fsync, full_page_writes and synchronous_commit must not be off, or Open returns [ErrUnsafe].
// With a standby that may take over, what is committed has to be there as well: make its replication synchronous
// (synchronous_standby_names), otherwise a failover forgets the last transitions, while their effects outside remain.
//
// The pool should have room for the lanes of the orchestrator (4), for as many handlers of participants as may run at once,
// and for your own queries; max_connections for the pools of all processes. Isolation is READ COMMITTED in all transactions
// of the stores, whatever the default of the sessions is. Poolers that give a connection for each transaction (PgBouncer) work
// if they keep prepared statements, or with pgx's QueryExecModeExec.
//
// A lock of a whole table, as ALTER TABLE and VACUUM FULL take it, stops everything as long as it lasts.
//
// # What a saga costs
//
// A transition writes one row of history and one of the instance, which is a HOT update unless it settles the instance, brings the
// wake-up time forward or changes whether the instance needs attention: then the indexes have to be written, too. A saga of n
// local steps takes n + 1 transitions. The transitions of many instances share a commit; an idle system commits each at once.
// Data that did not change are not written again, however large they are. A start key is a row more, so are an idempotency
// key and the reply to a command.
//
// # Retention
//
// Nothing is deleted by itself. [saga.Clean] removes finished instances in small batches, with their history and start keys;
// [IdempotencyStore.Expire] removes keys that are over, and [Inbox.Expire] replies that nobody will ask for. Call them now and
// then.
package postgres
