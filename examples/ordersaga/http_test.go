package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/signature"
	"github.com/sagamill/sagamill/idempotency"
)

// The calls over real HTTP: each status that they may answer.

// ask sends a request, which has to be answered with a status; an error as a problem.
func (s *shop) ask(status int, method, path string, body any, header ...string) client.Answer {
	s.t.Helper()
	a, err := s.Do(s.ctx(), method, path, body, header...)
	require.NoError(s.t, err)
	require.Equal(s.t, status, a.Status, "%s %s: %s", method, path, a.Body)
	if status >= 400 {
		require.Equal(s.t, "application/problem+json", a.Header.Get("Content-Type"), path)
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		require.NoError(s.t, json.Unmarshal(a.Body, &p))
		require.Equal(s.t, status, p.Status)
		require.NotEmpty(s.t, p.Title)
	}
	return a
}

func (s *shop) stocked(n int) *shop {
	s.t.Helper()
	require.NoError(s.t, s.Restock(s.ctx(), "phone", n))
	return s
}

// placed places an order for a phone, which is reserved.
func (s *shop) placed(key string) order.View {
	s.t.Helper()
	v, err := s.Place(s.ctx(), key, phone(outside.Visa))
	require.NoError(s.t, err)
	return s.until(v.ID, order.Reserved)
}

// paid brings an order to PAID.
func (s *shop) paid(key string) order.View {
	s.t.Helper()
	v := s.placed(key)
	_, err := s.Pay(s.ctx(), key+"-pay", v.ID)
	require.NoError(s.t, err)
	require.NoError(s.t, s.Tell(s.ctx(), "payment", client.PaymentOf(v, key+"-paid", "payment.succeeded", "tx-"+key)))
	return s.until(v.ID, order.Paid)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	body, err := json.Marshal(phone(outside.Visa).Body())
	require.NoError(t, err)
	first := s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", `"abc"`)
	var v order.View
	require.NoError(t, json.Unmarshal(first.Body, &v))
	require.Equal(t, "/v1/orders/"+v.ID, first.Header.Get("Location"))
	require.Equal(t, order.Created, v.State)
	require.Equal(t, "PENDING", v.Status)
	require.Equal(t, int64(79900), v.Total)
	require.Empty(t, first.Header.Get(idempotency.ReplayedHeader))

	again := s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", "abc") // bare is the same key
	require.Equal(t, first.Body, again.Body)
	require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
	require.Equal(t, "true", again.Header.Get(idempotency.ReplayedHeader))
	s.ask(422, "POST", "/v1/orders", bytes.Replace(body, []byte("79900"), []byte("1"), 1), "Idempotency-Key", "abc")
	other := s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", "abc", "Tenant-ID", "acme")
	require.NotEqual(t, first.Body, other.Body, "a key belongs to its tenant")

	s.ask(400, "POST", "/v1/orders", body)
	s.ask(400, "POST", "/v1/orders", body, "Idempotency-Key", "")
	s.ask(400, "POST", "/v1/orders", body, "Idempotency-Key", "a b")
	s.ask(400, "POST", "/v1/orders", body, "Idempotency-Key", strings.Repeat("k", 256))
	s.ask(400, "POST", "/v1/orders", body, "Idempotency-Key", "x", "Tenant-ID", "no spaces")
	s.ask(403, "POST", "/v1/orders", body, "Idempotency-Key", "x", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", "x", "Origin", s.Client.URL, "Sec-Fetch-Site", "same-origin")
	s.ask(413, "POST", "/v1/orders", bytes.Repeat([]byte(" "), 1<<20+1), "Idempotency-Key", "large")
	s.ask(201, "POST", "/v1/orders", append(bytes.Repeat([]byte(" "), 1<<20-len(body)), body...), "Idempotency-Key", "large") // and its key was free
}

func TestPlacementsThatAreRefusedAsInvalid(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	good, err := json.Marshal(phone(outside.Visa).Body())
	require.NoError(t, err)
	for name, body := range map[string]string{
		"empty":                  ``,
		"not JSON":               `{"customer_id"`,
		"not an object":          `[]`,
		"null":                   `null`,
		"unknown member":         strings.Replace(string(good), `"currency"`, `"x":1,"currency"`, 1),
		"nested unknown member":  strings.Replace(string(good), `"sku"`, `"colour":"red","sku"`, 1),
		"member twice":           strings.Replace(string(good), `"currency":"EUR"`, `"currency":"EUR","currency":"USD"`, 1),
		"member in capitals":     strings.Replace(string(good), `"currency"`, `"Currency"`, 1),
		"something after it":     string(good) + `{}`,
		"null member":            strings.Replace(string(good), `"EUR"`, `null`, 1),
		"wrong type":             strings.Replace(string(good), `"quantity":1`, `"quantity":"1"`, 1),
		"part of a piece":        strings.Replace(string(good), `"quantity":1`, `"quantity":1.5`, 1),
		"no customer":            strings.Replace(string(good), `"ada"`, `""`, 1),
		"no currency":            strings.Replace(string(good), `"EUR"`, `"euro"`, 1),
		"no lines":               strings.Replace(string(good), `"lines":[`, `"lines":[],"l":[`, 1),
		"no pieces":              strings.Replace(string(good), `"quantity":1`, `"quantity":0`, 1),
		"too many pieces":        strings.Replace(string(good), `"quantity":1`, `"quantity":1000000`, 1),
		"price below zero":       strings.Replace(string(good), `79900`, `-1`, 1),
		"price beyond int64":     strings.Replace(string(good), `79900`, `99999999999999999999`, 1),
		"no address":             strings.Replace(string(good), `"Hauptstr. 1"`, `""`, 1),
		"a country that is none": strings.Replace(string(good), `"DE"`, `"Germany"`, 1),
	} {
		a := s.ask(400, "POST", "/v1/orders", []byte(body), "Idempotency-Key", "same")
		require.Contains(t, string(a.Body), "detail", name)
	}
	s.ask(201, "POST", "/v1/orders", good, "Idempotency-Key", "same") // none of them has taken the key
	list := s.ask(200, "GET", "/v1/orders", nil)
	require.Equal(t, 1, strings.Count(string(list.Body), `"tenant"`))
}

func TestOrdersAreTheirTenants(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	v := s.placed("k")
	for _, path := range []string{"", "/payment", "/notifications"} {
		s.ask(200, "GET", "/v1/orders/"+v.ID+path, nil)
		s.ask(404, "GET", "/v1/orders/"+v.ID+path, nil, "Tenant-ID", "acme")
		s.ask(404, "GET", "/v1/orders/nobodys"+path, nil)
	}
	for _, click := range []string{"/pay", "/cancel"} {
		s.ask(404, "POST", "/v1/orders/"+v.ID+click, nil, "Idempotency-Key", "x", "Tenant-ID", "acme")
		s.ask(400, "POST", "/v1/orders/"+v.ID+click, nil)
		s.ask(400, "POST", "/v1/orders/"+v.ID+click, []byte(`{"force":true}`), "Idempotency-Key", "y")
	}
	require.Contains(t, string(s.ask(200, "GET", "/v1/orders", nil, "Tenant-ID", "acme").Body), `"orders":[]`)
	require.Contains(t, string(s.ask(200, "GET", "/v1/stock/phone", nil, "Tenant-ID", "acme").Body), `"reserved":1`) // stock is everybody's
}

func TestList(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	var ids []string
	for n := range 5 {
		ids = append(ids, s.placed(fmt.Sprint(n)).ID)
	}
	_, err := s.Cancel(s.ctx(), "c", ids[2])
	require.NoError(t, err)
	s.until(ids[2], order.Cancelled)
	page := func(query string) (got []string, next string) {
		var answer struct {
			Orders []order.View `json:"orders"`
			Next   string       `json:"next"`
		}
		require.NoError(t, json.Unmarshal(s.ask(200, "GET", "/v1/orders"+query, nil).Body, &answer))
		for _, v := range answer.Orders {
			got = append(got, v.ID)
		}
		return got, answer.Next
	}
	got, next := page("")
	require.Equal(t, ids, got)
	require.Empty(t, next)
	got, next = page("?limit=2")
	require.Equal(t, ids[:2], got)
	got, next = page("?limit=2&after=" + next)
	require.Equal(t, ids[2:4], got)
	got, _ = page("?limit=2&after=" + next)
	require.Equal(t, ids[4:], got)
	got, _ = page("?state=CANCELLED")
	require.Equal(t, ids[2:3], got)
	for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?state=LOST", "?sort=up"} {
		s.ask(400, "GET", "/v1/orders"+query, nil)
	}
}

func TestPayAndCancel(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	v := s.placed("k")
	first := s.ask(202, "POST", "/v1/orders/"+v.ID+"/pay", nil, "Idempotency-Key", "p")
	require.Contains(t, string(first.Body), `"payment_url":"https://`)
	again := s.ask(202, "POST", "/v1/orders/"+v.ID+"/pay", nil, "Idempotency-Key", "p")
	require.Equal(t, first.Body, again.Body)
	s.ask(202, "POST", "/v1/orders/"+v.ID+"/pay", []byte(`{}`), "Idempotency-Key", "another-click")
	s.ask(422, "POST", "/v1/orders/"+s.placed("other").ID+"/pay", nil, "Idempotency-Key", "p") // the key is that of another order's payment
	l, err := s.Ledger(s.ctx(), v.ID)
	require.NoError(t, err)
	require.Len(t, l.Entries, 1, "authorized once")

	s.ask(202, "POST", "/v1/orders/"+v.ID+"/cancel", nil, "Idempotency-Key", "c")
	v = s.until(v.ID, order.Cancelled)
	require.Equal(t, "cancelled by the customer", v.Reason)
	s.ask(202, "POST", "/v1/orders/"+v.ID+"/cancel", nil, "Idempotency-Key", "c2")
	s.ask(409, "POST", "/v1/orders/"+v.ID+"/pay", nil, "Idempotency-Key", "p2")

	shipped := s.paid("s")
	require.NoError(t, s.Tell(s.ctx(), "fraud", client.FraudOf(shipped.ID, "f", "pass")))
	require.NoError(t, s.Tell(s.ctx(), "warehouse", client.PackedOf(shipped.ID, "w")))
	s.until(shipped.ID, order.Shipped)
	refused := s.ask(409, "POST", "/v1/orders/"+shipped.ID+"/cancel", nil, "Idempotency-Key", "c3")
	require.Contains(t, string(refused.Body), "SHIPPED")
	again = s.ask(409, "POST", "/v1/orders/"+shipped.ID+"/cancel", nil, "Idempotency-Key", "c3")
	require.Equal(t, refused.Body, again.Body)
}

func TestSignaturesThatAreBad(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	v := s.placed("k")
	body, err := json.Marshal(client.FraudOf(v.ID, "f", "pass"))
	require.NoError(t, err)
	now := time.Now()
	good := signature.Sign([]byte(secret), body, now)
	for name, sign := range map[string]string{
		"none":            "",
		"not a signature": "hello",
		"no time":         good[strings.Index(good, "v1="):],
		"no v1":           good[:strings.Index(good, ",")],
		"another scheme":  strings.Replace(good, "v1=", "v0=", 1),
		"time twice":      "t=1," + good,
		"not hex":         good[:strings.Index(good, "v1=")+3] + "zz",
		"too old":         signature.Sign([]byte(secret), body, now.Add(-6*time.Minute)),
		"too young":       signature.Sign([]byte(secret), body, now.Add(6*time.Minute)),
		"another time":    strings.Replace(good, "t=", "t=1", 1),
		"another secret":  signature.Sign([]byte("guessed"), body, now),
		"another body":    signature.Sign([]byte(secret), append(body, ' '), now),
	} {
		header := []string{}
		if sign != "" {
			header = []string{signature.Header, sign}
		}
		a := s.ask(400, "POST", "/webhooks/fraud", body, header...)
		require.Contains(t, string(a.Body), "not believed", name)
	}
	old := strings.Split(signature.Sign([]byte("the secret before"), body, now), ",")[1]
	s.ask(200, "POST", "/webhooks/fraud", body, signature.Header, strings.Replace(good, ",", ","+old+",", 1)) // any of several
	s.ask(200, "POST", "/webhooks/fraud", body, signature.Header, signature.Sign([]byte(secret), body, now.Add(-4*time.Minute)))
}

func TestWebhooksAreBelievedAsFarAsTheyAgree(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	v := s.placed("k")
	tell := func(status int, from string, body map[string]any) {
		t.Helper()
		a, err := s.Webhook(s.ctx(), from, body)
		require.NoError(t, err)
		require.Equal(t, status, a.Status, "%s %v: %s", from, body, a.Body)
	}
	with := func(body map[string]any, name string, value any) map[string]any {
		if value == nil {
			delete(body, name)
		} else {
			body[name] = value
		}
		return body
	}
	payment := func() map[string]any { return client.PaymentOf(v, "e", "payment.succeeded", "tx") }
	tell(422, "payment", with(payment(), "amount", 1))
	tell(422, "payment", with(payment(), "currency", "USD"))
	tell(404, "payment", with(payment(), "order_id", "nobodys"))
	tell(400, "payment", with(payment(), "type", "payment.lost"))
	tell(400, "payment", with(payment(), "transaction_id", nil))
	tell(400, "payment", with(payment(), "id", nil))
	tell(400, "payment", with(payment(), "Amount", 1))
	tell(404, "fraud", client.FraudOf("nobodys", "f", "pass"))
	tell(400, "fraud", client.FraudOf(v.ID, "f", "perhaps"))
	tell(404, "warehouse", client.PackedOf("nobodys", "w"))
	tell(400, "warehouse", with(client.PackedOf(v.ID, "w"), "type", "lost"))
	tell(404, "carrier", client.ScanOf("nobodys", "c"))
	require.Contains(t, s.log.String(), `level=WARN msg="webhook refused" path=/webhooks/carrier status=404`)
	tell(400, "carrier", with(client.ScanOf(v.ID, "c"), "type", "lost"))
	tell(200, "payment", payment())
	tell(200, "payment", payment())
	tell(422, "payment", with(payment(), "transaction_id", "another")) // under the same id
	large, err := s.Webhook(s.ctx(), "payment", bytes.Repeat([]byte(" "), 1<<20+1))
	require.NoError(t, err)
	require.Equal(t, 413, large.Status)
}

func TestAdminCalls(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.ask(200, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`))
	s.ask(200, "PUT", "/v1/stock/phone", []byte(`{"available": 0}`))
	for _, body := range []string{`{}`, `{"available": -1}`, `{"available": 1.5}`, `{"available": null}`, `{"Available": 1}`, `{"available": 10000000000}`, ``} {
		s.ask(400, "PUT", "/v1/stock/phone", []byte(body))
	}
	s.ask(404, "GET", "/v1/stock/unicorn", nil)
	s.ask(403, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`), "Sec-Fetch-Site", "cross-site")

	s.ask(403, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`), "X-Forwarded-For", "203.0.113.7")

	guarded := open(t, func(c *app.Config) { c.AdminToken = "s3cret" })
	guarded.ask(401, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`))
	guarded.ask(401, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`), "Authorization", "Bearer guessed")
	guarded.ask(200, "PUT", "/v1/stock/phone", []byte(`{"available": 3}`), "Authorization", "Bearer s3cret")
	guarded.ask(200, "GET", "/v1/stock/phone", nil)
}

// An operator finds an order and what happened to it, and gives it up for its customer.
func TestOperatorsCalls(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *app.Config) { c.AdminToken = "s3cret" })
	token := []string{"Authorization", "Bearer s3cret"}
	s.ask(200, "PUT", "/v1/stock/phone", []byte(`{"available": 10}`), token...)
	v := s.placed("k")
	at := "/admin/sagas/" + v.ID
	found := s.ask(200, "GET", "/admin/sagas?definition=order&key=default/"+v.ID, nil, token...)
	require.Contains(t, string(found.Body), v.ID)
	history := s.ask(200, "GET", at+"/history?format=text", nil, token...)
	require.Contains(t, string(history.Body), "CREATED -> RESERVED on checkout-initiated")

	operation := []byte(`{"verb": "force-compensate", "to": "CANCELLED", "why": "ordered by mistake"}`)
	for _, call := range [][2]string{{"GET", "/admin/sagas"}, {"GET", at}, {"POST", at + "/operations"}} {
		s.ask(401, call[0], call[1], operation, "Operator", "ann")
	}
	s.ask(403, "POST", at+"/operations", operation, token...)
	s.ask(200, "POST", at+"/operations", operation, append(token, "Operator", "ann")...)
	s.until(v.ID, order.Cancelled)
	stock, err := s.Stock(s.ctx(), "phone")
	require.NoError(t, err)
	require.Equal(t, inventory.Stock{Available: 10}, stock)
	history = s.ask(200, "GET", at+"/history?format=text", nil, token...)
	require.Contains(t, string(history.Body), "force-compensate to CANCELLED by ann: ordered by mistake")

	open := open(t).stocked(1)
	open.ask(200, "GET", "/admin/sagas", nil)
	open.ask(403, "GET", "/admin/sagas", nil, "X-Forwarded-For", "203.0.113.7")
}

func TestSurroundings(t *testing.T) {
	t.Parallel()
	s := open(t).stocked(10)
	s.placed("k")
	s.ask(200, "GET", "/healthz", nil)
	s.ask(200, "GET", "/readyz", nil)
	metrics, err := s.Do(s.ctx(), "GET", "/metrics", nil)
	require.NoError(t, err)
	require.Contains(t, string(metrics.Body), "\nsaga_attention 0\n")
	require.Contains(t, string(metrics.Body), `saga_observations_total{outcome="succeeded",what="command"}`)
	s.ask(404, "GET", "/nowhere", nil)
	a := s.ask(405, "DELETE", "/v1/orders", nil)
	require.Equal(t, "GET, POST", a.Header.Get("Allow"))
}

// The record of a request may be lost; the saga store is the authority.
func TestOneOrderPerKeyThoughTheRecordsOfRequestsAreLost(t *testing.T) {
	t.Parallel()
	lost := func(c *app.Config) { c.Keys = forgetful{} }
	s := open(t, lost).stocked(10)
	body := phone(outside.Visa).Body()
	first := s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", "k")
	again := s.ask(201, "POST", "/v1/orders", body, "Idempotency-Key", "k")
	require.Equal(t, first.Body, again.Body)
	require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
	require.Equal(t, "true", again.Header.Get(idempotency.ReplayedHeader))
	body["customer_id"] = "ben"
	s.ask(422, "POST", "/v1/orders", body, "Idempotency-Key", "k")
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	nothing := func(string) string { return "" }
	for want, args := range map[string][]string{
		`--store is "redis:"`:              {"--store", "redis:"},
		"memory: keeps":                    {"--store", "memory:", "--broker", "redis://x", "--services", "order"},
		"lacks the path":                   {"--store", "sqlite:"},
		`--broker is "kafka://x"`:          {"--broker", "kafka://x"},
		`--idempotency is "memcached://x"`: {"--idempotency", "memcached://x"},
		`--services has "marketing"`:       {"--services", "order,marketing"},
		"within one process only":          {"--services", "order"},
		"--reserve-ttl is -1s":             {"--reserve-ttl", "-1s"},
		"serve takes flags only":           {"now"},
	} {
		_, err := app.Parse(args, nothing, nil)
		require.ErrorContains(t, err, want)
	}
	c, err := app.Parse(nil, func(key string) string {
		return map[string]string{"ORDERSAGA_RESERVE_TTL": "1m", "ORDERSAGA_SIMULATE": "false"}[key]
	}, nil)
	require.NoError(t, err)
	require.Equal(t, time.Minute, c.ReserveTTL)
	require.False(t, c.Simulate)
	_, err = app.Parse(nil, func(key string) string { return map[string]string{"ORDERSAGA_SIMULATE": "perhaps"}[key] }, nil)
	require.ErrorContains(t, err, "ORDERSAGA_SIMULATE")
}

// forgetful is an idempotency store that forgets everything at once, as a cache may.
type forgetful struct{}

func (forgetful) Begin(context.Context, idempotency.Key, idempotency.Fingerprint, time.Duration) (idempotency.Claim, error) {
	return idempotency.Claim{State: idempotency.Acquired, Token: 1}, nil
}

func (forgetful) Renew(context.Context, idempotency.Key, idempotency.Token, time.Duration) error {
	return nil
}

func (forgetful) Complete(context.Context, idempotency.Key, idempotency.Token, idempotency.Completion) error {
	return nil
}
func (forgetful) Release(context.Context, idempotency.Key, idempotency.Token) error { return nil }
func (forgetful) Expire(context.Context, int, idempotency.Live) (int, error)        { return 0, nil }
