package saga

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the traces in testdata")

// TestScripts plays the scripts in testdata: each tells one theme of the design. A line that begins with ">" is a command, the
// indented lines after it are what decide made of it; "#" begins a comment. The commands:
//
//	> definition NAME [waiting=N] [data=N]   a new instance; the limits of events that wait, and of bytes of data
//	> start [DATA]
//	> event NAME [id=ID] [PAYLOAD]           from outside; without an id, each is a new one
//	> ok STEP [RESULT]                       an attempt of the step succeeded. STEP may be: step/undo, step#run, step@attempt
//	> reject STEP REASON                     the answer is no
//	> fail STEP REASON                       try again
//	> wake +DURATION [lease-over] [here=STEP] the store's clock goes on, and asks what is due
//	> published [STEP...]                    the broker has the events
//	> op VERB [step=S] [timer=T] [in=D] [source=S] [id=ID] [to=STATE] [data=JSON] WHY
//	> definition-is-now NAME                 another definition under the same instance
//	> would-undo                             what a compensation would undo now
//
// What is printed below a command is what it changed.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(text), "# "), "a script begins with the rule that it shows")
			got := play(t, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("the trace is another one (-want +got); go test ./saga -run TestScripts -rewrite\n%s", diff)
			}
		})
	}
}

// play plays a script and writes it anew.
func play(t *testing.T, text string) string {
	var out strings.Builder
	s := &script{}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&out, line)
			lines, err := s.do(strings.TrimPrefix(line, "> "))
			require.NoError(t, err, "%s", line)
			for _, l := range lines {
				fmt.Fprintln(&out, strings.TrimRight("  "+l, " "))
			}
		case strings.HasPrefix(line, "  "):
		default:
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

type script struct {
	*world
	events int
	shown  map[string]string // what was printed last of each aspect
}

func (s *script) do(command string) ([]string, error) {
	verb, rest, _ := strings.Cut(command, " ")
	options, rest := optionsOf(verb, rest)
	switch verb {
	case "definition":
		s.world, s.events, s.shown = newWorld(scripted[rest]), 0, map[string]string{}
		for name, limit := range map[string]*int{"waiting": &s.lim.waiting, "data": &s.lim.data} {
			if v := options[name]; v != "" {
				*limit, _ = strconv.Atoi(v)
			}
		}
		return nil, nil
	case "definition-is-now":
		s.plan = scripted[rest].compiled()
		return nil, nil
	case "would-undo":
		return s.wouldUndo(), nil
	}
	d, err := s.input(verb, rest, options)
	if err != nil {
		return nil, err
	}
	return s.trace(d), nil
}

// optionsOf takes the words of the form name=value from the beginning. The last one of an operator's may contain spaces only
// in what follows it.
func optionsOf(verb, rest string) (options map[string]string, left string) {
	options = map[string]string{}
	var words []string
	for _, word := range strings.Fields(rest) {
		name, value, found := strings.Cut(word, "=")
		if found && !strings.ContainsAny(name, `{"`) {
			options[name] = value
		} else {
			words = append(words, word)
		}
	}
	return options, strings.Join(words, " ")
}

func (s *script) input(verb, rest string, options map[string]string) (decision, error) {
	first, more, _ := strings.Cut(rest, " ")
	switch verb {
	case "start":
		return s.start(rest)
	case "event":
		id := options["id"]
		if id == "" {
			s.events++
			id = fmt.Sprintf("e%d", s.events)
		}
		return s.event(first, "world", id, more)
	case "ok", "reject", "fail":
		o, err := s.outcomeOf(verb, first)
		if err != nil {
			return decision{}, err
		}
		if verb == "ok" {
			o.Result = []byte(more)
		} else {
			o.Reason = more
		}
		return s.decide(input{outcome: &o})
	case "wake":
		after, err := time.ParseDuration(strings.TrimPrefix(first, "+"))
		if err != nil {
			return decision{}, err
		}
		return s.wake(after, strings.Contains(more, "lease-over"), options["here"])
	case "published":
		return s.decide(input{published: s.publishedIDs(rest)})
	case "op":
		in, _ := time.ParseDuration(options["in"])
		op := operation{
			verb: Verb(first), who: "ann", why: more, step: options["step"], data: []byte(options["data"]),
			timer: options["timer"], in: in, source: options["source"], inputID: options["id"], toState: options["to"],
		}
		return s.decide(input{operator: &op})
	}
	return decision{}, fmt.Errorf("unknown command %q", verb)
}

func (s *script) publishedIDs(steps string) []string {
	var ids []string
	for _, m := range s.inst.Outbox {
		if m.Oneway && (steps == "" || slices.Contains(strings.Fields(steps), m.Step)) {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		ids = []string{"published-before"}
	}
	return ids
}

// outcomeOf reads step[/undo][#run][@attempt]; the latest run and the present attempt are meant if nothing else is said.
func (s *script) outcomeOf(verb, name string) (outcome, error) {
	o := outcome{Kind: map[string]outcomeKind{"ok": outcomeSucceeded, "reject": outcomeRejected, "fail": outcomeFailed}[verb]}
	name, attempt, _ := strings.Cut(name, "@")
	name, run, _ := strings.Cut(name, "#")
	o.Step, o.Undo = strings.CutSuffix(name, "/undo")
	o.Run, _ = strconv.Atoi(run)
	o.Attempt, _ = strconv.Atoi(attempt)
	if o.Run == 0 {
		o.Run = 1
		if e := s.inst.Ledger.Latest(o.Step); e != nil {
			o.Run = e.Run
		}
	}
	if e := s.inst.Ledger.Find(o.Step, o.Run); e != nil && o.Attempt == 0 {
		o.Attempt = attemptsOf(e, o.Undo)
	}
	return o, nil
}

// The trace.

func (s *script) trace(d decision) []string {
	if d.nothing {
		return []string{strings.TrimSpace(nothingOf(d) + " " + d.reason)}
	}
	lines := d.entry.lines()
	for _, e := range d.effects {
		lines = append(lines, effectLine(e))
	}
	return append(lines, s.changes()...)
}

func nothingOf(d decision) string {
	switch {
	case d.answer == Duplicated:
		return "duplicate"
	case d.answer == Refused:
		return "refused, nothing is written:"
	}
	return "nothing"
}

func effectLine(e effect) string {
	if e.kind == runLocal {
		return fmt.Sprintf("run %s with key %s, data %s", effectName(e.step, e.undo, e.attempt), e.id, e.data.bytes)
	}
	m := e.message
	kind := "command"
	if m.Oneway {
		kind = fmt.Sprintf("event (revision %d)", m.Version)
	}
	return fmt.Sprintf("publish %s %s to %s with key %s: %s", kind, m.Name, m.Topic, m.ID, m.Payload)
}

// changes lists the aspects of the instance that are not what was printed last.
func (s *script) changes() []string {
	state := s.inst.state
	if to := s.inst.compensatingTo(); to != "" {
		state += ", compensating to " + to
	}
	if s.inst.settled {
		state += ", settled"
	}
	if s.inst.Row != nil {
		state += ", in row " + cmpOr(s.inst.Row.Name, "(forced)")
	}
	var lines []string
	for _, a := range [][2]string{
		{"state", state}, {"data", string(s.inst.data.bytes)}, {"ledger", s.ledger()}, {"waiting", s.waiting()},
		{"timers", s.timerLine()}, {"outbox", s.outbox()}, {"cause", s.inst.Cause}, {"attention", s.inst.attention},
	} {
		if s.shown[a[0]] != a[1] {
			lines = append(lines, fmt.Sprintf("%-9s %s", a[0], cmpOr(a[1], "-")))
		}
		s.shown[a[0]] = a[1]
	}
	return lines
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s *script) ledger() string {
	var words []string
	for _, e := range s.inst.Ledger {
		w := e.Step
		if e.Run > 1 {
			w += fmt.Sprintf("#%d", e.Run)
		}
		w += " " + string(e.Status)
		if e.Condemned && e.MayExist() && e.Status != compensation.Undoing {
			w += " (condemned)"
		}
		if e.Stuck {
			w += " (stuck)"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

func (s *script) waiting() string {
	var words []string
	for _, ev := range s.inst.Waiting {
		w := ev.Event + " " + ev.ID
		switch {
		case ev.Buffered:
			w += " (buffered)"
		case ev.Interrupts:
			w += " (interrupts)"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

// timerLine shows when the timers are due, from the beginning of the scenario.
func (s *script) timerLine() string {
	var words []string
	for _, t := range s.timers() {
		w := t.name() + " at " + t.Due.Sub(worldBegan).String()
		if t.Ripe {
			w = t.name() + " when the row ends"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

func (s *script) outbox() string {
	var words []string
	for _, m := range s.inst.Outbox {
		words = append(words, effectName(m.Step, m.Undo, 1))
	}
	return strings.Join(words, ", ")
}

func (s *script) wouldUndo() []string {
	var lines []string
	for _, group := range s.inst.view().WouldUndo() {
		lines = append(lines, strings.Join(group, ", "))
	}
	return lines
}
