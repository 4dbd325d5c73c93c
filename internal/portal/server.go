package portal

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/webhook"
)

// signIn knows who the visitor is. It is a session.Sessions.
type signIn interface {
	Who(*http.Request) (session.Person, bool)
	Token(http.ResponseWriter, *http.Request) string
	Routes(*http.ServeMux)
	Guard(http.Handler) http.Handler
}

// relays are what the portal asks about addresses.
type relays interface {
	// Address is what each relay says of an address, by name.
	Address(context.Context, netip.Addr) []sighting
	// LastMail is when each address sent last; known is false as long as no
	// relay has said so.
	LastMail(context.Context) (last map[netip.Addr]time.Time, known bool)
	// Seen is when control of each address was proved, and when its confirmation
	// was sent.
	Seen(context.Context, []netip.Addr) (proved, told map[netip.Addr]time.Time)
	// Live is which relays have a commit in force, with the files that it changed.
	Live(ctx context.Context, commit string, files []string) []liveness
}

// A server answers the portal's visitors. Its fields are set before the first
// request and stay.
type server struct {
	log      *slog.Logger
	now      func() time.Time
	pages    *page.Pages
	sessions signIn
	opening  opening                         // of requests that are asked for once
	register func() *view.Register           // nil: none yet
	fleet    *fleet.Fleet                    // nil: no relays
	parts    liveParts                       // of the page /status
	orders   orderBook                       // of postmasters, to relays
	end      <-chan struct{}                 // closed when the portal ends
	stream   func(http.Handler) http.Handler // lets a handler go on and on; nil: as it is
	relays   relays                          // nil: none

	// mayOpen takes one of the requests that a person may open in a day, or says
	// when there is one again; nil: as many as they like.
	mayOpen func(person string) (wait time.Duration, ok bool)

	forge    desk
	base     string // the branch that requests are merged into
	dossiers *dossiers
	book     *book.Book
	answers  answerer
	prover   *prover      // nil: no proofs are asked for
	wake     func()       // has the register and the requests looked at now
	hook     http.Handler // takes the forge's deliveries; nil: none
	extra    http.Handler // below /demo; nil: none
}

// handler is all that the portal serves. Each page's own file adds its routes.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", s.pages.Static())
	s.probeRoutes(mux)
	s.sessions.Routes(mux)
	s.homeRoutes(mux)
	s.registerRoutes(mux)
	s.statusRoutes(mux)
	s.addressRoutes(mux)
	s.departmentRoutes(mux)
	s.requestRoutes(mux)
	if s.hook != nil {
		mux.Handle("POST "+webhook.Path, s.hook)
	}
	if s.extra != nil {
		mux.Handle("/demo", s.extra)
		mux.Handle("/demo/", s.extra)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.notFound(w, r, "There is no such page") })
	return s.sessions.Guard(mux)
}

// lasting is a handler that goes on and on.
func (s *server) lasting(h http.HandlerFunc) http.Handler {
	if s.stream == nil {
		return h
	}
	return s.stream(h)
}

// frame is what every page needs.
func (s *server) frame(w http.ResponseWriter, r *http.Request, body any) page.Frame {
	f := page.Frame{Token: s.sessions.Token(w, r), Path: r.URL.Path, Body: body}
	if who, ok := s.sessions.Who(r); ok {
		f.Visitor = &page.Visitor{Name: who.Name, Postmaster: who.Postmaster}
	}
	return f
}

// A visit is a handler for somebody who is signed in.
type visit func(http.ResponseWriter, *http.Request, session.Person)

// signedIn sends whoever is not signed in to do so and back.
func (s *server) signedIn(then visit) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.sessions.Who(r)
		if !ok {
			http.Redirect(w, r, "/sign-in?"+url.Values{"next": {back(r)}}.Encode(), http.StatusSeeOther)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		then(w, r, who)
	}
}

// back is where to go after signing in: the page itself, or the one that has
// the form which was sent.
func back(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return r.URL.RequestURI()
	}
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host && strings.HasPrefix(from.Path, "/") {
		return from.RequestURI()
	}
	return "/"
}

// postmaster is signedIn for postmasters alone.
func (s *server) postmaster(then visit) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, who session.Person) {
		if !who.Postmaster {
			s.pages.Fail(w, r, http.StatusForbidden, s.frame(w, r, nil), page.Failure{
				Heading: "This is for postmasters", Text: "You are signed in as " + who.Name + ", who is none here.",
				Next: []string{"If you should be one: the portal's configuration names them (signIn)."},
			})
			return
		}
		then(w, r, who)
	})
}

func (s *server) notFound(w http.ResponseWriter, r *http.Request, what string) {
	s.pages.Fail(w, r, http.StatusNotFound, s.frame(w, r, nil), page.Failure{
		Heading: what, Next: []string{"Is the address of the page complete?"}, Link: page.Link{URL: "/", Text: "To the first page"},
	})
}
