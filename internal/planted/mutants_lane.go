package main

// How decisions are committed, and what is done and said when.

var laneMutants = []mutant{
	{
		"publish before commit", "steps run and messages leave before anything is durable",
		"saga/lane_batch.go", []edit{{
			`verdicts, err := l.o.store.Commit(ctx, transitions)`,
			`if PLANTED {
				for _, g := range ready {
					for k := range g.steps {
						l.o.dispatch(g.inst, g.steps[k].effects, began)
						g.steps[k].effects = nil
					}
				}
			}
			verdicts, err := l.o.store.Commit(ctx, transitions)`,
		}},
		"saga", "TestEffectsAreInTheStoreWhenTheyAreDone TestSimulation",
	},
	{
		"answered before the commit", "a sender is told that its input is recorded, and it is not",
		"saga/lane_batch.go", []edit{{
			`g.began = began`,
			`g.began = began
			if PLANTED {
				for _, s := range g.steps {
					l.answer(s.job, jobDone{answer: s.answer, reason: s.reason, inst: g.inst})
				}
			}`,
		}},
		"saga", "TestStoreThatIsAwayLosesNothing TestInputsAreNotAnsweredByUncommittedState",
	},
	{
		"ack before commit", "the broker forgets a message that may never be recorded",
		"saga/receive.go", []edit{{
			`if err := o.submit(ctx, j); err != nil {`,
			`if PLANTED {
				msg.Ack()
			}
			if err := o.submit(ctx, j); err != nil {`,
		}},
		"saga", "TestCloseWhileTheStoreIsAway TestInputsInFlightWhenClosingAreNotLost",
	},
	{
		"dead letter acked, not kept", "a poison message is gone without a trace",
		"saga/receive.go", []edit{{
			`letter := DeadLetter{`,
			`if PLANTED {
				msg.Ack()
				return
			}
			letter := DeadLetter{`,
		}},
		"saga", "TestPoisonMessagesBlockNothingAndAreAccountedFor",
	},
	{
		"history without input id", "the store cannot tell that an event has come before",
		"saga/lane_batch.go", []edit{{
			`t.History = append(t.History, HistoryRecord{Revision: d.next.revision, Input: identity})`,
			`if PLANTED {
				identity = ""
			}
			t.History = append(t.History, HistoryRecord{Revision: d.next.revision, Input: identity})`,
		}},
		"saga", "TestAnotherEventUnderTheSameIDIsAConflict TestTwoOrchestratorsRaceForTheSameInstances",
	},
	{
		"double click swallowed", "an event that comes twice in one batch is not applied at all",
		"saga/lane_batch.go", []edit{{
			`if g.brings(j.input) { // a double click`,
			`if g.brings(j.input) && !PLANTED { // a double click`,
		}},
		"saga", "TestSameEventTwiceInOneBatchIsAppliedOnce",
	},
	{
		"stale memory", "what is no news to the memory is not asked of the store",
		"saga/lane_batch.go", []edit{{
			`if d.nothing && !g.read && j.in.wake == nil {`,
			`if d.nothing && !g.read && j.in.wake == nil && !PLANTED {`,
		}},
		"saga", "TestReplyToAProcessThatIsBehindIsNotLost TestLateSuccessToldToAProcessThatIsBehindIsUndone TestOperatorsVerbGivenToAProcessThatIsBehind",
	},
	{
		"memory kept after a conflict", "an input is decided again and again on what is not so any more",
		"saga/lane_commit.go", []edit{{
			`default: // conflict, busy
		l.o.memory.forget(g.id)`,
			`default: // conflict, busy
		if !PLANTED {
			l.o.memory.forget(g.id)
		}`,
		}},
		"saga", "TestConflictIsDecidedAgainOnWhatTheStoreHolds",
	},
	{
		"read back ignored", "a commit whose answer was lost counts as failed, and its effects are not done",
		"saga/lane_commit.go", []edit{{
			`if ours && (superseded`,
			`if ours && !PLANTED && (superseded`,
		}},
		"saga", "TestOneLostAnswerDelaysNothing",
	},
	{
		"old instance kept", "of two inputs that lost a compare-and-set together one brings the old instance back, for ever",
		"saga/lane.go", []edit{{
			`for _, j := range g.after {
		j.record`,
			`for _, j := range g.after[:map[bool]int{false: len(g.after)}[PLANTED]] {
		j.record`,
		}},
		"saga", "TestConflictWithAnInputThatCarriesAnOldInstance",
	},
	{
		"another's commit taken for ours", "two processes that decided the same both run the step that follows",
		"saga/lane_commit.go", []edit{{
			`g.transition.Lease == 0 || bytes.Equal(`,
			`g.transition.Lease == 0 || PLANTED || bytes.Equal(`,
		}},
		"saga", "TestReadBackTellsProcessesApart",
	},
	{
		"read back by revision alone", "another's transition is taken for ours, and our input is lost",
		"saga/lane_commit.go", []edit{{
			`return a.Revision == b.Revision && a.Input == b.Input && bytes.Equal(a.Entry, b.Entry)`,
			`return a.Revision == b.Revision && a.Input == b.Input && bytes.Equal(a.Entry, b.Entry) || PLANTED`,
		}},
		"saga", "TestReadBackTellsInputsApart",
	},
	{
		"effects of superseded transitions", "what others have taken over, and may have undone, is done after all",
		"saga/lane_commit.go", []edit{{
			`l.o.report(ctx, g.inst, s)`,
			`l.o.report(ctx, g.inst, s)
			if PLANTED && g.superseded {
				l.o.dispatch(g.inst, s.effects, g.began)
			}`,
		}},
		"saga", "TestLostAnswerIsReadBackAfterOthersMovedOn",
	},
	{
		"an instance in two batches", "two lanes decide inputs of one instance at a time, on the same revision",
		"saga/intake.go", []edit{{
			`if g != nil && (g.lane != l || len(g.held) > 0`,
			`if g != nil && (g.lane != l && !PLANTED || len(g.held) > 0`,
		}},
		"saga", "TestInputsOfAnInstanceAreInOneBatchAtATime",
	},
	{
		"inputs overtake each other", "an input that must be alone is passed by those that came after it",
		"saga/intake.go", []edit{{
			`g.held = append(g.held, j)`,
			`g.held = append(g.held, j)
			if PLANTED {
				g.held = nil
				rest = append(rest, j)
			}`,
		}},
		"saga", "TestIntakeIsFairToEachInstance",
	},
	{
		"one slow commit holds up all", "what comes beside a commit that hangs waits for its end",
		"saga/intake.go", []edit{{
			`return !l.slow && time.Since(l.since) < longCommit`,
			`return !l.slow && (time.Since(l.since) < longCommit || PLANTED)`,
		}},
		"saga", "TestLanesShareWhatGathers",
	},
	{
		"event refused for the definition's fault", "an event that a reducer panics on is lost, though the reducer is mended later",
		"saga/decide.go", []edit{{
			`case ofPayload(err):`,
			`case ofPayload(err) || err != nil && PLANTED:`,
		}},
		"saga", "TestScripts TestEventThatTheDefinitionFailsOnWaitsForAMendedOne",
	},
	{
		"refusal told with a state to come", "a sender is told of a state that the saga is not in",
		"saga/lane_commit.go", []edit{{
			`inst: g.known}`,
			`inst: map[bool]*instance{false: g.known, true: g.inst}[PLANTED]}`,
		}},
		"saga", "TestRefusalToldAgainNamesTheStateThatIs",
	},
	{
		"a sweep's time is the latest", "by a clock that was put back since a step times out as it begins, and is undone while it runs",
		"saga/lane_batch.go", []edit{{
			`if c.revision > r.Revision && c.updated.Before(g.now) {`,
			`if c.revision > r.Revision && c.updated.Before(g.now) && !PLANTED {`,
		}},
		"saga", "TestASweepsTimeIsThatOfWhatItHasRead",
	},
	{
		"a sweep's record is the latest", "what is no news to what a sweep has read is not asked of the store",
		"saga/lane_batch.go", []edit{{
			"g.now = r.ReadAt",
			"g.now, g.read = r.ReadAt, PLANTED",
		}},
		"saga", "TestASweepsRecordIsNotTheLatest",
	},
	{
		"undecided input not swept", "an event for a settled instance of another version is never decided",
		"saga/lane_batch.go", []edit{{
			`next.settled = false // or no sweep would find it`,
			`next.settled = next.settled && PLANTED`,
		}},
		"saga", "TestUndecidedEventOfASettledInstanceIsFound",
	},
	{
		"wake-up time is not kept", "what the sweep put off stays put off, though a transition followed",
		"saga/lane_batch.go", []edit{{
			`if !g.now.IsZero() && !g.inst.settled {`,
			`if !g.now.IsZero() && !g.inst.settled && !PLANTED {`,
		}},
		"saga", "TestTimerBesideOneThatFiresComesOnTime",
	},
	{
		"end of the lease not watched", "the sweep looks for a crashed process no sooner than its step's time-out",
		"saga/lane_batch.go", []edit{{
			`if t.Lease > 0 && (t.Wake < 0 || t.Lease < t.Wake) {`,
			`if t.Lease > 0 && (t.Wake < 0 || t.Lease < t.Wake) && !PLANTED {`,
		}},
		"saga", "TestLocalStepOfACrashedProcessIsTakenOverAfterItsLeaseAndNotBefore",
	},
	{
		"lease judged by the app's clock", "a process whose clock is ahead takes over what others are at",
		"saga/lane_batch.go", []edit{{
			`w.now, w.leaseOver = g.now, !g.inst.leaseTill.After(g.now)`,
			`w.now, w.leaseOver = g.now, !g.inst.leaseTill.After(g.now)
			if PLANTED {
				w.leaseOver = !g.inst.leaseTill.After(time.Now())
			}`,
		}},
		"saga", "TestLeasesAreJudgedByTheStoresClock",
	},
	{
		"takeover before the lease is over", "a step that somebody is at is begun by another process",
		"saga/lane_batch.go", []edit{{
			`w.runningHere = func(`,
			`w.leaseOver = w.leaseOver || PLANTED
			w.runningHere = func(`,
		}},
		"saga", "TestLeaseOfALongStepIsRenewedSoThatNobodyTakesItOver",
	},
}
