package saga

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The text of a lock file: a section for each version of a definition, with a line for each name that stored instances rely on.
//
//	definition order version 1
//	  event paid
//	  row CREATED/checkout running reserve-stock
//	  row CREATED/checkout to RESERVED
//	  state CREATED
//	  step reserve-stock as compensatable command, undone by command
//
// Sections and lines are sorted, so that a change is a small difference and two branches seldom conflict. Lines that begin with #
// are comments, which an update does not keep. A name with characters that do not show is quoted as in Go.

const lockHeader = `# What stored sagas rely on, by definition and version: written by saga.CheckLock, to be committed beside the definitions.
# To add what is new, run its test with ` + updateLock + `=1. What is gone goes by hand; the test says when.
`

// lockedShapes are the names of each version, sorted.
type lockedShapes map[DefinitionVersion][]string

// String writes the lock file.
func (locked lockedShapes) String() string {
	var b strings.Builder
	b.WriteString(lockHeader)
	versions := slices.SortedFunc(maps.Keys(locked), func(a, b DefinitionVersion) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	for _, v := range versions {
		fmt.Fprintf(&b, "\ndefinition %s version %d\n", v.Name, v.Version)
		for _, name := range locked[v] {
			fmt.Fprintf(&b, "  %s\n", lockLine(name))
		}
	}
	return b.String()
}

// lockLine writes a name so that it is one line, and can be read back.
func lockLine(name string) string {
	hidden := strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) })
	if hidden || !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.HasPrefix(name, `"`) {
		return strconv.Quote(name)
	}
	return name
}

// parseLock reads a lock file. What it does not understand is an ErrInvalid that names the line.
func parseLock(path, text string) (lockedShapes, error) {
	locked := lockedShapes{}
	var section DefinitionVersion // none so far: versions count from 1
	for k, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r") // a checkout on Windows
		var err error
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			err = locked.addName(section, strings.TrimSpace(line))
		default:
			section, err = locked.addSection(line)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: lock file %s, line %d: %w", ErrInvalid, path, k+1, err)
		}
	}
	for _, names := range locked {
		slices.Sort(names)
	}
	return locked, nil
}

func (locked lockedShapes) addSection(line string) (v DefinitionVersion, err error) {
	words := strings.Fields(line)
	if len(words) != 4 || words[0] != "definition" || words[2] != "version" {
		return v, fmt.Errorf("%q is neither an indented name nor of the form: definition NAME version NUMBER "+
			"(after a merge with conflicts, keep the lines of both sides)", line)
	}
	v.Name = words[1]
	if v.Version, err = strconv.Atoi(words[3]); err != nil || v.Version < 1 {
		return v, fmt.Errorf("the version is %q: versions are numbers, from 1", words[3])
	}
	if _, twice := locked[v]; twice {
		return v, fmt.Errorf("definition %s version %d has a section above: make one of the two", v.Name, v.Version)
	}
	locked[v] = []string{}
	return v, nil
}

func (locked lockedShapes) addName(section DefinitionVersion, name string) error {
	if section.Version == 0 {
		return fmt.Errorf("%q stands above the first definition", name)
	}
	if strings.HasPrefix(name, `"`) {
		plain, err := strconv.Unquote(name)
		if err != nil {
			return fmt.Errorf("%s is not quoted as in Go", name)
		}
		name = plain
	}
	kind, _, _ := strings.Cut(name, " ")
	if !slices.Contains([]string{"state", "row", "step", "event"}, kind) {
		return fmt.Errorf("%q is no state, row, step or event", name)
	}
	if slices.Contains(locked[section], name) {
		return fmt.Errorf("%q stands in its section twice: delete one of the two", name)
	}
	locked[section] = append(locked[section], name)
	return nil
}
