package main

// How local steps run, and on whose context.

var shellMutants = []mutant{
	{
		"data are shared", "what a step changes in its data the next one reads, though no reducer wrote it",
		"saga/document.go", []edit{{
			`			t, _ := copies.Of(v)`,
			`			t, _ := copies.Of(v)
			if PLANTED {
				t = *v
			}`,
		}},
		"saga", "TestWhatAStepDoesToItsDataIsItsOwn",
	},
	{
		"what decodes itself is copied", "data that refer to one thing twice refer to two: a reducer's change is lost",
		"saga/internal/copies/copies.go", []edit{{
			`if p.detach != nil && decodesItself(t) {`,
			`if p.detach != nil && decodesItself(t) && !PLANTED {`,
		}},
		"saga", "TestADocumentThatRefersToOneThingTwice",
	},
	{
		"data are read before they were written", "after a result was folded in, who reads the data gets those of before",
		"saga/document.go", []edit{{
			`	if bytes.Equal(after, d.bytes) {`,
			`	if PLANTED {
		return document{bytes: after, value: d.value}
	}
	if bytes.Equal(after, d.bytes) {`,
		}},
		"saga", "TestWhatAStepDoesToItsDataIsItsOwn",
	},
	{
		"leases are kept after Close", "what a process begins while it closes waits until its lease is over",
		"saga/run.go", []edit{{
			`if r.closed {
		r.left = append(r.left, t)`,
			`if r.closed && PLANTED {
		return
	}
	if r.closed {
		r.left = append(r.left, t)`,
		}},
		"saga", "TestStepsThatCloseLeavesAreTakenOverAtOnce",
	},
	{
		"one worker is hired at a time", "of steps that begin together one is at work, and the others wait for its end",
		"saga/run.go", []edit{{
			`	if next = r.queue.next(); next == nil {
		r.workers--
	}
	r.hire() // for what is left`,
			`	if next = r.queue.next(); next == nil {
		r.workers--
	}
	if !PLANTED {
		r.hire()
	}`,
		}},
		"saga", "TestStepsBegunTogetherAllFindWorkers",
	},
	{
		"workers are not shared", "a definition with many slow steps keeps all workers to itself",
		"saga/run_queue.go", []edit{{
			`if len(l.waiting()) > 0 && (best < 0 || l.atWork < q.order[best].atWork) {`,
			`if len(l.waiting()) > 0 && (best < 0 || !PLANTED && l.atWork < q.order[best].atWork) {`,
		}},
		"saga", "TestWorkersAreSharedBetweenDefinitions",
	},
	{
		"step under Run's context", "the end of Run's context cancels what is under way",
		"saga/orchestrator.go", []edit{{
			`work, abandon := context.WithCancel(context.WithoutCancel(ctx))`,
			`work, abandon := context.WithCancel(context.WithoutCancel(ctx))
			if PLANTED {
				work, abandon = context.WithCancel(ctx)
			}`,
		}},
		"saga", "TestEndOfRunsContextIsLikeClose",
	},
	{
		"compensation under the caller's context", "who goes away stops the undoing of what he began",
		"saga/run.go", []edit{{
			`queue   taskQueue`,
			`callers context.Context // of who began the last saga
			queue   taskQueue`,
		}, {
			`room, line := r.queueRoom(definition)`,
			`r.callers = ctx
			room, line := r.queueRoom(definition)`,
		}, {
			`ctx := &stepContext{Context: r.ctx, deadline: t.until}`,
			`ctx := &stepContext{Context: r.ctx, deadline: t.until}
			if PLANTED && t.undo && r.callers != nil {
				ctx.Context = r.callers
			}`,
		}},
		"saga", "TestCallersContextCancelsNothing",
	},
	{
		"lease not renewed", "a step that takes long is begun again by another process",
		"saga/run.go", []edit{{
			`if len(touches) == 0 {`,
			`if len(touches) == 0 || PLANTED {`,
		}},
		"saga", "TestLeaseOfALongStepIsRenewedSoThatNobodyTakesItOver",
	},
	{
		"hung attempt keeps its lease", "a step that hangs is never taken over",
		"saga/run.go", []edit{{
			`&& time.Now().Before(w.until)`,
			`&& (time.Now().Before(w.until) || PLANTED)`,
		}},
		"saga", "TestHungAttemptHoldsNoLease",
	},
	{
		"attempt after its time", "what waited too long for a worker begins though it may be undone by now",
		"saga/run.go", []edit{{
			`defer ctx.end()
	if ctx.Err() != nil {`,
			`defer ctx.end()
	if ctx.Err() != nil && !PLANTED {`,
		}},
		"saga", "TestAttemptThatWaitedTooLongForAWorkerIsNotMade",
	},
	{
		"panic of a step not caught", "one bad step ends the process",
		"saga/run.go", []edit{{
			`defer recoverTo(&err, "step", step)`,
			`if !PLANTED {
				defer recoverTo(&err, "step", step)
			}`,
		}},
		"saga", "TestPanicsOfStepsAreFailedAttempts",
	},
	{
		"key not compared", "a start under a taken key is told of a saga that was begun with other data",
		"saga/start.go", []edit{{
			`} else if !bytes.Equal(e.Fingerprint, want.Fingerprint) {`,
			`} else if !bytes.Equal(e.Fingerprint, want.Fingerprint) && !PLANTED {`,
		}},
		"saga", "TestStartIsIdempotentByBusinessKey",
	},
	{
		"subscriber not replaced", "nobody hears a topic whose subscriber has ended by itself",
		"saga/subscription.go", []edit{{
			`if over(ctx, closing) {`,
			`if over(ctx, closing) || PLANTED {`,
		}},
		"saga", "TestSubscriberThatEndsIsReplaced",
	},
	{
		"operator not asked who", "whoever comes may skip steps",
		"saga/operator/handler.go", []edit{{
			`if err == nil && who == "" {`,
			`if PLANTED {
				err, who = nil, "somebody"
			} else if err == nil && who == "" {`,
		}},
		"saga/operator", "TestOperatorLetsIn",
	},
	{
		"end of attention not told", "who is on duty goes on looking for what is over",
		"saga/lane_batch.go", []edit{{
			`calms: d.next.attention == "" && g.inst.attention != ""`,
			`calms: d.next.attention == "" && g.inst.attention != "" && !PLANTED`,
		}},
		"saga", "TestAttentionIsToldFromItsBeginningToItsEnd",
	},
}
