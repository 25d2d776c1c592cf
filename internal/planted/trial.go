package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// trial is where mutants are built and tried.
type trial struct {
	root string    // of the module
	dir  string    // for all that is made here
	show io.Writer // gets what the tests of mutants say; nil: nobody does
}

const (
	testTimeout = 60 * time.Second
	atOnce      = 2 // test binaries
)

// withProperties are the directories whose mutants name property tests of rapid. Those are not to leave files in testdata when they
// fail, nor to look for the shortest failure.
var withProperties = []string{"saga"}

// verdict is what the tests make of a mutant.
type verdict struct {
	caught bool
	by     string
	took   time.Duration
}

func (t *trial) binary(dir string) string { return filepath.Join(t.dir, "bin", path.Base(dir)+".test") }

// build compiles the tests of the packages with the patched files, once.
func (t *trial) build(ctx context.Context, patched []patchedFile, dirs []string) error {
	if err := errors.Join(os.Mkdir(filepath.Join(t.dir, "bin"), 0o755), os.Mkdir(filepath.Join(t.dir, "tmp"), 0o755)); err != nil {
		return err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for k, f := range patched {
		file := filepath.Join(t.dir, strconv.Itoa(k)+".go")
		if err := os.WriteFile(file, []byte(f.text), 0o644); err != nil {
			return err
		}
		overlay.Replace[f.path] = file
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	file := filepath.Join(t.dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	args := []string{"test", "-c", "-vet=off", "-overlay", file, "-o", filepath.Join(t.dir, "bin")}
	for _, dir := range dirs {
		args = append(args, "./"+dir)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the tests do not build with the mutants in them: %w\n%s", err, out)
	}
	return nil
}

// plantNothing runs the tests of all mutants with none of them on: they must be there, and pass.
func (t *trial) plantNothing(ctx context.Context, mutants []mutant) error {
	dirs := packages(mutants)
	errs := make([]error, len(dirs))
	each(len(dirs), func(k int) {
		var names []string
		for _, m := range mutants {
			if m.in == dirs[k] {
				names = append(names, m.testNames()...)
			}
		}
		r, err := t.test(ctx, dirs[k], names, "")
		if err == nil && !r.passed {
			err = fmt.Errorf("with nothing planted the tests in %s do not pass, so they prove nothing: %s\n%s", dirs[k], r.blame(), r.output)
		}
		for _, name := range names {
			if err == nil && !r.ran(name) {
				err = fmt.Errorf("there is no test %s in %s", name, dirs[k])
			}
		}
		errs[k] = err
	})
	return errors.Join(errs...)
}

// plant runs the tests of each mutant with that one on.
func (t *trial) plant(ctx context.Context, mutants []mutant) ([]verdict, error) {
	verdicts, errs := make([]verdict, len(mutants)), make([]error, len(mutants))
	each(len(mutants), func(k int) {
		m, began := mutants[k], time.Now()
		r, err := t.test(ctx, m.in, m.testNames(), m.name)
		verdicts[k] = verdict{caught: !r.passed && !r.hung, by: r.blame(), took: time.Since(began)}
		errs[k] = err
		if t.show != nil {
			_, _ = fmt.Fprintln(t.show, r.output)
		}
	})
	return verdicts, errors.Join(errs...)
}

// test runs tests of a package with a mutant on; "" is none.
func (t *trial) test(ctx context.Context, dir string, names []string, mutant string) (report, error) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout+30*time.Second)
	defer cancel()
	args := []string{"-test.v", "-test.timeout=" + testTimeout.String(), "-test.run=" + pattern(names)}
	if slices.Contains(withProperties, dir) {
		args = append(args, "-rapid.nofailfile", "-rapid.shrinktime=1s")
	}
	cmd := exec.CommandContext(ctx, t.binary(dir), args...)
	cmd.Dir = filepath.Join(t.root, filepath.FromSlash(dir))
	cmd.Env = append(os.Environ(), environment+"="+mutant, "SAGAMILL_REQUIRE_SERVICES=1", "TMPDIR="+filepath.Join(t.dir, "tmp"))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) || ctx.Err() != nil {
		return report{}, fmt.Errorf("tests of %s with %q planted: %w", dir, mutant, errors.Join(err, context.Cause(ctx)))
	}
	r := read(string(out))
	r.passed = err == nil
	return r, nil
}

// pattern is what -test.run is to be so that exactly these tests run.
func pattern(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	for k, name := range names {
		parts := strings.Split(name, "/")
		for n := range parts {
			parts[n] = "^" + regexp.QuoteMeta(parts[n]) + "$"
		}
		names[k] = strings.Join(parts, "/")
	}
	return strings.Join(names, "|")
}

// each does a number of jobs, some of them at once.
func each(jobs int, do func(job int)) {
	queue := make(chan int)
	var workers sync.WaitGroup
	for range min(atOnce, runtime.NumCPU()) {
		workers.Go(func() {
			for k := range queue {
				do(k)
			}
		})
	}
	for k := range jobs {
		queue <- k
	}
	close(queue)
	workers.Wait()
}
