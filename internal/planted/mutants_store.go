package main

// What a store may do wrong. The conformance suite is to notice.

var storeMutants = []mutant{
	{
		"CAS dropped, memory", "a transition overwrites a revision that it does not know",
		"adapters/memory/store.go", []edit{{
			`if in.Revision != t.Expect {`,
			`if in.Revision != t.Expect && !PLANTED {`,
		}},
		"adapters/memory", "TestStore/compare-and-set",
	},
	{
		"CAS dropped, sqlite", "the UPDATE says nothing of the revision",
		"adapters/sqlite/store_commit.go", []edit{{
			`if !t.Settled {`,
			`if !t.Settled && !PLANTED {`,
		}, {
			`n, err := c.exec(ctx, updateAll, append(`,
			`query := updateAll
			if PLANTED {
				query = query[:len(query)-len(" AND revision = ?8")]
			}
			n, err := c.exec(ctx, query, append(`,
		}},
		"adapters/sqlite", "TestStore/compare-and-set",
	},
	{
		"duplicate applied, memory", "an input that was consumed is consumed again",
		"adapters/memory/store.go", []edit{{
			`if consumed := in.consumed(t); consumed != nil {`,
			`if consumed := in.consumed(t); consumed != nil && !PLANTED {`,
		}},
		"adapters/memory", "TestStore/inputs",
	},
	{
		"duplicate not looked up, sqlite", "only the unique index notices that an input comes again",
		"adapters/sqlite/store_commit.go", []edit{{
			`if input == "" {`,
			`if input == "" || PLANTED {`,
		}},
		"adapters/sqlite", "TestStore/inputs",
	},
	{
		"half a transition", "what the database rejects is not rolled back to its savepoint",
		"adapters/sqlite/store_commit.go", []edit{{
			`if _, undo := c.exec(ctx, rollbackTo); undo != nil {`,
			`rollback := rollbackTo
			if PLANTED {
				rollback = "SELECT 1"
			}
			if _, undo := c.exec(ctx, rollback); undo != nil {`,
		}},
		"adapters/sqlite", "TestStoreRejectsHistory/batch",
	},
	{
		"lease by the app's clock, memory", "a lease ends when the process thinks so, not the store",
		"adapters/memory/store.go", []edit{{
			`in.LeaseTill = now.Add(t.Lease)`,
			`in.LeaseTill = now.Add(t.Lease)
			if PLANTED {
				in.LeaseTill = time.Now().Add(t.Lease)
			}`,
		}},
		"adapters/memory", "TestStore/wake-up TestStore/touch",
	},
	{
		"lease by the app's clock, sqlite", "a lease ends when the process thinks so, not the store",
		"adapters/sqlite/store_commit.go", []edit{{
			`lease = int64(c.now.add(t.Lease))
	}
	var data any`,
			`lease = int64(c.now.add(t.Lease))
		if PLANTED {
			lease = newOptions(nil).now().Add(t.Lease).UnixMicro()
		}
	}
	var data any`,
		}},
		"adapters/sqlite", "TestStore/wake-up",
	},
	{
		"due by the app's clock", "a sweep takes what the process thinks due, not the store",
		"adapters/memory/store_due.go", []edit{{
			`if q == nil || (*q)[0].WakeAt.After(now) {`,
			`due := now
			if PLANTED {
				due = time.Now()
			}
			if q == nil || (*q)[0].WakeAt.After(due) {`,
		}},
		"adapters/memory", "TestStore/claim",
	},
	{
		"wake-up moved later", "a transition puts off what was due before",
		"adapters/memory/store.go", []edit{{
			`case t.Wake >= 0 && (in.WakeAt.IsZero() || wake.Before(in.WakeAt)):`,
			`case t.Wake >= 0 && (in.WakeAt.IsZero() || wake.Before(in.WakeAt) || PLANTED):`,
		}},
		"adapters/memory", "TestStore/wake-up",
	},
	{
		"claim without hold", "two sweeps take the same instance",
		"adapters/memory/store_due.go", []edit{{
			`s.wake(in, now.Add(claim.Hold))`,
			`if PLANTED {
				claim.Hold = 0
			}
			s.wake(in, now.Add(claim.Hold))`,
		}},
		"adapters/memory", "TestStore/claim",
	},
	{
		"stale touch", "a sweep that is behind moves the wake-up time of a newer revision",
		"adapters/memory/store_due.go", []edit{{
			`touch.Revision != 0 && in.Revision != touch.Revision {`,
			`touch.Revision != 0 && in.Revision != touch.Revision && !PLANTED {`,
		}},
		"adapters/memory", "TestStore/touch",
	},
	{
		"retention deletes what is not settled", "a saga that has gone on since it was listed is removed with what it has begun",
		"adapters/sqlite/store_admin.go", []edit{{
			`n, err := x.exec(ctx, deleteInstance, d.ID, int64(d.Revision), int64(now))`,
			`query := deleteInstance
			if PLANTED {
				query = "DELETE FROM sagamill_instances WHERE id = ?1 AND ?2 > 0 AND ?3 > 0"
			}
			n, err := x.exec(ctx, query, d.ID, int64(d.Revision), int64(now))`,
		}},
		"adapters/sqlite", "TestStore/delete",
	},
	{
		"start key freed by time alone", "a request that comes again begins a second saga while the first one runs",
		"adapters/memory/store.go", []edit{{
			`return k.owner.Settled && !k.expires.After(now)`,
			`return (k.owner.Settled || PLANTED) && !k.expires.After(now)`,
		}},
		"adapters/memory", "TestStore/start_key",
	},
}
