package saga

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// updateLock is the environment variable that lets CheckLock write.
const updateLock = "SAGAMILL_UPDATE_LOCK"

// ErrLockOutdated says that the lock file lacks what the definitions have gained, which is safe: update it. See LockError.
var ErrLockOutdated = errors.New("saga: lock file is to be updated")

// CheckLock compares definitions with the lock file at path, which is committed beside them and says what stored instances rely
// on: names, the order of a row's steps, and the kinds of steps; no code. It is for a test of your own:
//
//	func TestLock(t *testing.T) {
//		if err := saga.CheckLock("testdata/order.lock", orderV1, orderV2); err != nil {
//			t.Fatal(err)
//		}
//	}
//
// Give it all definitions of the file, and all their versions that are still deployed. A difference is a *LockError, which is
//
//   - ErrIncompatible if a version lost something, or is gone from the code: stored instances may need it;
//   - ErrLockOutdated if something was added. With SAGAMILL_UPDATE_LOCK=1 in the environment it is written instead.
//
// Nothing is ever taken out of the file but by hand, so that an update cannot hide an incompatible change. A file that cannot
// be understood is an ErrInvalid with its line. Not looked at: the types of the data and of events' payloads, for which the
// codec stands, and what functions do.
func CheckLock(path string, definitions ...AnyDefinition) error {
	update, _ := strconv.ParseBool(os.Getenv(updateLock)) // what is not a bool does not say yes
	return checkLock(path, update, definitions)
}

func checkLock(path string, update bool, definitions []AnyDefinition) error {
	plans, err := plansOf(definitions)
	if err != nil {
		return err
	}
	code := lockedShapes{}
	for v, p := range plans {
		code[v] = p.names()
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !update {
		return fmt.Errorf("%w: there is no file %s: run the test with %s=1, and commit what it writes", ErrLockOutdated, path, updateLock)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("saga: read the lock file: %w", err)
	}
	locked, err := parseLock(path, string(text))
	if err != nil {
		return err
	}
	changes := locked.changes(code)
	if update {
		if changes, err = locked.write(path, code, changes); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return &LockError{Path: path, Changes: changes}
}

// plansOf returns the plans of definitions that are valid, and each given once.
func plansOf(definitions []AnyDefinition) (map[DefinitionVersion]*plan, error) {
	var faults []error
	plans := map[DefinitionVersion]*plan{}
	for _, d := range definitions {
		if d == nil {
			faults = append(faults, fmt.Errorf("%w: a definition is nil", ErrInvalid))
			continue
		}
		if err := d.Validate(); err != nil {
			faults = append(faults, err)
			continue
		}
		v := DefinitionVersion{d.Name(), d.Version()}
		if plans[v] != nil {
			faults = append(faults, fmt.Errorf("%w: definition %s version %d is given twice", ErrInvalid, v.Name, v.Version))
		}
		plans[v] = d.compiled()
	}
	if len(definitions) == 0 {
		faults = append(faults, fmt.Errorf("%w: no definition is given", ErrInvalid))
	}
	return plans, errors.Join(faults...)
}

// gone lists the old names that stored instances may rely on and the new ones do not cover. A row covers what it ran before if
// steps were only added at its end.
func gone(old, now []string) []string {
	return slices.DeleteFunc(slices.Clone(old), func(o string) bool {
		runs := strings.HasPrefix(o, "row ") && strings.Contains(o, " running ")
		return slices.ContainsFunc(now, func(n string) bool { return n == o || runs && strings.HasPrefix(n, o+", ") })
	})
}

// changes lists the differences, the first definition and version first.
func (locked lockedShapes) changes(code lockedShapes) []LockChange {
	var changes []LockChange
	for v, names := range locked {
		now, known := code[v]
		c := LockChange{DefinitionVersion: v, Gone: gone(names, now), Absent: !known, next: locked.next(code, v.Name)}
		for _, n := range now {
			if !slices.Contains(names, n) {
				c.Added = append(c.Added, n)
			}
		}
		if c.Absent || len(c.Gone)+len(c.Added) > 0 {
			changes = append(changes, c)
		}
	}
	for v, now := range code {
		if _, known := locked[v]; !known {
			changes = append(changes, LockChange{DefinitionVersion: v, Added: now, New: true})
		}
	}
	slices.SortFunc(changes, func(a, b LockChange) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return changes
}

// next is the first version of a definition that neither the file nor the code has used.
func (locked lockedShapes) next(code lockedShapes, name string) int {
	last := 0
	for _, shapes := range []lockedShapes{locked, code} {
		for v := range shapes {
			if v.Name == name {
				last = max(last, v.Version)
			}
		}
	}
	return last + 1
}

// write adds what is safe to the file, and returns the changes that are not.
func (locked lockedShapes) write(path string, code lockedShapes, changes []LockChange) (left []LockChange, err error) {
	for _, c := range changes {
		if c.incompatible() {
			left = append(left, c)
			continue
		}
		locked[c.DefinitionVersion] = code[c.DefinitionVersion]
	}
	if len(left) == len(changes) {
		return left, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("saga: write the lock file: %w", err)
	}
	if err := os.WriteFile(path, []byte(locked.String()), 0o644); err != nil {
		return nil, fmt.Errorf("saga: write the lock file: %w", err)
	}
	return left, nil
}

// LockChange is how one version of a definition differs from the lock file.
type LockChange struct {
	DefinitionVersion
	Added  []string // what the code has and the file has not
	Gone   []string // what the file has and the code has not; a row that runs more steps after those it ran is not gone
	New    bool     // the file does not have the version; Added is all of it
	Absent bool     // the code does not have the version; Gone is all of it
	next   int      // the first version that is free
}

func (c *LockChange) incompatible() bool { return c.Absent || len(c.Gone) > 0 }

// LockError lists how definitions differ from their lock file, and says how to mend it. It is ErrIncompatible if any difference
// may strand stored instances, and ErrLockOutdated otherwise.
type LockError struct {
	Path    string
	Changes []LockChange
}

// Is makes errors.Is(err, ErrIncompatible) or errors.Is(err, ErrLockOutdated) true.
func (e *LockError) Is(target error) bool {
	incompatible := slices.ContainsFunc(e.Changes, func(c LockChange) bool { return c.incompatible() })
	return incompatible && target == ErrIncompatible || !incompatible && target == ErrLockOutdated
}

func (e *LockError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "saga: the definitions differ from the lock file %s.\n", e.Path)
	safe := false
	for _, c := range e.Changes {
		c.tell(&b)
		safe = safe || !c.incompatible()
	}
	if safe {
		fmt.Fprintf(&b, "\nTo write to the file what was added, run the test with %s=1, and commit it.", updateLock)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// tell says what has changed, and how to mend it.
func (c *LockChange) tell(b *strings.Builder) {
	fmt.Fprintf(b, "\nDefinition %s version %d ", c.Name, c.Version)
	switch {
	case c.Absent:
		fmt.Fprintf(b, "is in the file and not in the code. Instances that were started with it may be live: saga.CheckStore counts\n"+
			"them, and Orchestrator.List with saga.Query{Definition: %q, Unsettled: true} shows them. As long as there are any,\n"+
			"keep the version in the code, and give it to an orchestrator. When none is left, delete its section from the file.\n", c.Name)
	case len(c.Gone) > 0:
		b.WriteString("has lost what stored instances may rely on (-):\n")
		c.lines(b)
		fmt.Fprintf(b, "Restore it; or keep version %d as it was, and give the changed definition Version %d (Spec.Version or WithVersion) beside\n"+
			"it, until the instances of version %[1]d have settled. If version %[1]d was never deployed, delete its section from the file\n"+
			"and run the test with %[3]s=1.\n", c.Version, c.next, updateLock)
	case c.New:
		b.WriteString("is new:\n")
		c.lines(b)
	default:
		b.WriteString("has gained what stored instances can do without:\n")
		c.lines(b)
	}
}

func (c *LockChange) lines(b *strings.Builder) {
	for _, name := range c.Gone {
		fmt.Fprintf(b, "  - %s\n", lockLine(name))
	}
	for _, name := range c.Added {
		fmt.Fprintf(b, "  + %s\n", lockLine(name))
	}
}
