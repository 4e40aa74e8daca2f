package admin

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// guard refuses what a web page may have caused: requests that change something
// from another origin, and on a loopback address requests for a name that
// is not this machine's, which a page gets here by DNS rebinding.
func guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		forbid(w, "cross-origin", "requests from web pages of other origins are refused")
	}))
	protected := crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onLoopback(r) && !localName(r.Host) {
			forbid(w, "host", fmt.Sprintf("host %q is not a name of this machine's loopback address: use 127.0.0.1 or localhost", r.Host))
			return
		}
		protected.ServeHTTP(w, r)
	})
}

func forbid(w http.ResponseWriter, name, detail string) {
	(&Problem{Type: problemType(name), Title: "forbidden", Status: http.StatusForbidden, Detail: detail}).write(w)
}

// onLoopback tells whether the request came in on a loopback address.
func onLoopback(r *http.Request) bool {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

// localName tells whether no DNS server can have a say in where host leads.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}
