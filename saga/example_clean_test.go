package saga_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// A job that runs once a day: what has been over for a month goes to a file, and out of the database.
func ExampleClean() {
	ctx, store := context.Background(), memory.NewStore()
	archive := json.NewEncoder(os.Stdout) // a file, or a table elsewhere
	removed, err := saga.Clean(ctx, store, saga.Retention{
		KeepFor: 30 * 24 * time.Hour,
		Archive: func(_ context.Context, some []saga.Archived) error {
			for _, a := range some {
				if err := archive.Encode(a); err != nil {
					return err
				}
			}
			return nil
		},
	})
	fmt.Println(removed, err)
	// Output: 0 <nil>
}
