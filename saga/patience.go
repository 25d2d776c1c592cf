package saga

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// patience knows how long the replies to commands have taken lately, for each kind of command. A command is not sent again before its reply may
// be expected: when participants are busy, to send everything twice would make them busier still, until they do little else. The estimate
// is that of RFC 6298 (TCP's retransmission timer), without its minimum and its back-off: those are the step's own policy.
//
// Only what the first attempt was answered counts, however late that is, since a reply says which attempt it answers. It is all in the store's
// time. The zero value is ready; it is safe for concurrent use.
type patience struct {
	mu        sync.Mutex
	estimates map[string]estimate // by kind: there are no more than the definitions name
	told      atomic.Pointer[waits]
}

// waits says how long replies may take, by kind of command; of others nothing is known. It does not change: decide is given it.
type waits map[string]time.Duration

// estimate is of how long replies take.
type estimate struct {
	smoothed  time.Duration // SRTT
	variation time.Duration // RTTVAR
}

// wait is RTO.
func (e estimate) wait() time.Duration { return e.smoothed + 4*e.variation }

// One reply does not count for more than four times what was expected, and the first one of all for ten seconds: it may have waited for a
// participant, or an orchestrator, that was away, and will be quick again.
const (
	longestFirst = 10 * time.Second
	surprise     = 4
)

// heard notes that a command's reply has been recorded so long after the command was.
func (p *patience) heard(command string, took time.Duration) {
	if took < 0 { // the store's clock was put back
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known := p.estimates[command]
	if !known {
		took = min(took, longestFirst)
		e = estimate{smoothed: took, variation: took / 2}
	} else {
		took = min(took, max(surprise*e.wait(), resendFirst))
		e.variation += ((e.smoothed - took).Abs() - e.variation) / 4
		e.smoothed += (took - e.smoothed) / 8
	}
	if p.estimates == nil {
		p.estimates = map[string]estimate{}
	}
	p.estimates[command] = e
	p.tell(command, e.wait())
}

// tell changes what is told of a kind, if there is something to tell. The caller holds the lock.
func (p *patience) tell(command string, wait time.Duration) {
	before := p.waits()
	if told, known := before[command]; known && (told-wait).Abs() <= told/8 {
		return
	}
	after := maps.Clone(before)
	if after == nil {
		after = waits{}
	}
	after[command] = wait
	p.told.Store(&after)
}

// waits is what is known by now, to an eighth.
func (p *patience) waits() waits {
	if told := p.told.Load(); told != nil {
		return *told
	}
	return nil
}
