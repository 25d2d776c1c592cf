// Package sagamill is durable saga orchestration for Go services, on Watermill: sagas that survive any crash, in the
// database and on the broker that a service already has, without a server to run.
//
// The packages, in the order in which to read them:
//
//   - [github.com/sagamill/sagamill/saga]: definitions, the orchestrator, participants. Start here.
//   - [github.com/sagamill/sagamill/adapters/sqlite], [github.com/sagamill/sagamill/adapters/memory]: where state is kept.
//   - [github.com/sagamill/sagamill/adapters/gochannel]: messages within one process.
//   - [github.com/sagamill/sagamill/idempotency]: idempotency keys for HTTP handlers.
//   - [github.com/sagamill/sagamill/statemachine] and [github.com/sagamill/sagamill/compensation]: the pure parts, usable alone.
package sagamill
