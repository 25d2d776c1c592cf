package saga_test

import "errors"

// A simFault is a kind of what goes wrong.
type simFault uint8

const (
	crashBeforeCommit simFault = iota
	crashAfterCommit
	commitFails
	commitAnswerLost
	storeBusy
	crashBeforeLoad
	crashAfterLoad
	loadFails
	crashBeforeClaim
	crashAfterClaim
	claimFails
	crashBeforeTouch
	crashAfterTouch
	touchFails
	pausedInStore
	clockLeaps

	crashInStep
	crashAfterEffect
	stepFails
	stepFailsAfterEffect
	stepRejects
	pausedInStep
	clockLeapsInStep

	participantPaused
	participantKilledBeforeCommit
	participantKilledAfterCommit
	handlerFails
	handlerRejects

	publishFails
	publishBreaksOff
	publishAnswerLost
	crashAfterPublish
	messageLost
	messageDuplicated
	messageDelayed
	messageReordered
	brokerAway
	crashBeforeAck
	ackLost

	crashBetween
	processPaused
	sweepsLate
	inputRepeated
	stepSkipped
	storeSlow
	kindsOfFaults
)

// simFaults names each kind, and says how often it happens where it may, in thousands.
var simFaults = [kindsOfFaults]struct {
	name string
	odds int
}{
	crashBeforeCommit: {"crash before a commit", 20},
	crashAfterCommit:  {"crash after a commit", 30},
	commitFails:       {"commit fails", 20},
	commitAnswerLost:  {"commit's answer lost", 40},
	storeBusy:         {"store busy with one transition of a commit", 15},
	crashBeforeLoad:   {"crash before a load", 10},
	crashAfterLoad:    {"crash after a load", 10},
	loadFails:         {"load fails", 15},
	crashBeforeClaim:  {"crash before a claim", 5},
	crashAfterClaim:   {"crash after a claim", 15},
	claimFails:        {"claim fails", 15},
	crashBeforeTouch:  {"crash before a touch", 15},
	crashAfterTouch:   {"crash after a touch", 15},
	touchFails:        {"touch fails", 30},
	pausedInStore:     {"process paused before or after it asks the store", 12},
	clockLeaps:        {"store's clock leaps", 4},

	crashInStep:          {"crash in a step", 20},
	crashAfterEffect:     {"crash after a step's effect", 40},
	stepFails:            {"step fails", 80},
	stepFailsAfterEffect: {"step fails after its effect", 60},
	stepRejects:          {"step rejects", 80},
	pausedInStep:         {"process paused in a step", 250},
	clockLeapsInStep:     {"store's clock leaps while a process is paused in a step", 250},

	participantPaused:             {"participant paused before, in or after a handler", 25},
	participantKilledBeforeCommit: {"participant killed before its commit", 30},
	participantKilledAfterCommit:  {"participant killed after its commit, before its reply", 60},
	handlerFails:                  {"handler fails", 50},
	handlerRejects:                {"handler rejects", 30},

	publishFails:      {"publish fails", 40},
	publishBreaksOff:  {"publish breaks off in the middle", 150},
	publishAnswerLost: {"publish's answer lost", 30},
	crashAfterPublish: {"crash after a publish", 20},
	messageLost:       {"message lost", 60},
	messageDuplicated: {"message duplicated", 80},
	messageDelayed:    {"message delayed", 150},
	messageReordered:  {"message overtakes others", 400},
	brokerAway:        {"broker away for a while", 4},
	crashBeforeAck:    {"crash before an ack", 15},
	ackLost:           {"ack lost", 30},

	crashBetween:  {"crash between", 4},
	processPaused: {"process paused", 10},
	sweepsLate:    {"process does not sweep for a while", 40},
	inputRepeated: {"input repeated", 200},
	stepSkipped:   {"step skipped by an operator", 300},
	storeSlow:     {"store slow before or after it does what it is asked, while the process goes on", 30},
}

func (f simFault) String() string { return simFaults[f].name }

// simKilled is what a process panics with when it is killed.
type simKilled struct{}

var errSimulated = errors.New("simulated")

// occurrence is one of the occasions on which a fault may happen: the nth of its kind in an action. What is drawn for it
// depends on nothing else, so that a run in which another occurrence is left out is as like the first one as can be.
type occurrence struct {
	action int
	fault  simFault
	nth    int
}

// simPlan says what is run: all that a seed means, or a part of it.
type simPlan struct {
	seed  uint64
	acts  map[int]bool        // the actions that are done; nil: all
	only  map[occurrence]bool // the faults that happen; nil: all
	wrong func(*sim) bool     // what counts as a violation besides
}

// does tells whether a fault happens now.
func (s *sim) does(f simFault) bool {
	if s.healed {
		return false
	}
	s.nth[f]++
	o := occurrence{s.actions, f, s.nth[f]}
	drawn := s.drawn(uint64(o.action), uint64(f)<<32|uint64(o.nth))
	s.rest = drawn / 1000
	if int(drawn%1000) >= simFaults[f].odds || s.plan.only != nil && !s.plan.only[o] {
		return false
	}
	s.happened[f]++
	s.faults = append(s.faults, o)
	s.note("fault: %s", f)
	return true
}

// amount says how much of a fault there is that has just happened, from 0 to n-1.
func (s *sim) amount(n int) int { return int(s.rest % uint64(n)) }

// drawn is a number by chance, but the same one for the same seed, action and purpose: the finalizer of SplitMix64 (G. Steele,
// D. Lea, C. Flood: Fast Splittable Pseudorandom Number Generators, 2014), once for each of them.
func (s *sim) drawn(action, purpose uint64) uint64 {
	z := s.plan.seed
	for _, x := range [...]uint64{action, purpose} {
		z += (x + 1) * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
	}
	return z
}
