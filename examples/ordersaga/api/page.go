package api

import (
	"embed"
	"net/http"
)

//go:embed page.html
var files embed.FS

// page is the shop's window.
func page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		http.ServeFileFS(w, r, files, "page.html")
	})
}
