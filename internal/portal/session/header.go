package session

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/config"
)

// A header is the way in by what a web server in front says.
type header struct {
	s      *Sessions
	config config.SignInProxy
}

var _ way = (*header)(nil)

// maxHeader is how long such a header may be, in octets.
const maxHeader = 8 << 10

// believed reports whether a request comes straight from such a web server. It
// is the connection that counts and no header.
func (h *header) believed(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	addr := from.Addr().Unmap().WithZone("")
	return err == nil && slices.ContainsFunc(h.config.From, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// peer is where a connection comes from, for the log.
func peer(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// value is a header's one value; "" if it is not there, there twice, or not
// text. Two of a kind mean that the web server added its own to a visitor's.
func (h *header) value(r *http.Request, name string) string {
	list := r.Header.Values(name)
	if len(list) != 1 || len(list[0]) > maxHeader || !utf8.ValidString(list[0]) || strings.ContainsFunc(list[0], unicode.IsControl) {
		return ""
	}
	return strings.TrimSpace(list[0])
}

func (h *header) who(r *http.Request, _ *ticket) (Person, bool) {
	if !h.believed(r) {
		return Person{}, false
	}
	email := cleanEmail(h.value(r, h.config.Headers.Email))
	if email == "" || len(email) > maxID {
		return Person{}, false
	}
	groups := strings.FieldsFunc(h.value(r, h.config.Headers.Groups), func(r rune) bool { return r == ',' || r == ';' })
	for i := range groups {
		groups[i] = strings.TrimSpace(groups[i])
	}
	return Person{
		ID: email, Email: email, Name: cleanName(h.value(r, h.config.Headers.Name), email),
		Postmaster: isPostmaster(h.config.Postmasters, email, groups),
	}, true
}

func (h *header) strip(r *http.Request) {
	if h.believed(r) {
		return
	}
	for _, name := range []string{h.config.Headers.Email, h.config.Headers.Name, h.config.Headers.Groups} {
		r.Header.Del(name)
	}
}

func (h *header) out() string {
	if h.config.SignOutURL != "" {
		return h.config.SignOutURL
	}
	return "/"
}

func (h *header) origins() []string { return origin(nil, h.config.SignOutURL) }

func (h *header) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if _, ok := h.who(r, nil); ok {
			http.Redirect(w, r, nextOf(r), http.StatusSeeOther)
			return
		}
		reason := "the header is missing, there twice, or no mail address"
		if !h.believed(r) {
			reason = "the request comes from no address of signIn.proxy.from"
		}
		h.s.log.LogAttrs(r.Context(), slog.LevelWarn, "the web server in front does not say who somebody is",
			slog.String("event", "session.refused"), slog.String("reason", reason), slog.String("client", peer(r)))
		h.s.pages.Refuse(w, r, http.StatusForbidden, Refusal{
			Heading: "You are not signed in",
			Text:    "Here the web server in front of this site signs people in, and it did not say who you are.",
			Next:    []string{"Did you come by the usual address, " + h.s.url + "?", "If you did, tell the Postmaster team: the log says what was missing (session.refused)."},
			Link:    "/", Label: "To the first page",
		})
	})
}
