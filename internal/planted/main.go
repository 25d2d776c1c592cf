package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	only := flag.String("only", "", "plant this `mutant` only, and show what its tests say")
	list := flag.Bool("list", false, "list the mutants, and plant none")
	servers := flag.Bool("servers", false, "plant those of PostgreSQL's and MariaDB's stores, too; the servers must be there")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "planted: what is %q? A mutant is named by -only\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *only, *list, *servers)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

// run does what the flags say. It answers an error if a mutant survives.
func run(ctx context.Context, only string, list, servers bool) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	all := mutants(servers)
	patched, err := patch(root, all)
	if err != nil {
		return err
	}
	chosen := all
	if only != "" {
		chosen = slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return m.name != only })
		if len(chosen) == 0 {
			return fmt.Errorf("there is no mutant %q; -list names them", only)
		}
	}
	if list {
		return table(os.Stdout, []string{"mutant", "what it breaks", "file", "tests"}, listed(chosen))
	}
	dir, err := os.MkdirTemp("", "planted-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var show io.Writer
	if only != "" {
		show = os.Stdout
	}
	return plantAll(ctx, &trial{root: root, dir: dir, show: show}, patched, chosen)
}

// plantAll builds the test binaries, runs them with nothing planted and then with each mutant, and prints the table.
func plantAll(ctx context.Context, t *trial, patched []patchedFile, chosen []mutant) error {
	began := time.Now()
	if err := t.build(ctx, patched, packages(chosen)); err != nil {
		return err
	}
	built := time.Since(began)
	if err := t.plantNothing(ctx, chosen); err != nil {
		return err
	}
	verdicts, err := t.plant(ctx, chosen)
	if err != nil {
		return err
	}
	if err := table(os.Stdout, []string{"mutant", "what it breaks", "caught by", "seconds"}, judged(chosen, verdicts)); err != nil {
		return err
	}
	fmt.Printf("\n%d mutants in %.0f s, of which the %d test binaries took %.0f s to build\n",
		len(chosen), time.Since(began).Seconds(), len(packages(chosen)), built.Seconds())
	var errs []error
	for k, v := range verdicts {
		if !v.caught {
			errs = append(errs, fmt.Errorf("%q is not caught by %s: %s", chosen[k].name, chosen[k].tests, v.by))
		}
	}
	return errors.Join(errs...)
}

// moduleRoot is the directory of the module that the working directory is in.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("the working directory is in no module")
	}
	return filepath.Dir(file), nil
}

func listed(mutants []mutant) (rows [][]string) {
	for _, m := range mutants {
		rows = append(rows, []string{m.name, m.breaks, m.file, m.in + ": " + m.tests})
	}
	return rows
}

func judged(mutants []mutant, verdicts []verdict) (rows [][]string) {
	for k, m := range mutants {
		v := verdicts[k]
		rows = append(rows, []string{m.name, m.breaks, v.by, fmt.Sprintf("%.1f", v.took.Seconds())})
	}
	return rows
}
