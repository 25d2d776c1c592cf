package api_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/api"
	"github.com/sagamill/sagamill/idempotency"
)

// The page needs nothing but the shop: it works without the internet, and no other origin can change it.
func TestPage(t *testing.T) {
	t.Parallel()
	noKeys := struct{ idempotency.Store }{}
	shop, err := api.Handler(api.Services{Keys: noKeys, Metrics: http.NotFoundHandler()})
	require.NoError(t, err)
	answer := httptest.NewRecorder()
	shop.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))

	require.Equal(t, http.StatusOK, answer.Code)
	require.Equal(t, "text/html; charset=utf-8", answer.Header().Get("Content-Type"))
	require.Equal(t, "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'", answer.Header().Get("Content-Security-Policy"))

	page := answer.Body.String()
	require.Contains(t, page, "</html>")
	names := regexp.MustCompile(`http://www\.w3\.org/(2000/svg|1999/xhtml|1999/xlink)\b`) // of XML, not of places
	require.NotRegexp(t, `(?i)https?:`, names.ReplaceAllString(page, ""))
	require.NotRegexp(t, `(?i)(src|href)\s*=\s*["']?//|@import|url\(\s*["']?[^#"'\s]`, page)
	require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(`, page, "what the shop says becomes text, never markup")
}
