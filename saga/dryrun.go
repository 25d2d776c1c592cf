package saga

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/compensation"
)

// CheckStore is the dry run of a deployment: it compares the unsettled instances of a store with definitions that are to run
// them. It only reads (with Store.List), and needs no orchestrator. There is a report for each definition and version that is
// given, and for each other one that has unsettled instances, in order of name and version.
//
// It sees what instances rely on now, while an orchestrator refuses to start when anything is gone that they may come to rely on.
// So a stranded instance is certain to be refused; that there is none is no promise, unless CheckLock holds for the definitions
// and the lock file of what is deployed. Instances that move during the check are seen before or after.
//
// An error is an invalid definition, a store that fails, or a stored state that cannot be read.
func CheckStore(ctx context.Context, store Store, definitions ...AnyDefinition) ([]VersionReport, error) {
	plans, err := plansOf(definitions)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, fmt.Errorf("%w: the store is nil", ErrInvalid)
	}
	found := map[DefinitionVersion]*VersionReport{}
	for v := range plans {
		found[v] = &VersionReport{DefinitionVersion: v, Known: true}
	}
	err = eachLive(ctx, store, func(i *instance) {
		v := DefinitionVersion{i.definition, i.version}
		if found[v] == nil {
			found[v] = &VersionReport{DefinitionVersion: v}
		}
		found[v].add(i, plans[v])
	})
	if err != nil {
		return nil, err
	}
	reports := make([]VersionReport, 0, len(found))
	for _, r := range found {
		reports = append(reports, *r)
	}
	slices.SortFunc(reports, func(a, b VersionReport) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return reports, nil
}

// eachLive reads the unsettled instances, page by page.
func eachLive(ctx context.Context, store Store, see func(*instance)) error {
	for after := ""; ; {
		page, err := store.List(ctx, Query{Unsettled: true, After: after})
		if err != nil {
			return fmt.Errorf("saga: list the unsettled instances: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, r := range page {
			i, err := fromRecord(r)
			if err != nil {
				return err
			}
			see(i)
		}
		after = page[len(page)-1].ID
	}
}

// VersionReport says how the unsettled instances of one version get on with the definitions that are to run them.
type VersionReport struct {
	DefinitionVersion
	// Known is false if the version is not among the definitions. A process with these alone would leave its instances to
	// others, and keep what comes for them undecided.
	Known bool
	Live  int // unsettled instances

	// Stranded counts live instances that rely on what the definition lacks. An orchestrator refuses to start then.
	Stranded int
	Missing  []MissingName // in order of name
}

// MissingName is what live instances rely on and a definition lacks.
type MissingName struct {
	Name      string // "step x", "state y", ...
	Instances int    // so many of them
	Example   string // ID of one of them
}

func (r *VersionReport) add(i *instance, p *plan) {
	r.Live++
	if p == nil {
		return
	}
	missing := p.lacks(i)
	if len(missing) > 0 {
		r.Stranded++
	}
	for _, name := range missing {
		k, known := slices.BinarySearchFunc(r.Missing, name, func(m MissingName, name string) int { return cmp.Compare(m.Name, name) })
		if !known {
			r.Missing = slices.Insert(r.Missing, k, MissingName{Name: name, Example: i.id})
		}
		r.Missing[k].Instances++
	}
}

// Err returns an *IncompatibleError if instances are stranded: an orchestrator would not start. A version that is not known is no
// error, as another process may run it.
func (r VersionReport) Err() error {
	if r.Stranded == 0 {
		return nil
	}
	e := &IncompatibleError{Definition: r.Name, Version: r.Version, Live: r.Live}
	for _, m := range r.Missing {
		e.Missing = append(e.Missing, m.Name)
	}
	return e
}

// String tells it to a person.
func (r VersionReport) String() string {
	version := fmt.Sprintf("%s version %d: ", r.Name, r.Version)
	switch {
	case !r.Known:
		return version + fmt.Sprintf("is not among the definitions, and has %d live instances: run it, too, until they have settled", r.Live)
	case r.Live == 0:
		return version + "no live instances"
	case r.Stranded == 0:
		return version + fmt.Sprintf("%d live instances, which rely on nothing that it lacks", r.Live)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%swould refuse %d of %d live instances, and the orchestrator would not start:", version, r.Stranded, r.Live)
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "\n  - %s is gone, on which %d rely (such as %s)", m.Name, m.Instances, m.Example)
	}
	return b.String()
}

// lacks lists what an instance relies on now and the plan does not have, in the words of names as far as the instance tells.
// Inputs that are undecided do not count: nobody has said yet that the definition has their events.
func (p *plan) lacks(i *instance) []string {
	l := lack{}
	l.unless(p.machine.HasState(i.state), "state "+i.state)
	if i.Row != nil {
		p.lacksOfRow(&l, i)
	}
	for k := range i.Ledger {
		p.lacksOfStep(&l, i, &i.Ledger[k])
	}
	for _, t := range i.Timers {
		l.unless(t.Kind != stateTimer || p.byName[t.Row] != nil, "row "+t.Row)
	}
	for _, w := range i.Waiting {
		l.unless(p.events[w.Event] != nil, "event "+w.Event)
	}
	if i.Raised != nil {
		l.unless(p.machine.HasEvent(i.Raised.Event), "event "+i.Raised.Event)
	}
	return l
}

// lack gathers what is missing, each once.
type lack []string

func (l *lack) unless(has bool, name string) {
	if !has && !slices.Contains(*l, name) {
		*l = append(*l, name)
	}
}

// lacksOfRow looks at the row that runs: it must lead where the instance is on its way to, and begin with the steps that were
// begun.
func (p *plan) lacksOfRow(l *lack, i *instance) {
	run := i.Row
	if run.Name == "" { // an operator's forced compensation
		l.unless(p.machine.HasState(run.To), "state "+run.To)
		return
	}
	row := p.byName[run.Name]
	l.unless(row != nil && row.to == run.To, "row "+run.Name+" to "+run.To)
	if began := runsOf(i.begun()); row != nil && began != "" {
		began = "row " + run.Name + " running " + began
		l.unless(len(gone([]string{began}, []string{"row " + row.name + " running " + row.runs()})) == 0, began)
	}
}

// runsOf says which steps the entries of a row are, as rowPlan.runs does.
func runsOf(begun compensation.Ledger) string {
	var b strings.Builder
	for k, e := range begun {
		switch {
		case k > 0 && e.Order == begun[k-1].Order:
			b.WriteString(" & ")
		case k > 0:
			b.WriteString(", ")
		}
		b.WriteString(e.Step)
	}
	return b.String()
}

// lacksOfStep looks at a step that is in flight, or that a compensation would undo.
func (p *plan) lacksOfStep(l *lack, i *instance, e *compensation.Entry) {
	undo := e.Undoable && e.MayExist() && (e.Condemned || e.Status == compensation.Undoing || !i.Ledger.PivotPassed())
	if !undo && !e.InFlight() {
		return
	}
	s := p.steps[e.Step]
	if s == nil {
		l.unless(false, "step "+e.Step)
		return
	}
	l.unless(s.class == e.Class, "step "+e.Step+" as "+classOf(e.Class))
	if l.unless(!undo || s.undo.exists(), "compensation of step "+e.Step); !e.InFlight() || undo && !s.undo.exists() {
		return
	}
	undoing := e.Status == compensation.Undoing
	f, name := s.effect(undoing), effectName(e.Step, undoing, 1)
	sent, timer := i.pending(e, undoing) != nil, i.timerOf(e, undoing)
	l.unless(!sent || f.command != nil && !f.oneway, "step "+name+" as command")
	l.unless(sent || timer == nil || timer.Kind != attemptTimer || f.local != nil, "step "+name+" as local")
}
