package saga

import "slices"

// taskQueue holds the local steps that wait for a worker, as each does for a moment at least, in a line for each definition. The next
// worker goes to the definition that has the fewest at work, so that one whose steps are many, or slow, does not hold up the others.
// It is not safe for concurrent use.
type taskQueue struct {
	lines map[string]*taskLine
	order []*taskLine // the one served last at the end
	n     int
}

// taskLine is a definition's.
type taskLine struct {
	tasks  []*task
	head   int // of tasks: those before it are taken
	atWork int
	room   chan struct{} // capacity 1: the line has become shorter
}

// line returns a definition's. There are no more than definitions.
func (q *taskQueue) line(definition string) *taskLine {
	l := q.lines[definition]
	if l == nil {
		if q.lines == nil {
			q.lines = map[string]*taskLine{}
		}
		l = &taskLine{room: make(chan struct{}, 1)}
		q.lines[definition], q.order = l, append(q.order, l)
	}
	return l
}

// add lets a task wait.
func (q *taskQueue) add(t *task) {
	l := q.line(t.inst.definition)
	if len(l.tasks) == cap(l.tasks) && l.head > len(l.tasks)/2 { // the room of those that are taken is used again
		n := copy(l.tasks, l.waiting())
		clear(l.tasks[n:])
		l.tasks, l.head = l.tasks[:n], 0
	}
	l.tasks = append(l.tasks, t)
	q.n++
}

// waiting are the tasks of a line, in their order.
func (l *taskLine) waiting() []*task { return l.tasks[l.head:] }

// next takes out the task whose turn it is, for a worker; nil: none waits.
func (q *taskQueue) next() *task {
	best := -1
	for k, l := range q.order {
		if len(l.waiting()) > 0 && (best < 0 || l.atWork < q.order[best].atWork) {
			best = k
		}
	}
	if best < 0 {
		return nil
	}
	l := q.order[best]
	q.order = append(slices.Delete(q.order, best, best+1), l)
	t := l.tasks[l.head]
	l.tasks[l.head] = nil
	if l.head++; l.head == len(l.tasks) {
		l.tasks, l.head = l.tasks[:0], 0
	}
	l.atWork++
	q.n--
	l.signal()
	return t
}

// over notes that a worker has done a task.
func (q *taskQueue) over(t *task) { q.line(t.inst.definition).atWork-- }

// signal tells one of those who wait for room.
func (l *taskLine) signal() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// all are the tasks that wait, in no order that means anything, but the same one each time.
func (q *taskQueue) all() []*task {
	var all []*task
	for _, l := range q.order {
		all = append(all, l.waiting()...)
	}
	return all
}

// remove takes out one of them.
func (q *taskQueue) remove(t *task) {
	l := q.line(t.inst.definition)
	l.tasks, l.head = slices.DeleteFunc(slices.Clone(l.waiting()), func(other *task) bool { return other == t }), 0
	q.n--
}
