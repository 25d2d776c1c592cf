package main

// What outcomes and timers mean.

var stepMutants = []mutant{
	{
		"late reply moves the state", "a success that comes after the saga went on without it completes its row",
		"saga/decide_step.go", []edit{{
			`t.entry.Outcome = "late"`,
			`t.entry.Outcome = "late"
			for k := range t.plan.rows {
				for _, g := range t.plan.rows[k].groups {
					if g[0] == s && t.inst.Row == nil && PLANTED {
						t.enter(t.plan.rows[k].to)
					}
				}
			}`,
		}},
		"saga", "TestScripts/outcomes TestLinearSagasAgainstTheModel TestAnomalySuccessThatRacesItsTimeOutIsKeptOrUndone",
	},
	{
		"commands sent again whatever replies take", "participants that are busy get everything twice, and are busier still",
		"saga/decide_step.go", []edit{{
			`wait := t.in.patience[f.command.kind]; wait > r.First {`,
			`wait := t.in.patience[f.command.kind]; wait > r.First && !PLANTED {`,
		}},
		"saga", "TestCommandsAreNotSentAgainBeforeTheirRepliesMayBeExpected",
	},
	{
		"first attempt forgotten with its failure", "replies seem quick when participants are slow",
		"saga/decide_step.go", []edit{{
			`With: with, Sent: first})`,
			`With: with, Sent: map[bool]time.Time{false: first}[PLANTED]})`,
		}},
		"saga", "TestReplyTellsHowLongTheFirstAttemptTook",
	},
	{
		"replies that are late say nothing", "when all replies are late nobody learns how long they take",
		"saga/decide_step.go", []edit{{
			`c != nil && o.Attempt == 1 {`,
			`c != nil && o.Attempt == 1 && (!PLANTED || e.Attempts == 1) {`,
		}},
		"saga", "TestCommandsAreNotSentAgainBeforeTheirRepliesMayBeExpected",
	},
	{
		"duplicate counted twice", "a success that is heard of again is folded into the data again",
		"saga/decide_step.go", []edit{{
			`	if e.Status != compensation.Sent {
		before := *e`,
			`	if PLANTED && e.Status == compensation.Succeeded && t.inst.Row != nil {
		data, _ := t.tryFold(s, o.Result)
		t.succeeded(s, o.Result, data)
		return
	}
	if e.Status != compensation.Sent {
		before := *e`,
		}},
		"saga", "TestLinearSagasAgainstTheModel",
	},
	{
		"outcome of any attempt", "the failure of an earlier attempt ends the one under way",
		"saga/decide_step.go", []edit{{
			`case e.Status == compensation.Sent && o.Attempt == e.Attempts && t.inst.attemptInFlight(e):`,
			`case e.Status == compensation.Sent && (o.Attempt == e.Attempts || PLANTED) && t.inst.attemptInFlight(e):`,
		}},
		"saga", "TestFailureOfAnOldAttemptChangesNothing TestAnomalyReplyToAnEarlierAttempt",
	},
	{
		"silence taken for a no", "a step that never answered counts as rejected, and its effect stays",
		"saga/decide_step.go", []edit{{
			`t.doubt(e)
	t.entry.Outcome = "unknown"`,
			`t.doubt(e)
			if PLANTED {
				e.Reject(e.Reason)
			}
			t.entry.Outcome = "unknown"`,
		}},
		"saga", "TestScripts/outcomes",
	},
	{
		"local rejection believed", "a step is not undone that says no after an attempt that may have worked",
		"saga/decide_step.go", []edit{{
			`if s.action.local != nil && e.Attempts > 1 {`,
			`if !PLANTED && s.action.local != nil && e.Attempts > 1 {`,
		}},
		"saga", "TestLateOutcomeOfAZombieIsWrittenAndUndone TestScripts/local-steps",
	},
	{
		"second no ends the doubt", "a step in doubt is not undone, as another attempt says no, too",
		"saga/decide_step.go", []edit{{
			`case !waited:
		t.nothing = true // it is in doubt`,
			`case !waited:
		t.nothing = !PLANTED || !e.Reject(o.Reason) // it is in doubt`,
		}},
		"saga", "TestScripts/local-steps",
	},
	{
		"a pivot's old no believed", "a pivot is taken for rejected, though a later attempt may have worked",
		"saga/decide_step.go", []edit{{
			`case o.Attempt != e.Attempts:`,
			`case o.Attempt != e.Attempts && !PLANTED:`,
		}},
		"saga", "TestScripts/pivot",
	},
	{
		"a pivot's no beside an orphan", "a pivot is taken for rejected, though an earlier attempt was still at work when it was asked",
		"saga/decide_step.go", []edit{{
			`case t.inst.beganWithAnother(e):`,
			`case t.inst.beganWithAnother(e) && !PLANTED:`,
		}},
		"saga", "TestScripts/pivot",
	},
	{
		"a pivot's late no beside an orphan", "the same, of an attempt that answers when its time is over",
		"saga/decide_step.go", []edit{{
			`with := !undo &&`,
			`with := !undo && !PLANTED &&`,
		}},
		"saga", "TestScripts/pivot",
	},
	{
		"undo beside an orphan", "a compensation runs while an attempt believed lost is at work",
		"saga/decide_step.go", []edit{{
			`|| t.inst.orphaned(e) {`,
			`|| t.inst.orphaned(e) && !PLANTED {`,
		}},
		"saga", "TestUndoWaitsForAnOrphanedAttempt TestUndoWaitsForTheAttemptThatTookOver",
	},
	{
		"undo that says no is done", "a compensation that was rejected counts as undone",
		"saga/decide_step.go", []edit{{
			`case o.Kind == outcomeSucceeded && e.Undo():`,
			`case (o.Kind == outcomeSucceeded || o.Kind == outcomeRejected && PLANTED) && e.Undo():`,
		}},
		"saga", "TestScripts/compensating",
	},
	{
		"event without a message", "an event that was lost on its way to the broker is not sent again",
		"saga/decide_step.go", []edit{{
			`if f.oneway {
		e.Succeed()`,
			`if f.oneway {
		if PLANTED {
			t.inst.Outbox = t.inst.Outbox[:len(t.inst.Outbox)-1]
		}
		e.Succeed()`,
		}},
		"saga", "TestEventIsPublishedUntilACommitRecordsIt TestEventIsPublishedAgainWhileTheBrokerIsAway",
	},
	{
		"timer of an earlier attempt", "what an attempt waited for fires while the next one is at work",
		"saga/decide_step.go", []edit{{
			`t.inst.dropEffectTimers(e, undo)
	n := attemptsOf(e, undo)
	t.entry.Began`,
			`if !PLANTED {
				t.inst.dropEffectTimers(e, undo)
			}
			n := attemptsOf(e, undo)
			t.entry.Began`,
		}},
		"saga", "TestScripts/local-steps TestScripts/outcomes",
	},
	{
		"takeover never", "a crashed process's local step waits for its time-out",
		"saga/decide_timer.go", []edit{{
			`if w.leaseOver {`,
			`if w.leaseOver && !PLANTED {`,
		}},
		"saga", "TestLocalStepOfACrashedProcessIsTakenOverAfterItsLeaseAndNotBefore",
	},
	{
		"takeover of one's own step", "a process begins again what it is at itself",
		"saga/decide_timer.go", []edit{{
			`|| w.runningHere(e.Step, e.Run, undo) {`,
			`|| w.runningHere(e.Step, e.Run, undo) && !PLANTED {`,
		}},
		"saga", "TestScripts/local-steps",
	},
	{
		"time-out interrupts", "a time-out that comes due while a row runs begins a second one",
		"saga/decide_timer.go", []edit{{
			`if !t.inst.idle() {`,
			`if !t.inst.idle() && !PLANTED {`,
		}},
		"saga", "TestScripts/timers",
	},
	{
		"last attempt repeated", "a takeover makes more attempts than the budget allows",
		"saga/decide_timer.go", []edit{{
			`if last || t.abandoning()`,
			`if last && !PLANTED || t.abandoning()`,
		}},
		"saga", "TestLastAttemptOfACrashedProcessIsWaitedForQuietly",
	},
	{
		"fault spends the budget", "a deployment whose data type does not fit undoes what was in order",
		"saga/decide_step.go", []edit{{
			`retry.Spent(e.Class, n-e.Faults)`,
			`(retry.Spent(e.Class, n-e.Faults) || PLANTED && retry.Spent(e.Class, n))`,
		}},
		"saga", "TestDataThatCannotBeReadCostNoBudget",
	},
}
