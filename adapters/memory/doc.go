// Package memory keeps sagas, idempotency keys and participants' inboxes in the memory of the process. It is for tests, for
// trying things out, and for sagas that may die with the process: nothing survives it. It follows the same rules as the
// stores that do keep things, and passes the same conformance suites.
package memory
