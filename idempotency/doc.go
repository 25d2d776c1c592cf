// Package idempotency makes a request that is sent twice take effect once.
//
// A client that hears nothing does not know whether its order was placed, so it asks again; a user whose network is slow
// clicks twice. Such a client names its request with a key of its own choice, and [Middleware] answers the second request
// with the response of the first:
//
//	keys := sqlite.NewIdempotencyStore(db) // or memory.NewIdempotencyStore()
//	guard, err := idempotency.Middleware(keys, idempotency.Config{})
//	...
//	mux.Handle("POST /v1/orders", guard(placeOrder))
//
// # What the client sees
//
// The behaviour is that of the IETF draft [The Idempotency-Key HTTP Header Field], version 07, and of [Stripe's API] where
// the draft leaves the choice. Each answer but the stored one is application/problem+json ([RFC 9457]).
//
//	Idempotency-Key missing, malformed, or sent twice        400
//	new key                                                  the handler runs; its response is stored, then sent
//	known key, same request, still running                   409, with Retry-After
//	known key, same request, done                            the stored response, and Idempotent-Replayed: true
//	known key, another request                               422
//	body beyond Config.MaxBody                               413
//	the store cannot be asked                                503, with Retry-After; the handler does not run
//
// A key belongs to a tenant and a route: the same key of another tenant, or for another call, is another key. A request
// is the same if tenant, route, method, path, query, Content-Type and body are, byte by byte. A key is a string of
// [RFC 9651], or bare as most clients send it: see [ParseKey]. Requests that change nothing by definition (GET, HEAD,
// OPTIONS, TRACE) need no key and pass through.
//
// # What is stored
//
// Success, redirects and final refusals are: 2xx, 3xx, 402, 404, 409, 410, 451. A request refused as invalid (400, 401, 403,
// 412, 415, 422, 428 and so on), over limit (429) or to be sent again (408, 425) leaves its key free, so that the client can
// mend it and send it again under the same key. So do 5xx, a panic of the handler, and a handler that returned without a response
// because its context was cancelled. [DefaultKeep] is this rule, Config.Keep replaces it: Stripe stores 500 as well.
//
// Leaving the key free after a failure means that the handler runs again, perhaps after an effect of its first run. So
// what a handler begins must itself be idempotent by the same key: start the saga with the start key
// [Key.String], or give a system outside a key derived from it. [FromContext] has the key and the fingerprint. The record
// of this package answers most duplicates without running any logic; it is not the last line of defence.
//
// Only the headers named in Config.Headers are stored. Set-Cookie, Date and the like belong to one answer, not to all.
//
// # Leases and fencing
//
// While a handler runs, its key is claimed for Config.Lease, and the claim is renewed every third of that. A process
// that dies stops renewing, so the next request takes the key over after at most that time. A process that was only
// paused may come back after its key was taken over. It holds an older [Token] (a fencing token, as Kleppmann describes
// in [How to do distributed locking]) and each write of it is answered with [ErrFenced]: its handler's context is
// cancelled with that cause, its response is dropped and its client is told to ask again, so there is one response per
// key. Tokens only grow, in the whole store, also when records are removed; a handler may pass its token on to systems
// that can compare.
//
// # Expiry
//
// A stored response is kept for Config.TTL. If the handler named what it began with [Hold], the record stays until that is
// settled as well: [Store.Expire] asks. Run it every minute or so, until it removes less than its limit:
//
//	removed, err := keys.Expire(ctx, 1000, live)
//
// A claim that nobody completed or took over is removed [AbandonedAfter] its lease.
//
// # Limits
//
// The response is held in memory until it is stored, at most Config.MaxResponse of it, and sent after that: the writer
// that a handler gets offers no Flusher, Hijacker, trailers or informational (1xx) responses. Wrap no streams and no
// web sockets. If the response cannot be stored because the store failed meanwhile, the client gets it all the same,
// the failure is logged and given to Config.OnError, and a duplicate that comes after the lease runs the handler again.
// The client hanging up cancels the handler's context, as always in net/http, but not the storing of what it answered.
//
// Authenticate before this middleware and derive the tenant from the identity (Config.Tenant): who knows another's
// tenant and key would read the stored response.
//
// # Stores
//
// [Store] is five methods; adapters/memory and adapters/sqlite have one each. [Record] has their rules for those that
// read a record, judge it and write it back in one transaction, and package idempotencytest tests whether a store keeps
// the promises.
//
// # Problem key-missing
//
// 400. Send the header Idempotency-Key, with a value that is new for each new request: a UUID, say.
//
// # Problem key-malformed
//
// 400. A key is 1 to 255 visible ASCII characters, quoted or not, in one header line.
//
// # Problem tenant-invalid
//
// 400. The tenant cannot be told from the request. By default it is the value of the header Tenant-ID.
//
// # Problem request-unreadable
//
// 400. The body ended early or the target of the request is too long to be kept. Send the request again as a whole.
//
// # Problem body-too-large
//
// 413. Send a smaller body.
//
// # Problem key-reused
//
// 422. The key was used for another request of this tenant and route. Use a new key for a new request; repeat the old one
// byte by byte to get its response.
//
// # Problem request-in-flight
//
// 409. The first request under this key is still being worked on. Send the same again after Retry-After.
//
// # Problem store-unavailable
//
// 503. Nothing was done. Send the same request again after Retry-After.
//
// # Problem request-interrupted
//
// 503. The request was cancelled before there was a response, and may have taken effect. Send the same request again after
// Retry-After.
//
// # Problem response-too-large
//
// 500. The response is too large to be stored. The server's operator has to raise Config.MaxResponse.
//
// [The Idempotency-Key HTTP Header Field]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07
// [Stripe's API]: https://docs.stripe.com/api/idempotent_requests
// [RFC 9651]: https://www.rfc-editor.org/rfc/rfc9651#name-strings
// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
// [How to do distributed locking]: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
package idempotency
