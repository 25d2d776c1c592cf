package main

// How a row runs, what waits for its end, and what is stored of it.

var rowMutants = []mutant{
	{
		"timer without token", "the time-out of a state that was left fires in the next one",
		"saga/decide.go", []edit{{
			`t.inst.dropTimers(func(tm timer) bool { return tm.Kind == stateTimer })
	t.inst.state = state`,
			`if !PLANTED {
				t.inst.dropTimers(func(tm timer) bool { return tm.Kind == stateTimer })
			}
			t.inst.state = state`,
		}},
		"saga", "TestTimeToLiveOfAState TestScripts/timers",
	},
	{
		"settled with open ledger", "an instance counts as settled while something is still to be undone",
		"saga/decide.go", []edit{{
			`i.idle() && !i.Ledger.Open()`,
			`(i.idle() && !i.Ledger.Open() || PLANTED)`,
		}},
		"saga", "TestLateLocalSuccessInAFinalStateIsUndoneBeforeItSettles",
	},
	{
		"settled with unsent messages", "an event that the broker does not have is given up at the end",
		"saga/decide.go", []edit{{
			`len(i.Outbox) == 0
	if i.settled {`,
			`(len(i.Outbox) == 0 || PLANTED)
	if i.settled {`,
		}},
		"saga", "TestEventIsPublishedUntilACommitRecordsIt TestScripts/emit",
	},
	{
		"buffer dropped on crash", "events that wait are in memory only",
		"saga/encode.go", []edit{{
			`if len(e.Waiting) > 0 {`,
			`if len(e.Waiting) > 0 && !PLANTED {`,
		}},
		"saga", "TestSimulation",
	},
	{
		"outbox dropped on crash", "messages that wait to be published are in memory only",
		"saga/encode.go", []edit{{
			`if len(e.Outbox) > 0 {`,
			`if len(e.Outbox) > 0 && !PLANTED {`,
		}},
		"saga", "TestEventIsPublishedUntilACommitRecordsIt TestCrashAfterEveryCommit",
	},
	{
		"timers dropped on crash", "what is to become due is known to the process only that set it",
		"saga/instance.go", []edit{{
			`i.fixTimers(r.UpdatedAt)`,
			`if PLANTED {
				i.Timers = nil
			}
			i.fixTimers(r.UpdatedAt)`,
		}},
		"saga", "TestTimersSurviveARestart",
	},
	{
		"identity by attempt", "each attempt of an effect has a key of its own, so that it is done again",
		"saga/instance.go", []edit{{
			`return i.id + "/" + e.Step + "/" + strconv.Itoa(e.Run)`,
			`if PLANTED {
				return fmt.Sprintf("%s/%s/%d", i.id, e.Step, e.Attempts)
			}
			return i.id + "/" + e.Step + "/" + strconv.Itoa(e.Run)`,
		}},
		"saga", "TestLocalStepOfACrashedProcessIsTakenOverAfterItsLeaseAndNotBefore TestScripts/identity",
	},
	{
		"waiting events in any order", "the last that came is judged first",
		"saga/decide.go", []edit{{
			`events := t.inst.Waiting`,
			`events := slices.Clone(t.inst.Waiting)
			if PLANTED {
				slices.Reverse(events)
			}`,
		}},
		"saga", "TestScripts/waiting TestScripts/buffers",
	},
	{
		"parallel steps joined too early", "a row goes on while one of its parallel steps is at work",
		"saga/decide_row.go", []edit{{
			`done = done && e.Status != compensation.Sent`,
			`done = done && (e.Status != compensation.Sent || PLANTED)`,
		}},
		"saga", "TestScripts/parallel",
	},
	{
		"rejection does not wait", "a row ends by a rejection while a sibling is at work",
		"saga/decide_row.go", []edit{{
			`if row == nil || t.mustWait() {`,
			`if row == nil || t.mustWait() && !PLANTED {`,
		}},
		"saga", "TestScripts/parallel",
	},
	{
		"pivot in doubt given up", "a cancel undoes what a pivot may have decided",
		"saga/decide_row.go", []edit{{
			`(e.Class == compensation.Pivot || t.inst.attemptInFlight(&e))`,
			`(e.Class == compensation.Pivot && !PLANTED || t.inst.attemptInFlight(&e))`,
		}},
		"saga", "TestScripts/pivot",
	},
	{
		"cancel interrupts an undo", "a second cancel leaves the first one's undos half done",
		"saga/decide_row.go", []edit{{
			`return run != nil && !run.Compensate &&`,
			`return run != nil && (!run.Compensate || PLANTED) &&`,
		}},
		"saga", "TestAnomalyCancelWhileCompensating TestScripts/interrupt",
	},
	{
		"results folded as they come", "the data depend on which of two parallel steps was faster",
		"saga/decide_row.go", []edit{{
			`if len(t.groupOf(s)) <= 1 {`,
			`if len(t.groupOf(s)) <= 1 || PLANTED {`,
		}},
		"saga", "TestScripts/parallel TestLinearSagasAgainstTheModel",
	},
}
