package sagatest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A plan says what goes wrong in a run, and nothing else does: the faults, each at one of the moments at which the run could
// have one. Moments are counted from 0. A run is a function of its plan, so a plan is all there is to replay.
type plan []planned

type planned struct {
	moment int
	fault  Fault
}

// String is what -sagatest.replay takes.
func (p plan) String() string {
	if len(p) == 0 {
		return "nothing"
	}
	parts := make([]string, len(p))
	for k, f := range p {
		parts[k] = fmt.Sprintf("%d:%s", f.moment, f.fault)
	}
	return strings.Join(parts, ",")
}

func parsePlan(text string) (p plan, err error) {
	if text == "nothing" {
		return nil, nil
	}
	for _, part := range strings.Split(text, ",") {
		moment, fault, found := strings.Cut(part, ":")
		n, err := strconv.Atoi(moment)
		if err != nil || !found || n < 0 || !slices.Contains(allFaults, Fault(fault)) {
			return nil, fmt.Errorf("sagatest: -sagatest.replay has %q: it is a list of moment:fault, as a finding shows it", part)
		}
		p = append(p, planned{n, Fault(fault)})
	}
	return p, nil
}

func (p plan) with(moment int, f Fault) plan { return append(slices.Clone(p), planned{moment, f}) }

// fair orders plans so that every kind of last fault has its share of however many are taken.
func fair(plans []plan) []plan {
	var byKind [][]plan
	index := map[Fault]int{}
	for _, p := range plans {
		f := p[len(p)-1].fault
		k, known := index[f]
		if !known {
			k, index[f] = len(byKind), len(byKind)
			byKind = append(byKind, nil)
		}
		byKind[k] = append(byKind[k], p)
	}
	ordered := make([]plan, 0, len(plans))
	for n := 0; len(ordered) < len(plans); n++ {
		for _, kind := range byKind {
			if n < len(kind) {
				ordered = append(ordered, kind[n])
			}
		}
	}
	return ordered
}

// chooser says at each moment whether something goes wrong.
type chooser interface {
	choose(moment int, what string, offered []Fault) (Fault, bool)
}

// choose implements chooser by what is planned.
func (p plan) choose(moment int, _ string, offered []Fault) (Fault, bool) {
	for _, f := range p {
		if f.moment == moment {
			return f.fault, slices.Contains(offered, f.fault)
		}
	}
	return "", false
}

// lots draws faults by a seed, up to a number of them, so that every run comes to an end. They are spread over as many moments as
// a run without faults has; those that are left then happen in what follows.
type lots struct {
	rng    *rand.Rand
	left   int
	chance float64
}

// newLots takes the moments of a run without faults.
func newLots(seed uint64, moments int) *lots {
	rng := rand.New(rand.NewPCG(seed, 0x5a6a))
	left := 1 + rng.IntN(24)
	return &lots{rng, left, min(float64(left)/float64(max(moments, 1)), 0.25)}
}

func (l *lots) choose(_ int, _ string, offered []Fault) (Fault, bool) {
	if l.left == 0 || l.rng.Float64() >= l.chance {
		return "", false
	}
	l.left--
	return offered[l.rng.IntN(len(offered))], true
}

// anchor is where a fault happened, in words: the nth time that what could meet it. That means the same when other faults are taken
// away; the number of a moment does not.
type anchor struct {
	fault Fault
	what  string
	nth   int
}

// anchors choose by where faults happened in another run.
type anchors struct {
	at  map[anchor]bool
	met map[anchor]int // how often a fault could have happened to something; nth is 0
}

func newAnchors(list []anchor) *anchors {
	a := &anchors{map[anchor]bool{}, map[anchor]int{}}
	for _, x := range list {
		a.at[x] = true
	}
	return a
}

func (a *anchors) choose(_ int, what string, offered []Fault) (Fault, bool) {
	happens := Fault("")
	for _, f := range offered {
		if a.at[a.meet(f, what)] && happens == "" {
			happens = f
		}
	}
	return happens, happens != ""
}

func (a *anchors) meet(f Fault, what string) anchor {
	x := anchor{fault: f, what: what}
	n := a.met[x]
	a.met[x]++
	x.nth = n
	return x
}

// anchors says where the faults of a run happened.
func (r *Run) anchors() (list []anchor) {
	a, next := newAnchors(nil), 0
	for n, m := range r.moments {
		for _, f := range m.offered {
			x := a.meet(f, m.what)
			if next < len(r.happened) && r.happened[next] == (planned{n, f}) {
				list = append(list, x)
			}
		}
		if next < len(r.happened) && r.happened[next].moment == n {
			next++
		}
	}
	return list
}
