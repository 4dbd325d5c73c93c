package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/durable"
)

// What is waited for, and what is kept.
const (
	patience      = 10 * time.Second // for one question to the provider
	attemptLife   = 15 * time.Minute // from the portal to the provider and back
	maxAttempts   = 3                // of one browser at one time, in tabs
	rediscover    = 24 * time.Hour
	retryAfter    = 5 * time.Second // a provider that did not answer is left alone so long
	maxAnswer     = 1 << 20         // octets of one answer of the provider
	maxClientFile = 16 << 10
)

// A provider is the way in by OpenID Connect.
type provider struct {
	s      *Sessions
	config config.OIDC
	client *http.Client

	mu      sync.Mutex
	found   atomic.Pointer[oidc.Provider] // the newest; nil: not discovered yet
	knownAt time.Time                     // guarded by mu
	failed  error                         // guarded by mu; the last discovery's
	triedAt time.Time                     // guarded by mu
}

var _ way = (*provider)(nil)

func newProvider(s *Sessions, c config.OIDC, client *http.Client) *provider {
	if client == nil {
		client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	bounded := *client
	if bounded.Transport == nil {
		bounded.Transport = http.DefaultTransport
	}
	bounded.Transport, bounded.Timeout = shortAnswers{bounded.Transport}, patience
	return &provider{s: s, config: c, client: &bounded}
}

// shortAnswers cuts off what is too long; the library reads answers to their end.
type shortAnswers struct{ next http.RoundTripper }

func (t shortAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// An attempt is one way to the provider and back, kept in a cookie.
type attempt struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // PKCE, RFC 7636
	Next     string `json:"x"`
	Until    int64  `json:"u"` // Unix time
}

func (p *provider) who(_ *http.Request, t *ticket) (Person, bool) { return t.person(p.config) }
func (p *provider) strip(*http.Request)                           {}
func (p *provider) out() string                                   { return "/" }

// origins are the issuer's and, once it is known, of where people sign in: that
// may be another host.
func (p *provider) origins() []string {
	list := origin(nil, p.config.Issuer)
	if found := p.found.Load(); found != nil {
		list = origin(list, found.Endpoint().AuthURL)
	}
	return list
}

func (p *provider) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", p.begin)
	mux.HandleFunc("GET /sign-in/callback", p.end)
}

// discover is the provider as it describes itself. What is known is kept for a
// day, and while the provider does not answer.
func (p *provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.s.now()
	known := p.found.Load()
	if known != nil && now.Sub(p.knownAt) < rediscover {
		return known, nil
	}
	if p.failed == nil || now.Sub(p.triedAt) >= retryAfter {
		// A visitor who goes away must not make it fail for the next. The library
		// keeps the client of this context, and nothing else of it.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		found, err := oidc.NewProvider(oidc.ClientContext(asking, p.client), p.config.Issuer)
		cancel()
		p.triedAt, p.failed = now, err
		if err == nil {
			p.found.Store(found)
			known, p.knownAt = found, now
		} else {
			p.s.log.LogAttrs(ctx, slog.LevelError, "the identity provider cannot be used", slog.String("event", "session.provider_failed"), slog.String("err", clip(err.Error(), maxErr)))
		}
	}
	if known != nil {
		return known, nil
	}
	return nil, p.failed
}

// oauth is the client as the provider knows it. The secret is read each time.
func (p *provider) oauth(found *oidc.Provider) (*oauth2.Config, error) {
	secret, err := ReadClientSecret(p.config.ClientSecretFile)
	if err != nil {
		return nil, err
	}
	// Said beforehand: the library would try one way after the other, and a code
	// counts once.
	endpoint := found.Endpoint()
	var document struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	_ = found.Claims(&document) // without it the header is the way, RFC 8414 §2
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if secret == "" || len(document.Methods) > 0 && !slices.Contains(document.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: secret, Endpoint: endpoint,
		RedirectURL: p.s.url + "/sign-in/callback", Scopes: p.config.Scopes,
	}, nil
}

// ReadClientSecret reads the secret that a provider gave to its client; "" has
// none.
func ReadClientSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := durable.ReadFile(path, maxClientFile)
	if err != nil {
		return "", fmt.Errorf("session: reading the client's secret: %w", err)
	}
	secret := trimmed(data)
	if secret == "" {
		return "", fmt.Errorf("session: %s is empty", path)
	}
	return secret, nil
}

// begin sends the visitor to the provider.
func (p *provider) begin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	next := nextOf(r)
	if _, ok := p.s.Who(r); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	found, err := p.discover(ctx)
	if err != nil {
		p.unavailable(w, r)
		return
	}
	client, err := p.oauth(found)
	if err != nil {
		p.s.fail(ctx, "the client's secret", err)
		p.unavailable(w, r)
		return
	}
	a := attempt{State: random(16), Nonce: random(16), Verifier: oauth2.GenerateVerifier(), Next: next, Until: p.s.now().Add(attemptLife).Unix()}
	if err := p.s.setCookie(w, attemptCookie, append(p.attempts(r, maxAttempts-1), a), attemptLife); err != nil {
		p.s.fail(ctx, "a cookie cannot be made", err)
		p.unavailable(w, r)
		return
	}
	http.Redirect(w, r, client.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), http.StatusSeeOther)
}

// attempts are those of the browser that have not ended, the last few of them.
func (p *provider) attempts(r *http.Request, most int) []attempt {
	var list []attempt
	if !p.s.readCookie(r, attemptCookie, &list) {
		return nil
	}
	now := p.s.now().Unix()
	list = slices.DeleteFunc(list, func(a attempt) bool { return a.Until <= now })
	return list[max(0, len(list)-most):]
}

func (p *provider) unavailable(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "30")
	p.s.pages.Refuse(w, r, http.StatusServiceUnavailable, Refusal{
		Heading: "Nobody can sign in at the moment",
		Text:    "The university’s identity provider does not answer as it should. Registered machines go on sending, and what is approved goes live all the same.",
		Next:    []string{"Try again in a minute."},
		Link:    "/", Label: "To the first page",
	})
}

// end takes the visitor back from the provider.
func (p *provider) end(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	a, ok := p.take(w, r)
	if !ok {
		p.refuse(w, r, "no attempt of this browser has this state", &Refusal{
			Heading: "You could not be signed in",
			Text:    "This browser has not begun to sign in here, or more than a quarter of an hour ago, or this page was opened twice.",
			Next:    []string{"Sign in again.", "If it happens again: does your browser take cookies from this site?"},
			Link:    "/sign-in", Label: "Sign in",
		})
		return
	}
	t, why, refusal := p.redeem(ctx, r, a)
	if refusal != nil {
		p.refuse(w, r, why, refusal)
		return
	}
	p.s.signedIn(w, r, t, ownPath(a.Next))
}

// take finds the attempt that an answer belongs to, and ends it: an answer
// counts once.
func (p *provider) take(w http.ResponseWriter, r *http.Request) (attempt, bool) {
	list, state := p.attempts(r, maxAttempts), r.URL.Query().Get("state")
	i := slices.IndexFunc(list, func(a attempt) bool {
		return state != "" && subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) == 1
	})
	if i < 0 {
		return attempt{}, false
	}
	a := list[i]
	if rest := slices.Delete(list, i, i+1); len(rest) == 0 || p.s.setCookie(w, attemptCookie, rest, attemptLife) != nil {
		p.s.dropCookie(w, attemptCookie)
	}
	return a, true
}

func (p *provider) refuse(w http.ResponseWriter, r *http.Request, why string, words *Refusal) {
	p.s.log.LogAttrs(r.Context(), slog.LevelWarn, "somebody is not let in", slog.String("event", "session.refused"), slog.String("reason", clip(why, maxErr)), slog.String("client", peer(r)))
	p.s.pages.Refuse(w, r, http.StatusForbidden, *words)
}

// redeem turns the provider's answer into a ticket: the code into tokens, the
// tokens into claims, the claims into somebody. The words are for the log.
func (p *provider) redeem(ctx context.Context, r *http.Request, a attempt) (ticket, string, *Refusal) {
	failed := &Refusal{
		Heading: "You could not be signed in", Text: "The identity provider’s answer is not as it should be. It is no fault of yours.",
		Next: []string{"Sign in again.", "If it happens again, tell the Postmaster team: the log says what was wrong (session.refused)."},
		Link: "/sign-in", Label: "Sign in",
	}
	q := r.URL.Query()
	if iss := q.Get("iss"); iss != "" && iss != p.config.Issuer { // RFC 9207 §2.4
		return ticket{}, "the answer comes from another issuer: " + said(iss), failed
	}
	if code := q.Get("error"); code != "" {
		words := *failed
		words.Text = "The identity provider says: " + said(code+" "+q.Get("error_description"))
		return ticket{}, "the provider says " + said(code+" "+q.Get("error_description")), &words
	}
	found, err := p.discover(ctx)
	if err != nil {
		return ticket{}, err.Error(), failed
	}
	client, err := p.oauth(found)
	if err != nil {
		return ticket{}, err.Error(), failed
	}
	ctx = oidc.ClientContext(ctx, p.client)
	access, err := client.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return ticket{}, exchangeError(err), failed
	}
	id, c, err := p.verify(ctx, found, access, a.Nonce)
	if err != nil {
		return ticket{}, err.Error(), failed
	}
	if c.lacks(p.config) && found.UserInfoEndpoint() != "" {
		info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(access))
		var more claims
		switch {
		case err != nil:
			return ticket{}, err.Error(), failed
		case info.Subject != id.Subject: // OpenID Connect Core §5.3.2
			return ticket{}, "the userinfo is about somebody else", failed
		case info.Claims(&more) != nil:
			return ticket{}, "the userinfo cannot be read", failed
		}
		c = c.with(more, p.config)
	}
	return admit(p.config, id.Subject, c)
}

// verify judges the ID token. OpenID Connect Core §3.1.3.7.
func (p *provider) verify(ctx context.Context, found *oidc.Provider, access *oauth2.Token, nonce string) (*oidc.IDToken, claims, error) {
	raw, ok := access.Extra("id_token").(string)
	if !ok {
		return nil, nil, errors.New("the answer has no ID token")
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.config.ClientID, Now: p.s.now}).Verify(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	if nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 {
		return nil, nil, errors.New("the ID token has another nonce")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(access.AccessToken); err != nil {
			return nil, nil, fmt.Errorf("the access token: %w", err)
		}
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return nil, nil, err
	}
	if azp := c.text("azp"); azp != "" && azp != p.config.ClientID || azp == "" && len(id.Audience) > 1 {
		return nil, nil, fmt.Errorf("the ID token was made for the client %q", said(azp))
	}
	return id, c, nil
}

// exchangeError is what a provider says of a code that it does not take. The
// library's own text may hold the whole answer.
func exchangeError(err error) string {
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		status := "no status"
		if e.Response != nil {
			status = e.Response.Status
		}
		return fmt.Sprintf("the code: %s %s %s", status, said(e.ErrorCode), said(e.ErrorDescription))
	}
	return "the code: " + err.Error()
}
