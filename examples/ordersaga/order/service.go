package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/saga"
)

// Service is what the outside asks of orders.
type Service struct {
	orchestrator *saga.Orchestrator
	lifecycle    *Definition
	book         *Book
}

// NewService makes the service on an orchestrator that runs the lifecycle.
func NewService(orchestrator *saga.Orchestrator, lifecycle *Definition, book *Book) *Service {
	return &Service{orchestrator: orchestrator, lifecycle: lifecycle, book: book}
}

// Errors that callers branch on, beside those of package saga.
var (
	ErrNotFound = errors.New("no such order")
	ErrDisagree = errors.New("the payment does not agree with the order")
)

// Placement is a new order.
type Placement struct {
	Customer      string
	Currency      string
	Lines         []Line
	Address       contract.Address
	PaymentMethod string
}

// Placed is the answer to a Placement. Body is what the first answer was, byte by byte, however often the request comes.
type Placed struct {
	ID     string
	Body   []byte
	Replay bool
}

// Place starts an order's saga. The request's key is kept in the saga store, in the transaction that creates the order: it is
// the authority on whether the request came before.
func (s *Service) Place(ctx context.Context, tenant string, p Placement, request saga.RequestKey) (Placed, error) {
	o := Order{
		ID: uuid.Must(uuid.NewV7()).String(), Tenant: tenant, Customer: p.Customer, Currency: p.Currency, Lines: p.Lines,
		Address: p.Address, PaymentMethod: p.PaymentMethod,
	}
	for _, l := range p.Lines {
		o.Total += l.Quantity * l.UnitPrice
	}
	request.Respond = func(i saga.Instance) ([]byte, error) { return json.Marshal(viewOf(i, o, nil)) }
	started, err := s.lifecycle.Start(ctx, s.orchestrator, saga.StartParams[Order]{
		ID: o.ID, Key: key(tenant, o.ID), Data: o, StartKey: &request,
	})
	if err != nil {
		return Placed{}, err
	}
	return Placed{ID: started.ID, Body: started.Response, Replay: started.Existing}, nil
}

// key is an order's business key: tenants see their own orders only.
func key(tenant, id string) string { return tenant + "/" + id }

// Get reads a tenant's order.
func (s *Service) Get(ctx context.Context, tenant, id string) (View, error) {
	snapshot, err := s.lifecycle.Get(ctx, s.orchestrator, key(tenant, id))
	if errors.Is(err, saga.ErrNotFound) {
		return View{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, snapshot.Instance, snapshot.Data)
}

func (s *Service) view(ctx context.Context, i saga.Instance, o Order) (View, error) {
	history, err := s.orchestrator.History(ctx, i.ID, 0, 0)
	if err != nil {
		return View{}, err
	}
	return viewOf(i, o, history), nil
}

// List reads a page of a tenant's orders, the oldest first, and says after which the next page begins.
func (s *Service) List(ctx context.Context, tenant string, state State, limit int, after string) (page []View, next string, err error) {
	instances, next, err := s.orchestrator.List(ctx, saga.Query{
		Definition: s.lifecycle.Name(), KeyPrefix: key(tenant, ""), State: string(state), Limit: limit, After: after,
	})
	if err != nil {
		return nil, "", err
	}
	page = make([]View, len(instances))
	for k, i := range instances {
		var o Order
		if err := json.Unmarshal(i.Data, &o); err != nil {
			return nil, "", fmt.Errorf("order %s: %w", i.ID, err)
		}
		if page[k], err = s.view(ctx, i, o); err != nil {
			return nil, "", err
		}
	}
	return page, next, nil
}

// Click is a customer's click, under the key of its request: twice the same is once.
func (s *Service) Click(ctx context.Context, tenant, id string, event Event, request string) (View, error) {
	_, err := s.lifecycle.Send(ctx, s.orchestrator, key(tenant, id), event, saga.Input{Source: "customer", ID: request})
	if errors.Is(err, saga.ErrNotFound) {
		return View{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return View{}, err
	}
	if event == PayClicked {
		s.await(ctx, id)
	}
	return s.Get(ctx, tenant, id)
}

// patience is how long a click on Pay is kept waiting for the gateway's address.
const patience = 2 * time.Second

// await gives the gateway a moment to say where the customer is to go.
func (s *Service) await(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, _ = s.orchestrator.WaitFor(ctx, id, func(i saga.Instance) bool { // what has come by then is what the order says
		return !slices.Contains([]State{Created, Reserved}, State(i.State))
	})
}

// Webhook is news from outside: of the gateway, the fraud check, the warehouse or the carrier.
type Webhook struct {
	Source string
	ID     string // the sender's
	Order  string
	Event  Event

	Payment  *Payment // with its amount, of payments
	Amount   int64
	Currency string
}

// Receive takes a webhook. When it returns nil the news are recorded for good.
func (s *Service) Receive(ctx context.Context, w Webhook) error {
	i, err := s.orchestrator.Get(ctx, w.Order)
	if errors.Is(err, saga.ErrNotFound) || err == nil && i.Definition != s.lifecycle.Name() {
		return fmt.Errorf("%w: %s", ErrNotFound, w.Order)
	}
	if err != nil {
		return err
	}
	in := saga.Input{Source: w.Source, ID: w.ID}
	if w.Payment != nil {
		var o Order // its total and currency never change
		if err := json.Unmarshal(i.Data, &o); err != nil {
			return fmt.Errorf("order %s: %w", i.ID, err)
		}
		if w.Amount != o.Total || w.Currency != o.Currency {
			return fmt.Errorf("%w: it is of %d %s, the order of %d %s", ErrDisagree, w.Amount, w.Currency, o.Total, o.Currency)
		}
		in.Payload = *w.Payment
	}
	_, err = s.lifecycle.Send(ctx, s.orchestrator, i.Key, w.Event, in)
	return err
}

// Notifications lists what a tenant's customer was told about an order.
func (s *Service) Notifications(ctx context.Context, tenant, id string) ([]Notification, error) {
	if err := s.Exists(ctx, tenant, id); err != nil {
		return nil, err
	}
	return s.book.Notifications(ctx, id)
}

// Exists answers ErrNotFound if the tenant has no such order.
func (s *Service) Exists(ctx context.Context, tenant, id string) error {
	_, err := s.orchestrator.Lookup(ctx, s.lifecycle.Name(), key(tenant, id))
	if errors.Is(err, saga.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return err
}

// Ready tells whether the saga store answers.
func (s *Service) Ready(ctx context.Context) error {
	_, _, err := s.orchestrator.List(ctx, saga.Query{Definition: s.lifecycle.Name(), Limit: 1})
	return err
}
