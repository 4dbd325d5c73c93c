package session

import (
	"net/http"
	"net/url"
	"strings"
)

// maxNext is how long the address may be that one comes back to, in octets.
const maxNext = 400

// nextOf is where a request says to go after signing in.
func nextOf(r *http.Request) string { return ownPath(r.FormValue("next")) }

// ownPath is s if it is a path of this portal, with its query, and else "/". A
// browser takes "//host", "/\host" and what tabs and line ends hide for other
// hosts.
func ownPath(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }
	if len(s) > maxNext || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsFunc(s, odd) {
		return "/"
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || strings.Contains(u.Path, "//") ||
		strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == '\\' }) {
		return "/"
	}
	if u.Path == "/sign-in" || strings.HasPrefix(u.Path, "/sign-in/") || u.Path == "/sign-out" {
		return "/"
	}
	return s
}
