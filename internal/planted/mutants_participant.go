package main

// The barrier, the participant, and the services of the order saga.

var participantMutants = []mutant{
	{
		"mark before handle", "a command whose handler failed counts as done",
		"adapters/memory/inbox.go", []edit{{
			`reply, err := i.apply(ctx, effect, handle)`,
			`if PLANTED && !effect.Undo {
				i.write(effect.ID, barrier.Records{Action: &saga.Reply{Outcome: saga.ReplySucceeded}})
			}
			reply, err := i.apply(ctx, effect, handle)`,
		}},
		"adapters/memory", "TestInbox/failure TestInbox/panic",
	},
	{
		"duplicate checked after stock", "a repeated command is told that nothing is left, as it took the last itself",
		"adapters/sqlite/inbox.go", []edit{{
			`known, besides := barrier.Judge(h.effect, found)`,
			`if PLANTED {
				if _, err := handle(ctx, h.tx); err != nil {
					return barrier.Settle(h.effect.Undo, nil, err)
				}
			}
			known, besides := barrier.Judge(h.effect, found)`,
		}},
		"adapters/sqlite", "TestInbox/duplicate TestInbox/duplicate_of_a_rejection",
	},
	{
		"stored reply forgotten", "a repeated command gets a success without a result",
		"adapters/internal/barrier/barrier.go", []edit{{
			`return found.Action, Records{}`,
			`if PLANTED && found.Action != nil {
				return &saga.Reply{Outcome: saga.ReplySucceeded}, Records{}
			}
			return found.Action, Records{}`,
		}},
		"saga", "TestParticipant/memory/duplicate TestParticipant/memory/rejection TestParticipant/memory/crash_between_commit_and_reply",
	},
	{
		"late action accepted", "an action takes effect after its compensation",
		"adapters/internal/barrier/barrier.go", []edit{{
			`write.Action = &saga.Reply{Outcome: saga.ReplyRejected, Reason: Overtaken}`,
			`if !PLANTED {
				write.Action = &saga.Reply{Outcome: saga.ReplyRejected, Reason: Overtaken}
			}`,
		}},
		"saga", "TestAnomalyHangingActionIsRefusedAfterItsCompensation",
	},
	{
		"null compensation undoes", "a compensation whose action never came gives back what was never taken",
		"adapters/internal/barrier/barrier.go", []edit{{
			`if effect.Null {`,
			`if effect.Null || PLANTED {`,
		}},
		"saga", "TestAnomalyNullCompensationUndoesNothing",
	},
	{
		"rejection keeps its writes", "a handler that said no has written half of what it wanted",
		"adapters/sqlite/inbox.go", []edit{{
			`if reply.Outcome != saga.ReplySucceeded {`,
			`if reply.Outcome != saga.ReplySucceeded && !PLANTED {`,
		}},
		"adapters/sqlite", "TestInbox/rejection TestInbox/several_writes",
	},
	{
		"reply before the participant's commit", "a saga hears of a success that is then rolled back",
		"saga/participant_message.go", []edit{{
			`result, err = h.call(ctx, tx, msg.Payload)`,
			`result, err = h.call(ctx, tx, msg.Payload)
			if PLANTED && err == nil {
				p.reply(ctx, msg, Reply{Outcome: ReplySucceeded, Payload: result})
			}`,
		}},
		"saga", "TestParticipant/memory/crash_between_commit_and_reply",
	},
	{
		"retriable step may say no", "the barrier keeps a no that no row answers, and the saga never goes on",
		"saga/participant_message.go", []edit{{
			`errors.As(err, &no) && msg.Metadata.Get(MetaRetriable) == "true" {`,
			`errors.As(err, &no) && msg.Metadata.Get(MetaRetriable) == "true" && !PLANTED {`,
		}},
		"saga", "TestRetriableCommandThatIsRejectedIsTriedAgain",
	},
	{
		"handler's panic swallowed", "a command whose handler panicked counts as done",
		"saga/participant_message.go", []edit{{
			`result, err = nil, p.panicked("handler of "+h.name, v, msg)`,
			`result, err = nil, p.panicked("handler of "+h.name, v, msg)
			if PLANTED {
				err = nil
			}`,
		}},
		"saga", "TestParticipant/memory/panic",
	},
	{
		"asked again under another key", "a gateway that answers too late is given the same charge twice",
		"examples/ordersaga/payment/payment.go", []edit{{
			`a, err := p.gateway.Authorize(ctx, saga.Info(ctx).EffectKey, c)`,
			`a, err := p.gateway.Authorize(ctx, saga.Info(ctx).EffectKey, c)
			if PLANTED && err != nil {
				a, err = p.gateway.Authorize(ctx, saga.Info(ctx).EffectKey+"/again", c)
			}`,
		}},
		"examples/ordersaga", "TestFlakyGatewayTakesMoneyOnce",
	},
	{
		"money of a lost answer kept", "what the gateway took without our knowing is not given back",
		"examples/ordersaga/payment/payment.go", []edit{{
			`p.refund, saga.NullCompensation)`,
			`p.refund, map[bool]saga.HandlerOption{false: saga.NullCompensation}[PLANTED])`,
		}},
		"examples/ordersaga/payment", "TestChargeWhoseAnswerWasLostIsGivenBack",
	},
	{
		"reserved without stock", "pieces are promised that are not there",
		"examples/ordersaga/inventory/inventory.go", []edit{{
			`if !ok {
			return done, saga.Reject("out of stock: %s", l.SKU)`,
			`if !ok && !PLANTED {
			return done, saga.Reject("out of stock: %s", l.SKU)`,
		}},
		"examples/ordersaga", "TestBasketsInOppositeOrder",
	},
}
