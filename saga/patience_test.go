package saga

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The numbers are those of RFC 6298, section 2.
func TestPatienceIsThatOfTCP(t *testing.T) {
	t.Parallel()
	var nobody *patience
	require.Zero(t, nobody.wait("stock"))
	p := &patience{}
	require.Zero(t, p.wait("stock"), "nothing is known")

	p.heard("stock", 2*time.Second)
	require.Equal(t, 2*time.Second+4*time.Second, p.wait("stock")) // R + 4 * R/2
	p.heard("stock", 4*time.Second)
	// RTTVAR = 3/4 * 1 s + 1/4 * |2 s - 4 s| = 1.25 s; SRTT = 7/8 * 2 s + 1/8 * 4 s = 2.25 s
	require.Equal(t, 2250*time.Millisecond+4*1250*time.Millisecond, p.wait("stock"))
	require.Zero(t, p.wait("payment"), "each topic has its own")

	p.heard("stock", -time.Hour)
	require.Equal(t, 7250*time.Millisecond, p.wait("stock"), "a clock that was put back says nothing")

	for range 40 {
		p.heard("stock", 10*time.Millisecond)
	}
	require.Less(t, p.wait("stock"), 200*time.Millisecond, "participants that are quick again are believed")

	p.heard("ship", time.Hour)
	require.Equal(t, 3*longestReply, p.wait("ship"))
}

// A step's policy is the least that is waited for, and its Max the most.
func TestPatienceLiesBetweenFirstAndMax(t *testing.T) {
	t.Parallel()
	p := &patience{}
	for took, want := range map[time.Duration]time.Duration{
		time.Millisecond: time.Second, 2 * time.Second: 6 * time.Second, 20 * time.Second: 30 * time.Second,
	} {
		*p = patience{}
		p.heard("inventory", took)
		d := decide(order.compiled(), newWorld(order).inst, input{start: &startInput{}, patience: p}, JSON{}, limits{waiting: 4, data: 400})
		require.Equal(t, "inventory", d.effects[0].message.Topic)
		require.Equal(t, want, d.next.Timers[0].In)
		require.Equal(t, want, d.wake)
	}
}
