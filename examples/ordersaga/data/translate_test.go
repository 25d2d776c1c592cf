package data

import (
	"database/sql/driver"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTranslate(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`SELECT a FROM t WHERE b = ? AND c = '1'`:                                                `SELECT a FROM t WHERE b = ? AND c = '1'`,
		`UPDATE t SET a = a - $1, b = b + $1 WHERE c = $2`:                                       `UPDATE t SET a = a - ?, b = b + ? WHERE c = ?`,
		`INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING`:                            `INSERT INTO t (a, b) VALUES (?, ?) ON DUPLICATE KEY UPDATE a = a`,
		`INSERT INTO t (a, b) VALUES ($2, 1) ON CONFLICT (a) DO UPDATE SET b = t.b + excluded.b`: `INSERT INTO t (a, b) VALUES (?, 1) ON DUPLICATE KEY UPDATE b = t.b + VALUES(b)`,
		"INSERT INTO t (a, b)\n\t\t\tVALUES ($1, $2)\n\t\t\tON CONFLICT (a) DO NOTHING":          "INSERT INTO t (a, b)\n\t\t\tVALUES (?, ?)\n\t\t\tON DUPLICATE KEY UPDATE a = a",
	} {
		require.Equal(t, want, translate(query).query)
	}
	args := []driver.NamedValue{{Ordinal: 1, Value: int64(5)}, {Ordinal: 2, Value: "sku"}}
	ordered, err := translate(`UPDATE t SET a = a - $1, b = b + $1 WHERE c = $2`).arguments(args)
	require.NoError(t, err)
	require.Equal(t, []driver.NamedValue{{Ordinal: 1, Value: int64(5)}, {Ordinal: 2, Value: int64(5)}, {Ordinal: 3, Value: "sku"}}, ordered)
	_, err = translate(`SELECT $3`).arguments(args)
	require.Error(t, err)
}
