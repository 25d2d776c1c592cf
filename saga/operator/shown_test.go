package operator

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// An operator is told which attempts say nothing of the step, but of the definition.
func TestFaultsOfTheDefinitionAreToldApart(t *testing.T) {
	t.Parallel()
	d := newDetails(saga.Instance{Steps: []compensation.Entry{
		{Step: "pack", Run: 1, Status: compensation.Sent, Stuck: true, Attempts: 3, Faults: 2, Reason: "saga: decode parcel"},
		{Step: "pay", Run: 1, Status: compensation.Sent, Attempts: 1},
	}})
	require.Contains(t, d.String(), "3, 2 by faults of the definition")
	b, err := json.Marshal(d.Steps)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"name": "pack", "run": 1, "class": "compensatable", "status": "sent", "stuck": true, "undoable": false, "attempts": 3, "faults": 2, "undos": 0, "reason": "saga: decode parcel"},
		{"name": "pay", "run": 1, "class": "compensatable", "status": "sent", "stuck": false, "undoable": false, "attempts": 1, "undos": 0}
	]`, string(b))
}
