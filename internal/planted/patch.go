package main

import (
	"cmp"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// patchedFile is a source file with all of its mutants in it, or one that is added.
type patchedFile struct {
	path string // of the file in whose place it is compiled
	text string
}

// switchFile is added to each package that has a mutant.
const switchFile = "planted_switch.go"

// environment is the variable that turns a mutant on.
const environment = "SAGAMILL_PLANTED"

// patch puts the mutants into their files. It names every one that it cannot put in.
func patch(root string, mutants []mutant) (patched []patchedFile, err error) {
	var errs []error
	names, files := map[string]bool{}, map[string][]mutant{}
	for _, m := range mutants {
		errs = append(errs, m.check())
		if names[m.name] {
			errs = append(errs, fmt.Errorf("there are two mutants %q", m.name))
		}
		names[m.name] = true
		files[m.file] = append(files[m.file], m)
	}
	dirs := map[string]bool{}
	for file, mutants := range files {
		path := filepath.Join(root, filepath.FromSlash(file))
		p, err := patchFile(path, mutants)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		patched = append(patched, p)
		if dir := filepath.Dir(path); !dirs[dir] {
			dirs[dir] = true
			s, err := addSwitch(path)
			patched, errs = append(patched, s), append(errs, err)
		}
	}
	slices.SortFunc(patched, func(a, b patchedFile) int { return cmp.Compare(a.path, b.path) })
	return patched, errors.Join(errs...)
}

// place is where a snippet of a file is replaced.
type place struct {
	from, to int
	by       string
	mutant   string
}

func patchFile(path string, mutants []mutant) (patchedFile, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return patchedFile{}, err
	}
	text := string(source)
	var errs []error
	var places []place
	for _, m := range mutants {
		for _, e := range m.edits {
			if n := strings.Count(text, e.old); n != 1 {
				errs = append(errs, fmt.Errorf("mutant %q needs re-anchoring: in %s there is %d times:\n%s", m.name, m.file, n, e.old))
				continue
			}
			at := strings.Index(text, e.old)
			by := strings.ReplaceAll(e.new, question, fmt.Sprintf("planted(%q)", m.name))
			places = append(places, place{at, at + len(e.old), by, m.name})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	done := 0
	for k, p := range places {
		if p.from < done {
			errs = append(errs, fmt.Errorf("mutants %q and %q want the same place in %s: anchor one of them elsewhere", places[k-1].mutant, p.mutant, path))
			continue
		}
		b.WriteString(text[done:p.from] + p.by)
		done = p.to
	}
	b.WriteString(text[done:])
	if err := errors.Join(errs...); err != nil {
		return patchedFile{}, err
	}
	if _, err := parser.ParseFile(token.NewFileSet(), path, b.String(), parser.SkipObjectResolution); err != nil {
		return patchedFile{}, fmt.Errorf("with its mutants this is no Go: %w", err)
	}
	return patchedFile{path, b.String()}, nil
}

// addSwitch makes the file that answers the question, for the package of another file.
func addSwitch(beside string) (patchedFile, error) {
	path := filepath.Join(filepath.Dir(beside), switchFile)
	if _, err := os.Stat(path); err == nil {
		return patchedFile{}, fmt.Errorf("%s is in the way: a file of that name is added", path)
	}
	f, err := parser.ParseFile(token.NewFileSet(), beside, nil, parser.PackageClauseOnly)
	if err != nil {
		return patchedFile{}, err
	}
	return patchedFile{path, fmt.Sprintf(`package %s

import "os"

var plantedMutant = os.Getenv(%q)

func planted(mutant string) bool { return mutant == plantedMutant }
`, f.Name.Name, environment)}, nil
}
