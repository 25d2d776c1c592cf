// Package operator serves sagas to the people who look after them, over HTTP: what is stuck and why, what happened, what can be done
// by hand.
//
//	desk, err := operator.Handler(orchestrator, operator.Config{Who: who})
//	...
//	mux.Handle("/sagas/", http.StripPrefix("/sagas", desk))
//
// Config.Who is where the service says whom it lets in; it is asked before anything else. What is changed goes into the saga's
// history under that name.
//
// # The calls
//
//	GET    /                      sagas, a page of them: see below
//	GET    /{id}                  one, with its steps, timers, events that wait, data, and what a compensation would undo now
//	GET    /{id}/history          all that happened to it: ?after=REVISION, ?limit=
//	POST   /{id}/operations       one of saga's verbs, done to it: {"verb": "skip-step", "step": "label", "why": "printed by hand"}
//	GET    /dead-letters          messages that no saga could be given, and why: ?after=ID, ?limit=
//	DELETE /dead-letters?id=ID    removes one that has been seen to
//
// Sagas are looked for by definition, key (the business key, exactly), key-prefix, state, settled (true, false), attention (true: those
// that need some), older-than and idle-for (durations, such as 90m). A page has limit of them (50; 500 at most), and next, which goes into
// after.
//
// Answers are JSON. With format=text sagas, histories and dead letters come as plain text, for a terminal:
//
//	$ curl -s 'localhost:8080/sagas/?attention=true&format=text'
//	$ curl -s 'localhost:8080/sagas/01997b2e-9d3c?format=text'
//	$ curl -s localhost:8080/sagas/01997b2e-9d3c/operations -d '{"verb": "retry-now", "step": "label", "why": "the printer is back"}'
//
// # Operations
//
// The members of an operation are those of [saga.Operation], in lower case: verb and why, and as the verb needs them step, data (JSON:
// of a saga whose codec writes something else they cannot be edited here), timer and in (a duration), to, source and id. An unknown member is refused. The answer is the saga as
// it is then. What makes no sense in its state is 409 with the reason, and changes nothing. If no answer comes, look at the history
// before you ask again: the operation may be on the record.
//
// What else is wrong is told as [RFC 9457] says: 400 what cannot be read, 403 whom Who does not let in, 404 what there is not, 413 a body
// beyond 1 MiB, 503 a store that does not answer, or an orchestrator that is closed. A browser's cross-origin request that would change
// something is 403, too.
//
// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
package operator
