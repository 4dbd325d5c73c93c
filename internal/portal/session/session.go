// Package session knows who the visitor of the portal is: it signs people in by
// OpenID Connect, by a header of a web server in front, or, for trying it out,
// by letting them choose; and it tells a form that was sent from this portal
// from one that another site forged.
//
// Invariants:
//   - Nothing is kept in memory: who is signed in is in a cookie that only this
//     portal can make and read, and that ends at a time of its own, whatever the
//     browser does with it. A restart signs nobody out, another secret everybody.
//   - Whether somebody is a postmaster is in no cookie. It is worked out anew for
//     each request, from the configuration and what the provider said.
//   - A mail address counts only if it is verified: it says for which department
//     somebody speaks.
//   - A provider that is down lets nobody in, and stops nothing else.
//   - After signing in, one comes to a page of this portal and to no other.
//
// OpenID Connect Core 1.0, with the code flow, PKCE (RFC 7636), state, nonce, and
// the issuer in the answer (RFC 9207); cookies as RFC 6265 has them.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"

	"example.edu/gatepost/internal/config"
)

// A Refusal is why somebody is not let on, in words for them.
type Refusal struct {
	Heading string
	Text    string
	Next    []string // what to do
	Link    string   // a path of this portal; "": none
	Label   string   // what Link says
}

// A Choice is what the page to choose a person shows. Its form goes by POST to
// /sign-in, with the fields token, next and person.
type Choice struct {
	Token  string
	Next   string // where to go then, a path
	People []Person
}

// Pages shows what this package has to say.
type Pages interface {
	// Choose shows the people of a Choice.
	Choose(http.ResponseWriter, *http.Request, Choice)
	// Refuse shows why somebody is not let on. It must not call Token, but for a
	// form that the browser says comes from a page of this portal.
	Refuse(w http.ResponseWriter, r *http.Request, status int, why Refusal)
}

// Options are what New needs.
type Options struct {
	SignIn   config.SignIn
	URL      string        // of the portal, as config.Portal has it
	Lifetime time.Duration // of a sign-in
	Secrets  [][]byte      // each of MinSecret octets or more; the first makes cookies, all are taken
	Open     []string      // paths that other programs POST to, with a check of their own, such as "/webhook"
	Pages    Pages
	Logger   *slog.Logger
	Client   *http.Client     // for the provider; nil: one of the package's own
	Now      func() time.Time // nil: time.Now
}

// Sessions knows who is signed in. It is safe for concurrent use.
type Sessions struct {
	way     way
	url     string
	secure  bool // cookies are for https alone
	life    time.Duration
	codecs  []securecookie.Codec
	open    []string
	origins *http.CrossOriginProtection
	pages   Pages
	log     *slog.Logger
	now     func() time.Time
}

// A way is one way to sign in.
type way interface {
	// who is the person of a request, if this way says so by itself or by the
	// ticket of the request, nil if there is none.
	who(r *http.Request, t *ticket) (Person, bool)
	// routes adds what it serves.
	routes(mux *http.ServeMux)
	// strip removes from a request what it must not have.
	strip(r *http.Request)
	// out is where to go after signing out.
	out() string
	// origins are the sites that a form may lead to, but for this portal.
	origins() []string
}

// New makes the sessions. It asks nobody anything.
func New(o Options) (*Sessions, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	codecs, err := newCodecs(o.Secrets)
	if err != nil {
		return nil, err
	}
	s := &Sessions{
		url: o.URL, secure: strings.HasPrefix(o.URL, "https:"), life: o.Lifetime, codecs: codecs, open: o.Open,
		origins: http.NewCrossOriginProtection(), pages: o.Pages, log: o.Logger, now: o.Now,
	}
	// A web server in front may have put another name into Host.
	if err := s.origins.AddTrustedOrigin(o.URL); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	switch {
	case o.SignIn.OIDC != nil:
		s.way = newProvider(s, *o.SignIn.OIDC, o.Client)
	case o.SignIn.Proxy != nil:
		s.way = &header{s, *o.SignIn.Proxy}
	case o.SignIn.Development != nil:
		s.way = &trial{s, o.SignIn.Development.People}
	default:
		return nil, errors.New("session: there is no way to sign in")
	}
	return s, nil
}

// Who is the person who made the request, if somebody is signed in.
func (s *Sessions) Who(r *http.Request) (Person, bool) {
	return s.way.who(r, s.ticketOf(r))
}

// Origins are the other sites that a form of this portal may lead to, as a
// content security policy names them (form-action): the identity provider's,
// where a form is sent after a sign-in has ended, and where one signs out.
func (s *Sessions) Origins() []string { return s.way.origins() }

// origin is the scheme and host of a URL; nothing if it is none.
func origin(list []string, s string) []string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.ContainsAny(u.Host, "; ,'\"") {
		return list
	}
	if o := u.Scheme + "://" + u.Host; !slices.Contains(list, o) {
		list = append(list, o)
	}
	return list
}

// Routes adds /sign-in, /sign-in/callback and POST /sign-out.
func (s *Sessions) Routes(mux *http.ServeMux) {
	s.way.routes(mux)
	mux.HandleFunc("POST /sign-out", s.signOut)
}

// signOut ends the sign-in in this browser.
func (s *Sessions) signOut(w http.ResponseWriter, r *http.Request) {
	if who, ok := s.Who(r); ok {
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "signed out", slog.String("event", "session.signed_out"), slog.String("person", who.ID))
	}
	s.dropCookie(w, ticketCookie)
	s.dropCookie(w, attemptCookie)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.way.out(), http.StatusSeeOther)
}

// signedIn gives the browser a ticket and sends it on.
func (s *Sessions) signedIn(w http.ResponseWriter, r *http.Request, t ticket, next string) {
	t.Until = s.now().Add(s.life).Unix()
	if err := s.setCookie(w, ticketCookie, t, s.life); err != nil {
		s.fail(r.Context(), "a cookie cannot be made", err)
		s.pages.Refuse(w, r, http.StatusInternalServerError, Refusal{Heading: "You could not be signed in", Text: "It is our fault; the log says why.", Link: "/", Label: "To the first page"})
		return
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "signed in", slog.String("event", "session.signed_in"), slog.String("person", t.ID))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// fail writes one line at error: something of our own is not as it should be.
func (s *Sessions) fail(ctx context.Context, what string, err error) {
	s.log.LogAttrs(ctx, slog.LevelError, "nobody can sign in: "+what, slog.String("event", "session.failed"), slog.String("err", clip(err.Error(), maxErr)))
}

// maxErr bounds what of a provider's answer a log line may hold, in octets.
const maxErr = 400

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
