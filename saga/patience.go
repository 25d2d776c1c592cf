package saga

import (
	"sync"
	"time"
)

// patience knows how long the replies to commands have taken lately, for each topic. A command is not sent again before its reply may
// be expected: when participants are busy, to send everything twice would make them busier still, until they do little else. The estimate
// is that of RFC 6298 (TCP's retransmission timer), without its minimum: that is the step's own policy.
//
// Only what the first attempt was answered counts, however late that is, since a reply says which attempt it answers. It is all in the store's
// time. The zero value is ready; it is safe for concurrent use.
type patience struct {
	mu     sync.Mutex
	topics map[string]estimate // there are no more than the definitions name
}

// estimate is of how long replies take.
type estimate struct {
	smoothed  time.Duration // SRTT
	variation time.Duration // RTTVAR
}

// longestReply bounds what one reply counts for: a participant that was away for an hour may be quick again.
const longestReply = 30 * time.Second

// heard notes that a command's reply has been recorded so long after the command was.
func (p *patience) heard(topic string, took time.Duration) {
	if took < 0 { // the store's clock was put back
		return
	}
	took = min(took, longestReply)
	p.mu.Lock()
	defer p.mu.Unlock()
	e, known := p.topics[topic]
	if !known {
		if p.topics == nil {
			p.topics = map[string]estimate{}
		}
		e = estimate{smoothed: took, variation: took / 2}
	} else {
		e.variation += ((e.smoothed - took).Abs() - e.variation) / 4
		e.smoothed += (took - e.smoothed) / 8
	}
	p.topics[topic] = e
}

// wait is how long a reply may take; 0: nobody knows.
func (p *patience) wait(topic string) time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.topics[topic]
	return e.smoothed + 4*e.variation
}
