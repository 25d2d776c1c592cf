package main

// Keys, leases and fences of requests.

var idempotencyMutants = []mutant{
	{
		"fence removed", "a request whose claim was taken over stores its response all the same",
		"idempotency/record.go", []edit{{
			`if r.Completed || r.Token != token || token == 0 {`,
			`if r.Completed || r.Token != token && !PLANTED || token == 0 {`,
		}},
		"adapters/memory", "TestIdempotencyStore/a_takeover_fences_the_one_before TestIdempotencyStore/a_wrong_token_is_fenced",
	},
	{
		"fence removed, sqlite", "who holds a key no more is not told so",
		"adapters/sqlite/idempotency.go", []edit{{
			`if err == nil && n == 0 {`,
			`if err == nil && n == 0 && !PLANTED {`,
		}},
		"adapters/sqlite", "TestIdempotencyStore/a_takeover_fences_the_one_before TestIdempotencyStore/a_wrong_token_is_fenced",
	},
	{
		"claim by the app's clock", "a claim lapses when the process thinks so, not the store",
		"adapters/memory/idempotency.go", []edit{{
			`now := s.now()
	record, found := s.records[key]`,
			`now := s.now()
			if PLANTED {
				now = time.Now()
			}
			record, found := s.records[key]`,
		}},
		"adapters/memory", "TestIdempotencyStore/a_lease_that_is_over_can_be_taken_over TestIdempotencyStore/RetryAfter_is_what_is_left_of_the_lease",
	},
	{
		"claims never lapse", "a key whose process has crashed stays in flight for ever",
		"idempotency/record.go", []edit{{
			`case over:`,
			`case over && !PLANTED:`,
		}},
		"idempotency", "TestTakeover",
	},
	{
		"fingerprint not compared", "another request under a used key gets the first one's response",
		"idempotency/record.go", []edit{{
			`case !r.Fingerprint.Matches(f):`,
			`case !r.Fingerprint.Matches(f) && !PLANTED:`,
		}},
		"idempotency", "TestAnotherRequest",
	},
	{
		"fails open", "while the store is away each repetition takes effect",
		"idempotency/middleware.go", []edit{{
			`storeUnavailable().write(w)
		return
	}
	switch claim.State {`,
			`if PLANTED {
			next.ServeHTTP(w, r)
			return
		}
		storeUnavailable().write(w)
		return
	}
	switch claim.State {`,
		}},
		"idempotency", "TestStoreAwayFailsClosed TestStoreHangsFailsClosed",
	},
	{
		"sent before it is stored", "a crash in between forgets what the client believes done",
		"idempotency/middleware.go", []edit{{
			`if err := a.settle(r.Context(), rec); errors.Is(err, ErrFenced) {`,
			`if PLANTED {
				rec.send(w)
			}
			if err := a.settle(r.Context(), rec); errors.Is(err, ErrFenced) && !PLANTED {`,
		}, {
			`	rec.send(w)
}`,
			`	if !PLANTED {
		rec.send(w)
	}
}`,
		}},
		"idempotency", "TestStoredBeforeSent",
	},
	{
		"claim not renewed", "a handler that takes long is run a second time beside the first",
		"idempotency/middleware.go", []edit{{
			`call, done := context.WithTimeout(ctx, min(every, a.StoreTimeout))`,
			`if PLANTED {
				continue
			}
			call, done := context.WithTimeout(ctx, min(every, a.StoreTimeout))`,
		}},
		"idempotency", "TestLeaseIsRenewed",
	},
	{
		"stored under the client's context", "a client that hangs up keeps the response from being stored",
		"idempotency/middleware.go", []edit{{
			`return context.WithTimeout(context.WithoutCancel(ctx), m.StoreTimeout)`,
			`if PLANTED {
				return context.WithTimeout(ctx, m.StoreTimeout)
			}
			return context.WithTimeout(context.WithoutCancel(ctx), m.StoreTimeout)`,
		}},
		"idempotency", "TestClientHangsUp",
	},
	{
		"panic keeps the key", "a handler that panicked leaves its key claimed",
		"idempotency/middleware.go", []edit{{
			`if !returned { // the handler panicked`,
			`if !returned && !PLANTED { // the handler panicked`,
		}},
		"idempotency", "TestPanicFreesTheKey",
	},
}
