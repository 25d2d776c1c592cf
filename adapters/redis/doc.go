// Package redis keeps idempotency keys in Redis: a store for idempotency.Middleware that many processes share, in front of the
// saga store.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true}) // of go-redis
//	keys, err := sagaredis.NewIdempotencyStore(ctx, client)
//	...
//	guard, err := idempotency.Middleware(keys, idempotency.Config{})
//
// # Redis is not the authority
//
// Redis answers a repeated request quickly, and keeps two processes from working on one request at the same time. It may
// forget: it acknowledges a write before the disk, and a replica, have it. So a request that must take effect once starts its
// saga by the request's own key (saga.RequestKey), which the saga store keeps in the transaction that creates the saga. Then
// Redis may be emptied, killed, evicting, rolled back or stalled at any moment, and there is at most one saga for each key, and
// each request is answered with that saga's response or told to come again (409 or 503, with Retry-After). When Redis
// does not answer, no handler runs.
//
// A handler whose effect is not idempotent by its request's key has nothing but Redis between it and a second effect. It
// needs the strictest settings below, and even they promise less than a database: use a store in the database instead.
//
// # Settings
//
// A server (Redis from 5.0 on, or Valkey), alone, behind Sentinel or in a cluster, and a client:
//
//	maxmemory-policy       noeviction. allkeys-* drops records when memory is short, and their requests run again. The policies
//	                       volatile-* do not touch the store, as none of its keys has a TTL of Redis's own.
//	appendonly             yes. With snapshots only, a restart forgets what came after the last one.
//	appendfsync            everysec: a crash of the machine forgets the last second or two; that of the process next to nothing.
//	                       always: nothing, at the price of a sync of the disk for each turn of the server.
//	                       no: commonly the last 30 seconds.
//	WaitReplicas (Option)  at least 1 if there are replicas: otherwise a failover forgets what had not reached the new primary.
//	                       Each call then waits for them, and fails without them: have one more than you wait for.
//	ContextTimeoutEnabled  true, of the client: otherwise a call outlasts its context, by up to all of the client's timeouts.
//
// [NewIdempotencyStore] asks for these settings ([IdempotencyStore.Check]) and logs a warning for each that will not do, or that a
// rented Redis does not tell. It does not refuse to work. The settings of replicas that may take over are not looked at.
//
// A user of the store needs these rights, and for the check +info and +config|get:
//
//	~{sagamill:idempotency}:* +evalsha +eval +time +get +set +del +unlink +hmget +hset +hdel +zadd +zrem +zrangebyscore +incr +wait
//
// Records are removed by [IdempotencyStore.Expire] alone. Call it every minute or so, in one of the processes:
//
//	removed, err := keys.Expire(ctx, 1000, orchestrator.Live)
//
// # What is in Redis
//
//	{sagamill:idempotency}:key:acme|POST /v1/orders|abc    a hash: token, until, fingerprint, and the response or the attempt
//	{sagamill:idempotency}:over                            a sorted set: which records Expire may remove, and when
//	{sagamill:idempotency}:held                            the same of those that hold a saga
//	{sagamill:idempotency}:token                           the last token
//	{sagamill:idempotency}:mark                            what WaitReplicas waits for
//
// Each call is one script, and that of Expire some; none looks through the keys of the server. A claim takes about 500 bytes of
// memory, a completed record about 1 kB and its response.
//
// The braces are a hash tag: Redis Cluster keeps all of these keys in one slot, hence on one server. Tokens that grow in the
// whole store need one counter, and a script can only touch what is on its server. One server does ten thousand calls a second and
// more. Where that is too little, give each tenant or route a store of its own by [WithPrefix]; tokens of
// different stores do not compare.
//
// A record has no TTL of Redis's own, though that would be the usual thing: a record that holds a live saga must not vanish, and
// Redis cannot ask; and a key without a TTL is safe from the policies volatile-*.
//
// # Time and tokens
//
// Leases and TTLs are judged by the server's clock (TIME), in microseconds. The clocks of the processes do not matter.
//
// A token is the greatest of three: the last one plus one, by the counter; the server's time in microseconds; and the greatest
// token that the asking process has seen, plus one. So tokens keep growing
//
//   - when a record is removed, whyever: the counter belongs to no record and is never removed;
//   - when the counter is lost as well (FLUSHALL, eviction, a restart without data, an old snapshot, a failover to a replica that was
//     behind): the time has gone on meanwhile;
//   - when the clock falls back besides: for a process that has seen the greater token, and for all others after its next claim.
//
// What remains: the counter is lost, the clock of the server that goes on is behind by more than the time that passed since, and
// none of the processes that ask has seen the tokens that were lost. Let the machines keep their clocks in step. A store that sees from a
// token that Redis has forgotten something logs a warning.
//
// Tokens are of this store. That of another kind begins lower, so whoever compares tokens must begin anew after a change.
//
// # What is promised, and what is not
//
// While the server keeps what it has, the rules of [idempotency.Store] hold: the package passes idempotencytest, alone, in a
// cluster and with replicas. Beyond that:
//
//	a process dies                     its claim lapses at the end of the lease; then another may take the key over
//	a process is paused                after a takeover each of its writes is answered ErrFenced
//	the answer of a call is lost       the client sends it again; Begin knows its own claim, Renew and Complete may be repeated, and
//	                                   Release may answer ErrFenced though it has released
//	Redis is killed, and started       with appendfsync always nothing is forgotten. Otherwise what is forgotten runs again when it
//	                                   is repeated, and a claim in progress is fenced: its request is answered 409
//	Redis is away, or short of memory  an error, so 503. Claims last on: a response that cannot be stored goes to its client
//	                                   all the same, and the repeated request runs again when the lease is over
//	failover                           with WaitReplicas what was answered is there, as long as a replica takes over that was
//	                                   waited for; without, as after a restart that forgets
//	network partition                  a primary that is cut off goes on answering until it notices. With WaitReplicas it answers
//	                                   errors only, unless so many replicas are cut off with it; without, its setting
//	                                   min-replicas-to-write bounds that time
//	[ErrNotReplicated]                 the call took effect on the primary, and perhaps nowhere else. A claim is given back
//	the cluster moves the slot         errors (503) while the keys are on two servers, nothing is lost
//
// Not promised:
//
//   - That Redis keeps what it answered. WAIT makes it likelier, not certain: Redis is not a consensus system, and [its manual] says so.
//   - That a token of an older state is bad after a rollback. When Redis falls back to a state in which a claim was
//     in progress, that claim's token is good again, and its key is taken until the lease is over; and a request that was
//     mended meanwhile under the same key is answered 422, until the old claim is abandoned.
//   - That at most one handler works under a key at any time. A lease is not a lock that one may rely on: a process may be paused for
//     longer than its lease and go on, believing that it has the key. [Kleppmann] shows why no lease can prevent that, and that
//     whoever is written to has to compare tokens. The store does, for its own records. What a handler writes elsewhere is as safe
//     as the other side makes it: by comparing idempotency.Request.Token, or by being idempotent by the key. A saga store is.
//   - Anything about a client that asks another server when one is down: a Ring is refused.
//
// About what Redis keeps, read its manual on [persistence], [replication] and [eviction].
//
// [its manual]: https://redis.io/docs/latest/commands/wait/#consistency-and-wait
// [Kleppmann]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
// [persistence]: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
// [replication]: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/
// [eviction]: https://redis.io/docs/latest/develop/reference/eviction/
package redis
