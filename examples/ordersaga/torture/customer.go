package torture

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
)

// Customer is somebody who buys. By their number they behave differently.
type Customer struct {
	Number       int
	Common, Rare string        // articles: one that there is plenty of, and one that there is not
	Regret       time.Duration // when those cancel who do
}

// Buy does what a customer does. Whatever that is, the shop's "no" is an answer, too; until there is one the client says the same
// thing again, under the same key.
func Buy(ctx context.Context, c *client.Client, who Customer) error {
	basket := client.Basket{Lines: []order.Line{{SKU: who.Common, Quantity: int64(1 + who.Number%3), UnitPrice: 79900}}, Method: outside.Visa}
	pays, cancels := true, false
	switch who.Number % 12 {
	case 0, 1, 2: // all goes well
	case 3:
		basket.Method = outside.Flaky
	case 4, 5:
		cancels = true
	case 6:
		basket.Method, cancels = outside.Flaky, true
	case 7:
		basket.Method = outside.FailsLater
	case 8:
		basket.Method = outside.ChargeDecline
	case 9:
		basket.Method = outside.Silent // until the payment is too late
	case 10:
		pays = false // until the reservation is over
	case 11:
		basket.Lines = append(basket.Lines, order.Line{SKU: who.Rare, Quantity: 1, UnitPrice: 100})
	}
	v, err := c.Place(ctx, fmt.Sprintf("place-%d", who.Number), basket)
	if err != nil {
		return err
	}
	var clicks sync.WaitGroup
	var paid, cancelled error
	if pays {
		clicks.Go(func() {
			_, err := c.Pay(ctx, "pay-"+v.ID, v.ID)
			paid = orNo(err)
		})
	}
	if cancels {
		clicks.Go(func() {
			time.Sleep(who.Regret)
			_, err := c.Cancel(ctx, "cancel-"+v.ID, v.ID)
			cancelled = orNo(err)
		})
	}
	clicks.Wait()
	return errors.Join(paid, cancelled)
}

// orNo takes the shop's refusal for an answer.
func orNo(err error) error {
	if refused := (*client.Error)(nil); errors.As(err, &refused) && refused.Status == http.StatusConflict && refused.Header.Get("Retry-After") == "" {
		return nil
	}
	return err
}
