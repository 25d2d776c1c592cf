package saga

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// A linear saga, told a second time: from the manual and the rules in DESIGN.md, not from decide. It has no rows, no table, no
// ledger and no timers. There is a list of groups, and of each step that was begun it is known what there is in the world, how
// long one is patient with it, and which earlier attempts may still be at work.

const (
	modelPatience = 10 * time.Second // with a local attempt
	modelPause    = time.Second      // before the next attempt; of a command: before it is sent again
	modelAlert    = 2                // failures after which a person should hear of it
)

type modelStep struct {
	name   string
	class  compensation.Class
	action string // local, command or event
	undo   string // local, command or "": it needs none
	budget int    // of attempts, if it is compensatable
}

type modelEffect struct {
	modelStep
	group        int
	is           string // asked, there, not there, in doubt, being undone, undone
	doomed       bool   // it must not stay
	result       bool   // it is to be written into the data
	tries, undos int
	failed       int       // the last attempt that failed
	until        time.Time // the end of patience with the attempt, or of the pause after it
	since        int       // of two that end at one time, the one that began first comes first
	resting      bool      // it is the pause
	fresh        bool      // begun by this very input
	zombies      map[int]time.Time
	alone        bool // there were no zombies when the last attempt began
}

type linearModel struct {
	groups   [][]modelStep
	now      time.Time
	state    string
	begun    []*modelEffect // in declared order
	forward  bool           // neither ended nor on the way back
	refused  *modelEffect   // whose refusal ends it
	cancel   string         // the click that ends it, as soon as that can be
	clicks   []string       // the others, which wait
	end, why string         // where it goes when all is undone, and by what event
	unsent   int            // events that the broker does not have
	pauses   int

	data  []string               // results as folded
	fates map[string]Disposition // of clicks
	began [][]string             // effects begun by this input; those of one line side by side
	moved []string               // states entered by it
}

func (e *modelEffect) waits(undo bool) bool {
	return undo && e.is == "being undone" || !undo && e.is == "asked"
}

func (e *modelEffect) local() bool {
	return e.waits(true) && e.undo == "local" || e.waits(false) && e.action == "local"
}

func (e *modelEffect) attempt() int {
	if e.waits(true) {
		return e.undos
	}
	return e.tries
}

func (e *modelEffect) spent() bool {
	return e.waits(false) && e.class == compensation.Compensatable && e.tries >= e.budget
}

func (e *modelEffect) toUndo() bool {
	return e.doomed && e.undo != "" && (e.is == "there" || e.is == "in doubt")
}

func (m *linearModel) some(is func(*modelEffect) bool) bool { return slices.ContainsFunc(m.begun, is) }
func (m *linearModel) ending() bool                         { return m.forward && (m.refused != nil || m.cancel != "") }

// useless: whatever comes of the attempt, the saga will not go on with it. A pivot is another matter.
func (m *linearModel) useless(e *modelEffect) bool {
	return m.ending() && e.waits(false) && e.class != compensation.Pivot
}

func (m *linearModel) decided() bool {
	return m.some(func(e *modelEffect) bool { return e.class == compensation.Pivot && e.is == "there" && !e.doomed })
}

func (m *linearModel) settled() bool {
	return m.state != "running" && m.unsent == 0 && !m.some(func(e *modelEffect) bool { return e.toUndo() || e.waits(false) || e.waits(true) })
}

// The inputs. turn begins each of them.

func (m *linearModel) turn() {
	m.began, m.moved = nil, nil
	for _, e := range m.begun {
		e.fresh = false
	}
}

func (m *linearModel) start() { m.state, m.forward = "running", true; m.goOn() }
func (m *linearModel) sent()  { m.turn(); m.unsent = 0; m.goOn() }

func (m *linearModel) click(id string) {
	m.turn()
	switch {
	case m.forward && m.decided():
		m.fates[id] = Refused
	case m.forward && !m.ending():
		m.cancel = id
	default:
		m.clicks = append(m.clicks, id)
	}
	m.goOn()
}

// report is what is heard of an attempt.
func (m *linearModel) report(step string, undo bool, attempt int, what outcomeKind) {
	m.turn()
	k := slices.IndexFunc(m.begun, func(e *modelEffect) bool { return e.name == step })
	if k < 0 {
		return
	}
	e := m.begun[k]
	if !undo {
		delete(e.zombies, attempt)
	}
	present := e.waits(undo) && attempt == e.attempt() && !e.resting
	yes, no := what == outcomeSucceeded, what == outcomeRejected && e.class != compensation.Retriable
	if e.action == "local" && e.undo == "" && (attempt != e.tries || !e.alone) {
		no = false // of what cannot be undone only the last attempt can say so, if no other was at work when it began
	}
	switch {
	case undo && yes && e.waits(true):
		e.is = "undone"
	case !undo && yes && e.waits(false):
		m.known(e, present)
		e.is, e.result = "there", true
		if len(m.groups[e.group]) == 1 {
			m.fold(e.group)
		}
	case !undo && yes && (e.is == "in doubt" || e.is == "not there"): // the saga went on without it
		e.is, e.doomed = "there", true
	case !undo && no && e.waits(false):
		m.known(e, present)
		m.deny(e)
		m.refuse(e)
	case !undo && no && e.is == "in doubt":
		m.deny(e)
	case present:
		m.fail(e)
	}
	m.goOn()
}

// deny notes a no. That of a local step tells nothing about the attempts before: what is in doubt stays so, and what can be undone is.
func (m *linearModel) deny(e *modelEffect) {
	doubt := e.action == "local" && e.tries > 1 && (e.undo != "" || e.is == "in doubt")
	if e.is, e.doomed = "not there", doubt; doubt {
		e.is = "in doubt"
	}
}

// known ends the waiting. If an earlier attempt has answered, the present one may be at work.
func (m *linearModel) known(e *modelEffect, present bool) {
	if e.action == "local" && !present && !e.resting {
		e.zombies[e.tries] = e.until
	}
}

// refuse: of several the first as declared names the end.
func (m *linearModel) refuse(e *modelEffect) {
	if m.refused == nil || slices.Index(m.begun, e) < slices.Index(m.begun, m.refused) {
		m.refused = e
	}
}

// fail notes an attempt that failed, or that nothing was heard of.
func (m *linearModel) fail(e *modelEffect) {
	if e.spent() && m.cancel == "" {
		e.is, e.doomed = "in doubt", true
		m.refuse(e)
		return
	}
	e.failed, e.resting = e.attempt(), true
	m.patience(e, modelPause)
}

func (m *linearModel) patience(e *modelEffect, d time.Duration) {
	m.pauses++
	e.until, e.since = m.now.Add(d), m.pauses
}

// wait lets time pass. A crash cuts off what runs in the process, and it is begun again elsewhere: not if it was the last attempt,
// or is of no use any more.
func (m *linearModel) wait(d time.Duration, crash bool) {
	m.turn()
	m.now = m.now.Add(d)
	over := func(until time.Time) bool { return !until.After(m.now) }
	var impatient []*modelEffect
	for _, e := range m.begun {
		maps.DeleteFunc(e.zombies, func(_ int, until time.Time) bool { return over(until) })
		if (e.waits(false) || e.waits(true)) && over(e.until) {
			impatient = append(impatient, e)
		}
	}
	slices.SortFunc(impatient, func(a, b *modelEffect) int { return cmp.Or(a.until.Compare(b.until), a.since-b.since) })
	for _, e := range impatient {
		if m.useless(e) || !e.resting && (e.local() || e.spent()) {
			m.fail(e)
			continue
		}
		if !e.resting {
			e.failed = e.attempt()
		}
		m.again(e)
	}
	for _, e := range m.begun {
		if crash && e.local() && !e.resting && !e.fresh && !m.useless(e) && !e.spent() {
			if e.waits(false) {
				e.zombies[e.tries] = e.until
			}
			m.again(e)
		}
	}
	m.goOn()
}

// What follows.

func (m *linearModel) goOn() {
	for m.goOnOnce() {
	}
	if m.settled() { // nobody is waited for any more
		for _, e := range m.begun {
			clear(e.zombies)
		}
	}
}

func (m *linearModel) goOnOnce() (more bool) {
	atWork := m.some(func(e *modelEffect) bool { return e.waits(false) && (!e.resting || e.class == compensation.Pivot) })
	asked := m.some(func(e *modelEffect) bool { return e.waits(false) })
	switch {
	case m.ending() && !atWork:
		m.turnBack()
	case m.undo(), m.ending(), m.forward && asked:
		return false
	case m.forward:
		m.goForward()
	case m.end != "":
		m.enter(m.end, m.why)
	default:
		m.refuseClicks()
		return false
	}
	return true
}

func (m *linearModel) goForward() {
	next := 0
	if n := len(m.begun); n > 0 {
		next = m.begun[n-1].group + 1
		m.fold(next - 1)
	}
	if next == len(m.groups) {
		m.enter("completed", "begin")
		return
	}
	var line []string
	for _, s := range m.groups[next] {
		e := &modelEffect{modelStep: s, group: next, is: "asked", zombies: map[int]time.Time{}}
		m.begun = append(m.begun, e)
		line = append(line, m.try(e))
		if s.action == "event" { // nobody answers
			e.is = "there"
			m.unsent++
		}
	}
	m.began = append(m.began, line)
}

// turnBack ends what goes forward, unless the pivot has decided meanwhile.
func (m *linearModel) turnBack() {
	click := m.cancel
	m.cancel = ""
	switch {
	case m.refused != nil:
		m.end, m.why = "failed", m.refused.name+".rejected"
		if click != "" {
			m.clicks = append(m.clicks, click)
		}
	case m.decided():
		m.fates[click] = Refused
		return
	default:
		m.end, m.why, m.fates[click] = "cancelled", "cancel", Applied
	}
	m.forward = false
	for _, e := range m.begun {
		m.fold(e.group)
		if e.waits(false) {
			e.is = "in doubt"
		}
		e.doomed = e.doomed || (e.is == "there" || e.is == "in doubt") && e.class != compensation.Pivot
	}
}

// undo begins the undos whose turn it is: the last group first. It answers whether there is anything to undo.
func (m *linearModel) undo() bool {
	for g := len(m.groups) - 1; g >= 0; g-- {
		var line []string
		busy := false
		for _, e := range m.begun {
			if e.group != g || !e.toUndo() && !e.waits(true) {
				continue
			}
			busy = true
			if e.toUndo() && len(e.zombies) == 0 {
				e.is, e.failed = "being undone", 0
				line = append(line, m.try(e))
			}
		}
		if busy {
			m.began = append(m.began, line)
			return true
		}
	}
	return false
}

func (m *linearModel) again(e *modelEffect) { m.began = append(m.began, []string{m.try(e)}) }

// try begins an attempt, and names it.
func (m *linearModel) try(e *modelEffect) string {
	name, n := e.name, &e.tries
	if e.waits(true) {
		name, n = e.name+"/undo", &e.undos
	}
	*n++
	e.resting, e.fresh, e.alone = false, true, len(e.zombies) == 0
	if e.local() {
		m.patience(e, modelPatience)
	} else {
		m.patience(e, modelPause)
	}
	if *n > 1 {
		name = fmt.Sprintf("%s (attempt %d)", name, *n)
	}
	return name
}

func (m *linearModel) enter(state, why string) {
	m.state, m.forward, m.end = state, false, ""
	m.moved = append(m.moved, why+" "+state)
}

// refuseClicks refuses what has waited for an end.
func (m *linearModel) refuseClicks() {
	for _, click := range m.clicks {
		m.fates[click] = Refused
	}
	m.clicks = nil
}

// fold writes the results of a group into the data, in declared order.
func (m *linearModel) fold(group int) {
	for _, e := range m.begun {
		if e.group == group && e.result {
			m.data, e.result = append(m.data, e.name), false
		}
	}
}
