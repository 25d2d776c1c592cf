package saga

import (
	"context"
	"errors"
	"time"
)

// Store keeps saga instances. It is the one authority: whatever a process, a cache or a broker believes, the store decides.
//
// The engine asks little of a store, and all of it in batches, so that one transaction of the database can carry the
// transitions of many instances. These are the rules; saga/storetest checks each of them.
//
//  1. A transition is atomic: the instance's columns, its history records and the inputs they consumed are all written,
//     or none of them is. What [Committed] answered is durable.
//  2. A transition whose Expect is not the revision that the store holds is a [Conflict], and changes nothing.
//  3. An input (HistoryRecord.Input) is consumed at most once by an instance, ever. A transition that brings one a second
//     time is a [Duplicate], and changes nothing.
//  4. One instance's verdict does not depend on another's: a conflict, a duplicate or a row that the database rejects
//     fails alone.
//  5. A definition has at most one instance of a business key. A start key, and an ID, belongs to at most one instance.
//  6. Time is the store's: durations go in, times come out. Everything that is due is judged by the store's clock.
//  7. The wake-up time of an instance is a lower bound: a transition moves it only earlier (or clears it, when the
//     instance is settled); Claim and Touch may move it later. None of them but Commit changes the revision.
//
// A Store is safe for concurrent use by many goroutines, and by many processes where its medium is. Byte slices and
// records that a store returns belong to the caller; it keeps none that it was given: the engine writes its next batch into
// the same slices of transitions and history records.
type Store interface {
	// Commit writes transitions, at most one of an instance, sorted by ID, and answers with a verdict for each, in the
	// same order. An error means that nothing is known: each of them may or may not have been committed. The engine
	// then reads the instances back.
	//
	// The order keeps updates of several batches from deadlocking. A store that locks keys, too, must insert new instances
	// in the order of their definitions and keys, before it updates others.
	Commit(ctx context.Context, transitions []Transition) ([]Verdict, error)

	// IDs and keys that the engine asks for are 1 to 255 bytes of UTF-8 without NUL.

	// Load returns the records of the given instances, in any order; those that do not exist are missing from the answer.
	Load(ctx context.Context, ids ...string) ([]Record, error)

	// Lookup returns the instance of a definition that has the business key, or ErrNotFound.
	Lookup(ctx context.Context, definition, key string) (Record, error)

	// Claim returns instances that are due, the longest due first, and moves the wake-up time of each to Hold from now, so
	// that no other sweep takes them meanwhile. Only the definitions and versions asked for are taken. It changes no
	// revision, and skips what another sweep or transition has locked. The second result says how long to wait until the
	// next instance is due; zero: at least one more is due now, negative: none has a wake-up time.
	Claim(ctx context.Context, claim Claim) ([]Record, time.Duration, error)

	// Touch moves wake-up times and leases of instances whose revision is still the given one (or whatever it is, if the
	// given one is 0); others are left alone.
	Touch(ctx context.Context, touches []Touch) error

	// List returns instances in order of their IDs.
	List(ctx context.Context, query Query) ([]Record, error)

	// Delete removes instances, with their history and start keys, and returns the IDs of those that it removed. It removes only
	// what is settled at the given revision, and whose start key, if there is one, is over; others are left alone, and so
	// may be those that somebody else has locked. The keys of what is removed are free.
	Delete(ctx context.Context, deletions []Deletion) ([]string, error)

	// History returns up to limit history records of an instance with revisions above after, in order of revision.
	History(ctx context.Context, id string, after uint64, limit int) ([]HistoryRecord, error)

	// Register keeps a definition's shape under its name and version, and returns the shape that was kept before (nil if
	// none), along with the number of unsettled instances of that name and version. If there are any and replace is
	// false, the old shape is kept.
	Register(ctx context.Context, shape Shape, replace bool) (before []byte, live int, err error)

	// Bury records a message that could not be given to any instance. Burying the same ID again changes nothing.
	Bury(ctx context.Context, letter DeadLetter) error

	// DeadLetters returns up to limit dead letters with IDs above after, in order of ID.
	DeadLetters(ctx context.Context, after string, limit int) ([]DeadLetter, error)

	// Unbury removes dead letters, and returns how many.
	Unbury(ctx context.Context, u Unburial) (removed int, err error)
}

// Committer is the part of a Store that starting a saga needs. Stores that can join the user's own transaction return one
// that does (see StartIn).
type Committer interface {
	Commit(ctx context.Context, transitions []Transition) ([]Verdict, error)
}

// ErrNotFound says that there is no such instance.
var ErrNotFound = errors.New("saga: instance not found")

// Record is an instance as a store keeps it: what it searches by, and bytes that it does not look into.
type Record struct {
	ID          string
	Definition  string
	Version     int    // of the definition
	Key         string // business key, unique for a definition
	Fingerprint []byte // of what it was started with
	Revision    uint64 // the number of its history records
	State       string
	Settled     bool   // in a final state, with nothing left to do
	Attention   string // why a person should look at it; empty: no need
	Engine      []byte // the engine's own state
	Data        []byte // the user's data, as the codec wrote it

	CreatedAt time.Time // all in the store's time
	UpdatedAt time.Time // of the last transition
	WakeAt    time.Time // no later than the first thing due; zero: nothing is
	LeaseTill time.Time // until when the local steps in flight belong to the process that runs them; zero: to none
	ReadAt    time.Time // when this record was read
}

// Transition is one instance's step from one revision to a later one.
type Transition struct {
	ID     string
	Expect uint64 // the revision that it replaces; 0: the instance is new
	Start  *Start // set exactly if the instance is new

	State     string
	Settled   bool
	Attention string
	Engine    []byte
	Data      []byte // nil: unchanged (and empty for a new instance)

	// History has one record for each input, with the revisions Expect+1, Expect+2, ...; at least one. The last one's
	// revision becomes the instance's.
	History []HistoryRecord

	// Wake moves the wake-up time to this long after the commit if that is earlier than what the store holds. Negative:
	// no change. It is ignored when Settled, which clears the wake-up time.
	Wake time.Duration
	// Lease sets the lease's end to this long after the commit. Zero: no change.
	Lease time.Duration
}

// Revision is the instance's revision after the transition.
func (t *Transition) Revision() uint64 { return t.Expect + uint64(len(t.History)) }

// Start is what a new instance has beyond other transitions.
type Start struct {
	Definition  string
	Version     int
	Key         string // business key
	Fingerprint []byte
	StartKey    *StartKey // nil: none
}

// StartKey makes the start of a saga idempotent by a key of the request that asked for it. It is unique in the whole store,
// and freed when its time is over and its instance is settled.
type StartKey struct {
	Key         string        // for a request: tenant, route and idempotency key, see idempotency.Key
	Fingerprint []byte        // of the request
	Response    []byte        // given back when the key comes again
	TTL         time.Duration // how long the key is kept at least
}

// HistoryRecord is one line of an instance's history.
type HistoryRecord struct {
	Revision uint64
	Input    string    // identity of an input from outside; empty for others, which the ledger itself tells apart
	Entry    []byte    // the engine's own encoding of an Entry
	At       time.Time // set by the store: when it was committed
}

// A Verdict says what became of one transition of a batch.
type Verdict struct {
	Outcome    Outcome
	At         time.Time // Committed: the store's time, which is the record's UpdatedAt
	Duplicates []string  // Duplicate: the inputs that were consumed before
	Existing   *Record   // Exists: the instance that has the start key, business key or ID
	StartKey   *StartKey // Exists because of the start key: what is kept under it (TTL is not set)
	Err        error     // Unwritable: why the database rejects this transition
}

// Outcome is the kind of a Verdict.
type Outcome uint8

const (
	_          Outcome = iota
	Committed          // written, all of it
	Conflict           // another revision is there: load and decide again
	Duplicate          // one of its inputs was consumed before
	Exists             // a new instance's start key, business key or ID is taken; of several, the first of these is told
	Busy               // a lock that somebody else holds was in the way: try again later. Conflict will do if it is dear to tell
	Unwritable         // the database rejects this one, whenever it is tried
)

func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Conflict:
		return "conflict"
	case Duplicate:
		return "duplicate"
	case Exists:
		return "exists"
	case Busy:
		return "busy"
	case Unwritable:
		return "unwritable"
	}
	return "unknown"
}

// Claim asks for instances that are due.
type Claim struct {
	Definitions []DefinitionVersion
	Limit       int
	Hold        time.Duration
}

// DefinitionVersion names one version of a definition.
type DefinitionVersion struct {
	Name    string
	Version int
}

// Touch moves an instance's wake-up time or lease without a transition.
type Touch struct {
	ID       string
	Revision uint64        // 0: whatever it is
	Wake     time.Duration // from now; NoWake clears it, KeepWake leaves it
	Lease    time.Duration // from now; zero leaves it
}

const (
	// NoWake clears a wake-up time.
	NoWake time.Duration = -1
	// KeepWake leaves a wake-up time as it is.
	KeepWake time.Duration = -2
)

// Query selects instances; a zero field selects all.
type Query struct {
	Definition     string
	KeyPrefix      string // only business keys that begin with it: "acme/", say, if the keys name a tenant first
	State          string
	Unsettled      bool          // only those that are not settled
	Settled        bool          // only those that are
	NeedsAttention bool          // only those that a person should look at, of which some are settled
	OlderThan      time.Duration // only those that were started at least so long ago
	IdleFor        time.Duration // only those whose last transition was at least so long ago
	After          string        // only IDs above this one: where the last page ended
	Limit          int           // at most so many; 0: 100
}

// Deletion names an instance that is to be removed, and the revision at which it was found settled.
type Deletion struct {
	ID       string
	Revision uint64
}

// Shape is what a version of a definition consists of, as far as stored instances refer to it.
type Shape struct {
	Definition string
	Version    int
	Names      []byte // the engine's own encoding
}

// DeadLetter is a message that no instance could be given: undecodable, too large, or for an instance that nobody knows.
type DeadLetter struct {
	ID       string // topic and message ID; of long ones a hash
	Topic    string
	Reason   string
	Metadata map[string]string
	Payload  []byte
	At       time.Time // set by the store
}

// Unburial says which dead letters go: those with the IDs; if none is given, up to Limit of those of the topic that were buried at
// least so long ago.
type Unburial struct {
	IDs       []string
	Topic     string // empty: all
	OlderThan time.Duration
	Limit     int // 0: 100
}
