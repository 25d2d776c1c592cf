package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a connection does with the buffer that it was given, what is in it already is still there when there is room for more.
func TestRoomKeepsWhatIsWritten(t *testing.T) {
	t.Parallel()
	used := new([]byte)
	first, err := room{used, 10}.Encode([]byte("ab"))
	require.NoError(t, err)
	require.Equal(t, "ab", string(first))
	require.GreaterOrEqual(t, cap(first), 12)

	kept := append(first, "cd"...) // the connection goes on writing there
	again, err := room{used, 4}.Encode(kept)
	require.NoError(t, err)
	require.Equal(t, "abcd", string(again))
	require.Same(t, &first[0], &again[0], "the buffer is used again")

	grown, err := room{used, 1000}.Encode(again)
	require.NoError(t, err)
	require.Equal(t, "abcd", string(grown))

	fresh, err := room{used, 1}.Encode([]byte("new"))
	require.NoError(t, err)
	require.Equal(t, "new", string(fresh))
	require.Same(t, &grown[0], &fresh[0])

	huge, err := room{used, maxBytes}.Encode(nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, cap(huge), maxBytes)
	require.Nil(t, *used, "a connection does not hold on to as much")
}
