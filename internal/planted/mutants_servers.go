package main

// The same faults in the stores that need a server: PostgreSQL and MariaDB. Then those of transports over them.

var serverMutants = []mutant{
	{
		"CAS dropped, postgres", "the UPDATE says nothing of the revision",
		"adapters/postgres/db.go", []edit{{
			`if known, ok := db.expanded.Load(text); ok {`,
			`if PLANTED {
				text = strings.Replace(text, "i.id = t.id AND i.revision = t.expect", "i.id = t.id", 1)
			}
			if known, ok := db.expanded.Load(text); ok {`,
		}},
		"adapters/postgres", "TestStore/compare-and-set",
	},
	{
		"history gap, postgres", "what has no identity of its own is not recorded",
		"adapters/postgres/db.go", []edit{{
			`expanded := db.expand(text)`,
			`if PLANTED {
				text = strings.Replace(text, "WHERE (SELECT yes FROM all_written) OR (h.id IN", "WHERE h.input <> '' AND ((SELECT yes FROM all_written) OR h.id IN", 1)
			}
			expanded := db.expand(text)`,
		}},
		"adapters/postgres", "TestStore/commit TestStore/read",
	},
	{
		"history gap of a single one, postgres", "a transition that is committed by itself leaves no history",
		"adapters/postgres/store_statements.go", []edit{{
			`insertNew  = strings.ReplaceAll(insertNewText, "$bytes", "$21::bytea")`,
			`insertNew = func() string {
				if PLANTED {
					updateOne = strings.Replace(updateOne, "clock.now FROM written, clock", "clock.now FROM written, clock WHERE false", 1)
				}
				return strings.ReplaceAll(insertNewText, "$bytes", "$21::bytea")
			}()`,
		}},
		"adapters/postgres", "TestStore/batch",
	},
	{
		"a single one written, as it seems, postgres", "a transition that is committed by itself counts as written, whatever revision there is",
		"adapters/postgres/store_statements.go", []edit{{
			`updateOne  = strings.ReplaceAll(updateOneText, "$bytes", "$17::bytea")`,
			`updateOne = strings.ReplaceAll(strings.ReplaceAll(updateOneText, "$bytes", "$17::bytea"), "SELECT $1::text, 4", map[bool]string{
				false: "SELECT $1::text, 4", true: "SELECT '', 1",
			}[PLANTED])`,
		}},
		"adapters/postgres", "TestStore/compare-and-set",
	},
	{
		"all written, as it seems, postgres", "of a batch of which some was written all counts as that",
		"adapters/postgres/store_statements.go", []edit{{
			`updateAll  = strings.ReplaceAll(updateAllText, "$bytes", "$19::bytea")`,
			`updateAll = strings.ReplaceAll(strings.ReplaceAll(updateAllText, "$bytes", "$19::bytea"), "count(*) = cardinality", map[bool]string{
				false: "count(*) = cardinality", true: "count(*) <= cardinality",
			}[PLANTED])`,
		}},
		"adapters/postgres", "TestStore/batch",
	},
	{
		"timers by the app's clock, postgres", "what is due, and when, is judged by the process, not the server",
		"adapters/postgres/db.go", []edit{{
			`db.expanded.Store(text, expanded)`,
			`if PLANTED {
				expanded = strings.ReplaceAll(expanded, "clock_timestamp()", "timestamptz '" + time.Now().Format(time.RFC3339Nano) + "'")
			}
			db.expanded.Store(text, expanded)`,
		}},
		"adapters/postgres", "TestStore/claim TestStore/wake-up",
	},
	{
		"fence reset after delete, postgres", "when all keys are gone the tokens begin again",
		"adapters/postgres/db.go", []edit{{
			`func (db *DB) sql(text string) string {`,
			`func (db *DB) sql(text string) string {
			if PLANTED {
				text = strings.Replace(text, "nextval($4::text::regclass)", "length($4::text) * 0 + 1 + coalesce((SELECT max(token) FROM {{idempotency}}), 0)", 1)
			}`,
		}},
		"adapters/postgres", "TestIdempotencyStore/tokens_grow TestIdempotencyStore/tokens_are_never_given_twice",
	},
	{
		"fence removed, postgres", "who holds a key no more is not told so",
		"adapters/postgres/idempotency.go", []edit{{
			`if err == nil && met == 0 {`,
			`if err == nil && met == 0 && !PLANTED {`,
		}},
		"adapters/postgres", "TestIdempotencyStore/a_takeover_fences_the_one_before TestIdempotencyStore/a_wrong_token_is_fenced",
	},
	{
		"inbox outside of the transaction, postgres", "what a handler wrote stays though its command is not recorded",
		"adapters/postgres/inbox.go", []edit{{
			`lent := &lentTx{Tx: tx}`,
			`lent := &lentTx{Tx: tx}
			if PLANTED {
				other, err := i.db.pool.Begin(ctx)
				if err != nil {
					return nil, err
				}
				defer func() { _ = other.Commit(ctx) }()
				lent.Tx = other
			}`,
		}},
		"adapters/postgres", "TestInbox/failure TestInbox/panic",
	},
	{
		"CAS dropped, mysql", "a transition overwrites a revision that it does not know",
		"adapters/mysql/store_update.go", []edit{{
			`case revision != it.Expect:`,
			`case revision != it.Expect && !PLANTED:`,
		}},
		"adapters/mysql", "TestStore/compare-and-set",
	},
	{
		"locked rows waited for, mysql", "who has a row locked stops all others of the batch",
		"adapters/mysql/db.go", []edit{{
			`func (db *DB) sql(text string) string {`,
			`func (db *DB) sql(text string) string {
			if PLANTED {
				text = strings.Replace(text, "FOR UPDATE SKIP LOCKED", "FOR UPDATE NOWAIT", 1)
			}`,
		}},
		"adapters/mysql", "TestForeignLockOfARow",
	},
	{
		"history gap, mysql", "what has no identity of its own is not recorded",
		"adapters/mysql/store_commit.go", []edit{{
			`args = append(args, text(it.ID), h.Revision, input, blob(h.Entry), int64(w.now))`,
			`if PLANTED && input == nil {
				continue
			}
			args = append(args, text(it.ID), h.Revision, input, blob(h.Entry), int64(w.now))`,
		}},
		"adapters/mysql", "TestStore/commit TestStore/read",
	},
	{
		"timers by the app's clock, mysql", "what is due, and when, is judged by the process, not the server",
		"adapters/mysql/options.go", []edit{{
			`return n.now`,
			`if PLANTED {
				return fmt.Sprint(time.Now().UnixMicro())
			}
			return n.now`,
		}},
		"adapters/mysql", "TestStore/claim TestStore/wake-up",
	},
	{
		"fence reset after delete, mysql", "when all keys are gone the tokens begin again",
		"adapters/mysql/db.go", []edit{{
			`expanded := db.expand(text)`,
			`if PLANTED {
				text = strings.Replace(text, "until) VALUES (?, ?, ?, ?, {{now}} + ?)", "until, token) SELECT ?, ?, ?, ?, {{now}} + ?, COALESCE(MAX(token), 0) + 1 FROM {{idempotency}}", 1)
			}
			expanded := db.expand(text)`,
		}},
		"adapters/mysql", "TestIdempotencyStore/tokens_grow TestIdempotencyStore/tokens_are_never_given_twice",
	},
	{
		"token before the key is held, mysql", "a claim that waited has a token older than those given meanwhile",
		"adapters/mysql/idempotency.go", []edit{{
			`if _, err := exec(ctx, tx, s.db.sql(deleteClaim), keyArgs(key)...); err != nil {
		return idempotency.Claim{}, err
	}`,
			`if PLANTED {
				var first int64
				if err := tx.QueryRowContext(ctx, "SELECT LAST_INSERT_ID()").Scan(&first); err != nil {
					return idempotency.Claim{}, err
				}
				return idempotency.Claim{State: idempotency.Acquired, Token: idempotency.Token(first)}, nil
			}
			if _, err := exec(ctx, tx, s.db.sql(deleteClaim), keyArgs(key)...); err != nil {
		return idempotency.Claim{}, err
	}`,
		}},
		"adapters/mysql", "TestIdempotencyTokenOfAClaimThatWaited",
	},
	{
		"fence removed, mysql", "who holds a key no more is not told so",
		"adapters/mysql/idempotency.go", []edit{{
			`if err == nil && !there[0] {`,
			`if err == nil && !there[0] && !PLANTED {`,
		}},
		"adapters/mysql", "TestIdempotencyStore/a_takeover_fences_the_one_before TestIdempotencyStore/a_wrong_token_is_fenced",
	},
	{
		"inbox outside of the transaction, mysql", "what a handler wrote stays though its command is not recorded",
		"adapters/mysql/inbox.go", []edit{{
			`result, err := handle(ctx, h.tx)`,
			`used := h.tx
			if PLANTED {
				other, err := h.db.pool.BeginTx(ctx, nil)
				if err != nil {
					return saga.Reply{}, err
				}
				defer func() { _ = other.Commit() }()
				used = other
			}
			result, err := handle(ctx, used)`,
		}},
		"adapters/mysql", "TestInbox/failure TestInbox/panic",
	},
	{
		"a handler's deadlock passed over, mysql", "what a handler did is rolled back, and its command recorded as done",
		"adapters/mysql/inbox.go", []edit{{
			`_, err = exec(ctx, h.tx, end)
	return reply, err`,
			`_, err = exec(ctx, h.tx, end)
			if PLANTED {
				err = nil
			}
			return reply, err`,
		}},
		"adapters/mysql", "TestInboxOfHandlersThatPassOverDeadlocks",
	},
	{
		"numbers passed over, mysql", "a group goes on to a message while one before it can still come",
		"adapters/watermillsql/subscriber.go", []edit{{
			`d.settle != nil && last > r.settled`,
			`!PLANTED && d.settle != nil && last > r.settled`,
		}},
		"adapters/watermillsql", "TestMessageThatIsLateIsNotPassedOver",
	},
	{
		"published without the lock, mysql", "who waits for those that publish does not wait for this one",
		"adapters/watermillsql/dialect.go", []edit{{
			`q.Query = strings.Replace(q.Query, "(?,?,?)", "(CONCAT(("+lock+"), ?),?,?)", 1)`,
			`if !PLANTED {
				q.Query = strings.Replace(q.Query, "(?,?,?)", "(CONCAT(("+lock+"), ?),?,?)", 1)
			}`,
		}},
		"adapters/watermillsql", "TestMessageThatIsLateIsNotPassedOver",
	},
}
