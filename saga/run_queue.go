package saga

import "slices"

// taskQueue holds the local steps that wait for a worker, in a line for each definition. The next worker goes to the definition
// that has the fewest at work, so that one whose steps are many, or slow, does not hold up the others. It is not safe for
// concurrent use.
type taskQueue struct {
	lines map[string]*taskLine
	order []*taskLine // the one served last at the end
	n     int
}

// taskLine is a definition's.
type taskLine struct {
	tasks  []*task
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
	l.tasks = append(l.tasks, t)
	q.n++
}

// next takes out the task whose turn it is; nil: none waits.
func (q *taskQueue) next() *task {
	best := -1
	for k, l := range q.order {
		if len(l.tasks) > 0 && (best < 0 || l.atWork < q.order[best].atWork) {
			best = k
		}
	}
	if best < 0 {
		return nil
	}
	l := q.order[best]
	q.order = append(slices.Delete(q.order, best, best+1), l)
	t := l.tasks[0]
	l.tasks[0], l.tasks = nil, l.tasks[1:]
	q.n--
	l.signal()
	return t
}

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
		all = append(all, l.tasks...)
	}
	return all
}

// remove takes out one of them.
func (q *taskQueue) remove(t *task) {
	l := q.line(t.inst.definition)
	l.tasks = slices.DeleteFunc(slices.Clone(l.tasks), func(other *task) bool { return other == t })
	q.n--
}
