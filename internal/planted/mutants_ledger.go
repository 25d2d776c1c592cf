package main

// What is undone, in which order, and what a table says.

var ledgerMutants = []mutant{
	{
		"compensation order reversed", "what was done first is undone first",
		"compensation/ledger.go", []edit{{
			`top = max(top, e.Order)`,
			`if PLANTED && top > 0 {
				top = min(top, e.Order)
				continue
			}
			top = max(top, e.Order)`,
		}},
		"saga", "TestScripts/compensating TestLinearSagasAgainstTheModel TestSimulation",
	},
	{
		"parallel compensation joined too early", "the next undo begins while a sibling's is at work",
		"compensation/ledger.go", []edit{{
			`if e := &l[i]; e.mustUndo() || e.Status == Undoing ||`,
			`if e := &l[i]; e.mustUndo() || e.Status == Undoing && !PLANTED ||`,
		}},
		"saga", "TestScripts/parallel TestSimulation",
	},
	{
		"pivot ignored", "what the pivot has decided is undone",
		"compensation/ledger.go", []edit{{
			`return e.Class == Pivot && (e.Status == Succeeded && !e.Condemned || e.Status == Skipped)`,
			`return !PLANTED && e.Class == Pivot && (e.Status == Succeeded && !e.Condemned || e.Status == Skipped)`,
		}},
		"saga", "TestScripts/pivot TestAnomalyCancelThatMeetsASuccessfulPaymentIsRefused",
	},
	{
		"late success stays", "a success that came too late is written down, and not undone",
		"compensation/ledger.go", []edit{{
			`e.Condemned = e.Class != Pivot || e.Status != Skipped`,
			`e.Condemned = (e.Class != Pivot || e.Status != Skipped) && !PLANTED`,
		}},
		"saga", "TestScripts/outcomes TestLateSuccessPausesTheRow",
	},
	{
		"doubt taken for nothing", "a step that was given up without an answer is not undone",
		"compensation/ledger.go", []edit{{
			`e.Status, e.Stuck, e.Condemned = Unknown, false, true`,
			`e.Status, e.Stuck, e.Condemned = Unknown, false, !PLANTED`,
		}},
		"saga", "TestSimulation",
	},
	{
		"only successes are undone", "a step that was sent and has not answered is left alone",
		"compensation/ledger.go", []edit{{
			`if l[i].MayExist() && l[i].Class != Pivot {`,
			`if l[i].MayExist() && l[i].Class != Pivot && !(l[i].Status == Sent && PLANTED) {`,
		}},
		"compensation", "TestCondemn",
	},
	{
		"pivot's attempts run out", "a pivot in doubt is given up like any other step",
		"compensation/retry.go", []edit{{
			`return class == Compensatable && attempts`,
			`return (class == Compensatable || class == Pivot && PLANTED) && attempts`,
		}},
		"compensation", "TestBudgetAndAlert",
	},
	{
		"guard ignored", "a row is taken whatever its guard says",
		"statemachine/machine.go", []edit{{
			`if cell[i].holds(data) {`,
			`if PLANTED || cell[i].holds(data) {`,
		}},
		"statemachine", "TestTheMostSpecificRowWins",
	},
}
