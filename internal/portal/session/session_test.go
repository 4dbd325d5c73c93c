package session

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/config"
)

// plain shows what there is to say as text.
type plain struct{}

func (plain) Choose(w http.ResponseWriter, _ *http.Request, c Choice) {
	for _, p := range c.People {
		fmt.Fprint(w, lines("choose %s", p.Email))
	}
	fmt.Fprint(w, lines("next=%s token=%s", c.Next, c.Token))
}

func (plain) Refuse(w http.ResponseWriter, _ *http.Request, status int, why Refusal) {
	w.WriteHeader(status)
	fmt.Fprint(w, lines("%s | %s | %s", why.Heading, why.Text, strings.Join(why.Next, " | ")))
}

// A site is a portal of two pages: "/…" says who one is and gives a token, and
// POST /do does something.
type site struct {
	*httptest.Server
	t        *testing.T
	sessions *Sessions
	log      *bytes.Buffer
	ahead    atomic.Int64 // of the clock, in nanoseconds
	done     atomic.Int64
}

func newSite(t *testing.T, https bool, change func(*Options)) *site {
	t.Helper()
	s := &site{t: t, log: &bytes.Buffer{}}
	var handler http.Handler
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	scheme := "http://"
	if https {
		scheme = "https://"
	}
	o := Options{
		URL: scheme + s.Listener.Addr().String(), Lifetime: 12 * time.Hour, Secrets: [][]byte{bytes.Repeat([]byte("a"), MinSecret)}, Open: []string{"/webhook"},
		Pages: plain{}, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
		Now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	}
	change(&o)
	var err error
	if s.sessions, err = New(o); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.sessions.Routes(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		token := s.sessions.Token(w, r)
		if who, ok := s.sessions.Who(r); ok {
			fmt.Fprint(w, lines("%s %s <%s> postmaster=%v at %s", who.ID, who.Name, who.Email, who.Postmaster, r.URL.RequestURI()))
		} else {
			fmt.Fprint(w, lines("nobody at %s", r.URL.RequestURI()))
		}
		fmt.Fprint(w, lines("token=%s second=%s", token, s.sessions.Token(w, r)))
	})
	do := func(w http.ResponseWriter, _ *http.Request) {
		s.done.Add(1)
		fmt.Fprint(w, lines("done"))
	}
	mux.HandleFunc("POST /do", do)
	mux.HandleFunc("POST /webhook", do)
	handler = s.sessions.Guard(mux)
	if https {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// A browser keeps cookies and follows redirects.
type browser struct {
	*http.Client
	t    *testing.T
	base string
}

func (s *site) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := *s.Client()
	c.Jar = jar
	return &browser{&c, s.t, s.URL}
}

func (b *browser) do(r *http.Request) (int, string, *http.Response) {
	b.t.Helper()
	resp, err := b.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp
}

func (b *browser) get(path string) (int, string) {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.base + path
	}
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	code, body, _ := b.do(r)
	return code, body
}

func (b *browser) post(path string, form url.Values, headers ...string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	code, body, _ := b.do(r)
	return code, body
}

// tokenOf is that of a page.
func tokenOf(t *testing.T, body string) string {
	t.Helper()
	_, text, ok := strings.Cut(body, "token=")
	if !ok {
		t.Fatalf("there is no token in %q", body)
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), " ")
	return text
}

// oidcSite is a site with a provider.
func oidcSite(t *testing.T, change func(*config.OIDC)) (*site, *idp) {
	t.Helper()
	provider := newIDP(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.OIDC{Issuer: provider.URL, ClientID: "portal", ClientSecretFile: secret, Scopes: []string{"openid", "email"}, NameClaim: "name", EmailClaim: "email"}
	if change != nil {
		change(&c)
	}
	return newSite(t, true, func(o *Options) { o.SignIn.OIDC = &c }), provider
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
