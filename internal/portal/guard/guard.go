// Package guard is what every request to the portal passes first: bounds on
// connections, sizes, rates and times, the headers that tell a browser what a
// page may do, the log of requests, and what a visitor sees when something
// breaks.
//
// Invariants:
//   - Whose address a request has is what the connection says, or the web servers
//     of the configuration; a header of anybody else says nothing.
//   - A request for another host name never reaches a page, so that no site can
//     have a browser take the portal for a part of it (DNS rebinding).
//   - All that is kept of visitors is bounded, however many come.
//   - A request is one line in the log, without its query, its cookies or what was
//     typed.
//   - A fault of a handler is a page in words, and one line.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"example.edu/gatepost/internal/config"
)

// Words are what a visitor is told, as a page.
type Words struct {
	Heading string
	Text    string
	Next    []string // what to do
}

// Options are what New needs.
type Options struct {
	URL     string         // of the portal, as config.Portal has it
	Proxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto are believed
	Limits  config.PortalLimits

	// Person is the ID of who is signed in; "" is nobody.
	Person func(*http.Request) string
	// Origins are where else a form may lead, such as to the identity provider; asked at each request.
	Origins func() []string
	// Light reports whether a form is one that is judged while it is typed.
	Light func(*http.Request) bool
	// Bodies are paths whose bodies have a bound of their own, in octets, and
	// which are sent by programs: they count as no form.
	Bodies map[string]int64
	// Tell shows words. It must not fail, whatever state the portal is in.
	Tell func(http.ResponseWriter, *http.Request, int, Words)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
}

// A Guard stands in front of the portal's pages. It is safe for concurrent use.
type Guard struct {
	o       Options
	host    string // of the URL, with its port
	https   bool
	metrics *metrics
	rates   rates
	streams *streams
	strays  rate.Sometimes // that came by another name are logged
}

// New makes a guard.
func New(o Options) (*Guard, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("guard: %q is no web address", o.URL)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &Guard{o: o, host: u.Host, https: u.Scheme == "https", metrics: newMetrics(o.Registerer)}
	g.rates = newRates(o.Limits, o.Now)
	g.streams = newStreams(o.Limits)
	g.strays.Interval = time.Minute
	return g, nil
}

// probes are the paths that a monitoring asks, by whatever name; they are
// neither counted nor logged but at debug.
var probes = []string{"/healthz", "/readyz"}

// Handler lets through to next what may pass.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		began := g.o.Now()
		w := &answer{ResponseWriter: rw}
		from, https := g.client(r)
		whole := context.WithValue(r.Context(), visitorKey{}, from)
		ctx, cancel := context.WithTimeout(context.WithValue(whole, passKey{}, &pass{whole, w}), g.o.Limits.Answer)
		defer cancel()
		r = r.WithContext(ctx)
		defer func() { g.log(w, r, from, g.o.Now().Sub(began)) }() // last, after a panic became an answer
		defer func() {
			if fault := recover(); fault != nil {
				g.broken(w, r, fault)
			}
		}()
		g.headers(w.Header())
		if slices.Contains(probes, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if !g.ours(w, r, https) || !g.bounded(w, r) || !g.allowed(w, r, from) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headers are those of every answer. A page that is nobody's may say otherwise
// of how long it is kept.
func (g *Guard) headers(h http.Header) {
	action := "'self'"
	if g.o.Origins != nil {
		action = strings.Join(append([]string{action}, g.o.Origins()...), " ")
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action "+action+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-cache, private")
	if g.https {
		h.Set("Strict-Transport-Security", "max-age=31536000") // RFC 6797
	}
}

// ours sends those who came by another name, or unencrypted, to the right
// address.
func (g *Guard) ours(w http.ResponseWriter, r *http.Request, https bool) bool {
	host := strings.TrimSuffix(r.Host, map[bool]string{true: ":443", false: ":80"}[g.https])
	believed := g.isProxy(peer(r)) // a web server in front may have put its own name for us into Host
	if (strings.EqualFold(host, g.host) || believed) && (https || !g.https || !believed) {
		return true
	}
	g.strays.Do(func() {
		g.o.Logger.Warn("a request came by another name or unencrypted, and was sent to the right address", "event", "guard.other_name", "host", clip(r.Host), "client", peer(r).String(),
			"hint", "if this is the web server in front, name its address in proxies; else visitors are sent round in a circle")
	})
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.HasPrefix(r.URL.RequestURI(), "/") {
		http.Redirect(w, r, g.o.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		return false
	}
	g.metrics.refused.WithLabelValues("host").Inc()
	g.o.Tell(w, r, http.StatusMisdirectedRequest, Words{ // RFC 9110 §15.5.20
		Heading: "This form came by another address",
		Text:    "Nothing was done. The address of this site is " + g.o.URL + ".",
		Next:    []string{"Open the page there and fill it in there."},
	})
	return false
}

// bounded bounds the body, and says so at once where its length is known.
func (g *Guard) bounded(w http.ResponseWriter, r *http.Request) bool {
	most, program := g.o.Bodies[r.URL.Path]
	if !program {
		most = g.o.Limits.FormBytes
	}
	if r.ContentLength > most {
		g.metrics.refused.WithLabelValues("size").Inc()
		w.Header().Set("Connection", "close")
		g.o.Tell(w, r, http.StatusRequestEntityTooLarge, Words{
			Heading: "This form is too large",
			Text:    fmt.Sprintf("It has %d KiB, and %d KiB are the most. Nothing was done.", r.ContentLength>>10, most>>10),
			Next:    []string{"Go back, and send fewer machines at a time: 64 are the most of one request."},
		})
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	return true
}

// allowed counts the request, and says when there is room again if there is not.
func (g *Guard) allowed(w http.ResponseWriter, r *http.Request, from netip.Addr) bool {
	wait, whose := g.rates.request(block(from)), "address"
	if n := g.form(r); wait == 0 && n > 0 {
		wait, whose = g.rates.form(block(from), g.o.Person(r), n)
	}
	if wait == 0 {
		return true
	}
	g.metrics.refused.WithLabelValues(whose).Inc()
	words := Words{
		Heading: "That was a lot at once",
		Text:    "So many requests came from your address, " + from.String() + ", that this one was not looked at.",
		Next:    []string{"Wait " + seconds(wait) + ", then reload this page; if you sent a form, let your browser send it once more: it still has what you typed."},
	}
	if whose == "person" {
		words.Text = "You have sent so many forms in the last minute that this one was not looked at."
	}
	w.Header().Set("Retry-After", fmt.Sprint(max(1, int((wait+time.Second-1)/time.Second)))) // RFC 6585 §4
	g.o.Tell(w, r, http.StatusTooManyRequests, words)
	return false
}

// The parts of a form's place in a budget.
const (
	heavyForm = 10
	lightForm = 1
)

// form is how much a request counts as a form, 0 if it is none.
func (g *Guard) form(r *http.Request) int {
	_, program := g.o.Bodies[r.URL.Path]
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Method == http.MethodOptions, program:
		return 0
	case g.o.Light != nil && g.o.Light(r):
		return lightForm
	}
	return heavyForm
}

func seconds(d time.Duration) string {
	if n := int((d + time.Second - 1) / time.Second); n > 1 {
		return fmt.Sprintf("%d seconds", n)
	}
	return "a second"
}

// maxStack bounds what of a stack is logged, in octets.
const maxStack = 4 << 10

// broken makes a page of a handler's fault.
func (g *Guard) broken(w *answer, r *http.Request, fault any) {
	if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(fault) // the library's way to cut a connection
	}
	g.metrics.panics.Inc()
	stack := debug.Stack()
	g.o.Logger.Error("a page has a fault; please report it", "event", "guard.fault", "path", clip(r.URL.Path), "err", fmt.Sprint(fault), "stack", string(stack[:min(len(stack), maxStack)]))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	g.o.Tell(w, r, http.StatusInternalServerError, Words{
		Heading: "This page has a fault",
		Text:    "It is ours and not yours. The log says more, and the Postmaster team can see it.",
		Next:    []string{"Registered machines go on sending.", "Go back and try again; if it happens again, write to the Postmaster team."},
	})
}

// log writes the request's line and counts it.
func (g *Guard) log(w *answer, r *http.Request, from netip.Addr, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	page := "none"
	if _, pattern, ok := strings.Cut(r.Pattern, " "); ok {
		page = pattern
	} else if r.Pattern != "" {
		page = r.Pattern
	}
	level := slog.LevelInfo
	if slices.Contains(probes, r.URL.Path) || strings.HasPrefix(r.URL.Path, "/static/") {
		level = slog.LevelDebug
	}
	g.metrics.requests.WithLabelValues(page, fmt.Sprintf("%dxx", status/100)).Inc()
	if !w.stream {
		g.metrics.duration.Observe(took.Seconds())
	}
	g.o.Logger.LogAttrs(context.WithoutCancel(r.Context()), level, "request", slog.String("event", "guard.request"),
		slog.String("method", clip(r.Method)), slog.String("path", clip(r.URL.Path)), slog.Int("code", status), slog.Int64("octets", w.octets),
		slog.Duration("duration", took), slog.String("client", from.String()), slog.String("person", g.person(r)))
}

// person is who is signed in, also where asking has a fault.
func (g *Guard) person(r *http.Request) (id string) {
	defer func() { _ = recover() }()
	return g.o.Person(r)
}

// clip bounds what of a request a line may hold.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
