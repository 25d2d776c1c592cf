package inboxtest

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestGoodInboxIsGreen(t *testing.T) {
	t.Parallel()
	Run(t, func(testing.TB) Harness[*tx] { return newFaulty("").harness() })
}

func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, faultsAreNoticed)
}

func faultsAreNoticed(t *testing.T) {
	red := map[string]bool{}
	for f, noticed := range faults {
		var names []string
		for _, c := range checks[*tx]() {
			if err := c.run(t.Context(), newFaulty(f).harness()); err != nil {
				names = append(names, c.name)
				red[c.name] = true
			}
		}
		require.Subset(t, names, noticed, "fault %s", f)
	}
	for _, c := range checks[*tx]() {
		require.True(t, red[c.name], "no fault makes this check fail: %s", c.name)
	}
}

// faults are ways to break a good inbox, and checks that must notice each; more of them may.
var faults = map[fault][]string{
	markBefore:           {"failure", "undo of a failed action", "panic"},
	replyNotStored:       {"duplicate", "replies byte by byte"},
	noRecord:             {"duplicate", "duplicate of a rejection"},
	checkAfter:           {"duplicate", "undo of a success"},
	noNullCompensation:   {"null compensation", "undo of a rejected action"},
	noHanging:            {"hanging", "undo of a failed action"},
	nullNeverRuns:        {"null compensation with a handler", "null compensation that fails"},
	nullOfRejectedRuns:   {"null compensation of a rejected action"},
	nullMarksBefore:      {"null compensation that fails"},
	nullLeavesNoRecord:   {"null compensation with a handler"},
	undoForgotten:        {"undo of a success"},
	undoForgetsAction:    {"action again after its undo"},
	undoRejects:          {"a compensation cannot say no"},
	undoFailureIsStored:  {"a compensation that fails"},
	rejectionNotStored:   {"duplicate of a rejection", "rejection"},
	rejectionKeepsWrites: {"rejection", "several writes", "rejections at once"},
	rejectionNotUnwraped: {"wrapped rejection"},
	oddReasonFails:       {"reason of any text"},
	failureKeepsWrites:   {"failure", "several writes", "different effects at once"},
	panicKeepsWrites:     {"panic"},
	panicIsSwallowed:     {"panic"},
	looseIdentity:        {"identities byte by byte"},
	undoBySuffix:         {"identities byte by byte"},
	oneForAll:            {"effects are apart"},
	unguarded:            {"duplicates at once"},
	unguardedUndo:        {"action and undo at once"},
	aliased:              {"replies belong to the caller"},
	ownContext:           {"context"},
	deafToContext:        {"cancelled"},
	commitsWhenCancelled: {"cancelled in the handler"},
	forgetsOnReopen:      {"after a restart"},
}
