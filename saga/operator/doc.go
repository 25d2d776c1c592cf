// Package operator serves sagas to the people who look after them, over HTTP: what is stuck and why, what happened, what can be done
// by hand.
//
//	desk, err := operator.Handler(orchestrator, operator.Config{Who: who})
//	...
//	mux.Handle("/operator/", http.StripPrefix("/operator", desk))
//
// Config.Who is where the service says whom it lets in; it is asked with each call. What is changed goes into the saga's history under
// that name.
//
// # The calls
//
//	GET    /sagas                    sagas, a page of them: see below
//	GET    /sagas/{id}               one, with its steps, timers, events that wait, data, and what a compensation would undo now
//	GET    /sagas/{id}/history       all that happened to it: ?after=REVISION, ?limit=, or ?last=N entries
//	POST   /sagas/{id}/operations    one of saga's verbs, done to it
//	GET    /dead-letters             messages that no saga could be given, and why: ?after=ID, ?limit=
//	DELETE /dead-letters?id=ID       removes one that has been seen to
//
// Sagas are looked for by definition, key-prefix (of business keys), state, settled (true or false), attention (true: those that need
// some), older-than and idle-for (durations, such as 90m); or by definition and key, the business key of one. A page has limit of them
// (50; 500 at most), and next, which goes into after. What is misspelt, empty or said twice is refused.
//
// Answers are JSON. With format=text sagas, histories and dead letters come as plain text, for a terminal:
//
//	$ curl -su ann 'localhost:8080/operator/sagas?attention=true&format=text'
//	$ curl -su ann 'localhost:8080/operator/sagas/01997b2e-9d3c?format=text'
//	$ curl -su ann localhost:8080/operator/sagas/01997b2e-9d3c/operations \
//		-d '{"verb": "retry-now", "step": "label", "why": "the printer is back"}'
//
// # Operations
//
// Each has a verb and why. Besides, and nothing else:
//
//	retry-now, skip-step, mark-rejected    step
//	mark-done                              step, and the data that it returned, if any
//	edit-data                              data: all of them, for they are replaced
//	move-timer                             timer, in: a duration from now
//	drop-event                             source, id
//	force-compensate                       to: the failed state to end in
//
// What they do is told at [saga.Verb]. Data are JSON; those of a saga whose codec writes something else cannot be given here. The answer
// is the saga as it is then. What makes no sense in its state is 409 with the reason, and changes nothing. If no answer comes, look at
// the history before you ask again: the operation may be on the record.
//
// What else is wrong is told as [RFC 9457] says: 400 what cannot be read, 403 whom Who does not let in and a browser's page of another
// origin that would change something, 404 what there is not, 413 a body beyond 1 MiB, 503 a store that does not answer, or an
// orchestrator that is closed.
//
// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
package operator
