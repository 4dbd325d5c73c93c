package portal

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
)

// A fixed is a sign-in of one person, or of nobody.
type fixed struct{ who *session.Person }

func (f fixed) Who(*http.Request) (session.Person, bool) {
	if f.who == nil {
		return session.Person{}, false
	}
	return *f.who, true
}
func (fixed) Token(http.ResponseWriter, *http.Request) string { return "a token" }
func (fixed) Routes(*http.ServeMux)                           {}
func (fixed) Guard(h http.Handler) http.Handler               { return h }

var (
	dana = &session.Person{ID: "dana", Name: "Dana Ito", Email: "dana@physics.example.edu"}
	pat  = &session.Person{ID: "pat", Name: "Pat Moss", Email: "pat@example.edu", Postmaster: true}
)

// testServer is a portal whose visitor is who.
func testServer(t *testing.T, who *session.Person) *server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	pages, err := page.New(page.Site{University: "Example University", Service: "Mail relay", Hostname: "relay.example.edu", Postmaster: "postmaster@example.edu"}, log)
	if err != nil {
		t.Fatal(err)
	}
	return &server{log: log, now: time.Now, pages: pages, sessions: fixed{who}}
}

// get asks for one page.
func get(t *testing.T, s *server, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestHome(t *testing.T) {
	code, body := get(t, testServer(t, nil), "/")
	if code != http.StatusOK {
		t.Fatalf("%d\n%s", code, body)
	}
	for _, want := range []string{"<h1>Mail for machines", "Sign in</a>", "relay.example.edu", "mailto:postmaster@example.edu", `href="/register"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the first page lacks %q", want)
		}
	}
	if code, body := get(t, testServer(t, nil), "/nowhere"); code != http.StatusNotFound || !strings.Contains(body, "There is no such page") {
		t.Errorf("an unknown page is %d\n%s", code, body)
	}
}
