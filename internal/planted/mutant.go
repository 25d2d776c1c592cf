package main

import (
	"fmt"
	"slices"
	"strings"
)

// mutant is one fault that can be planted.
type mutant struct {
	name   string // what turns it on
	breaks string // what then goes wrong
	file   string // where, from the module's root
	edits  []edit
	in     string // the directory of the tests that are to catch it
	// tests are their names, as go test prints them, with spaces between; TestStore/inputs means all below.
	tests string
}

// edit puts new in the place of old, which stands once in the file. PLANTED in new stands for the question whether the mutant
// is on: if it is not, new must do what old did.
type edit struct{ old, new string }

const question = "PLANTED"

// mutants lists all there are; those of stores that need a server only if they are wanted.
func mutants(servers bool) []mutant {
	all := slices.Concat(storeMutants, laneMutants, shellMutants, rowMutants, stepMutants, ledgerMutants, idempotencyMutants, participantMutants)
	if servers {
		all = append(all, serverMutants...)
	}
	return all
}

// check says what is wrong with a mutant that does not depend on the file.
func (m mutant) check() error {
	asks := slices.ContainsFunc(m.edits, func(e edit) bool { return strings.Contains(e.new, question) })
	switch {
	case m.name == "" || m.breaks == "" || m.file == "" || m.in == "" || len(m.testNames()) == 0:
		return fmt.Errorf("mutant %q lacks a name, what it breaks, a file, or its tests and where they are", m.name)
	case !asks:
		return fmt.Errorf("mutant %q never asks whether it is %s", m.name, question)
	}
	return nil
}

func (m mutant) testNames() []string { return strings.Fields(m.tests) }

// packages lists the directories of the tests.
func packages(mutants []mutant) (dirs []string) {
	for _, m := range mutants {
		dirs = append(dirs, m.in)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
