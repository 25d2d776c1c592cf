package watermillsql_test

import (
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it tells of each connection that is cut
	leaktest.Main(m)
}
