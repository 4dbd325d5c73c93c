package portal

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/portal/session"
)

// TestSigningIn goes through the pages of the sign-in as a browser does.
func TestSigningIn(t *testing.T) {
	s := testServer(t, nil)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler().ServeHTTP(w, r) }))
	var err error
	s.sessions, err = session.New(session.Options{
		SignIn: config.SignIn{Development: &config.Development{People: []config.Someone{{Name: "Pat <Moss>", Email: "pat@example.edu", Postmaster: true}}}},
		URL:    "http://" + web.Listener.Addr().String(), Lifetime: time.Hour, Secrets: [][]byte{bytes.Repeat([]byte("x"), session.MinSecret)},
		Pages: signInPages{pages: s.pages, again: s.formAgain}, Logger: s.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	web.Start()
	defer web.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	read := func(resp *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	hidden := func(page string) string {
		m := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no token on\n%s", page)
		}
		return m[1]
	}
	code, body := read(browser.Get(web.URL + "/sign-in?next=/"))
	if code != 200 || !strings.Contains(body, "Pat &lt;Moss&gt;, postmaster") {
		t.Fatal(code, body)
	}
	code, body = read(browser.PostForm(web.URL+"/sign-in", url.Values{"token": {hidden(body)}, "next": {"/"}, "person": {"pat@example.edu"}}))
	if code != 200 || !strings.Contains(body, "Sign out</button>") || !strings.Contains(body, "Pat &lt;Moss&gt;") {
		t.Fatal(code, body)
	}
	signOut := url.Values{"token": {hidden(body)}}
	if code, body := read(browser.PostForm(web.URL+"/sign-out", nil)); code != http.StatusForbidden || !strings.Contains(body, "This form is too old") {
		t.Error(code, body)
	}
	if code, body = read(browser.PostForm(web.URL+"/sign-out", signOut)); code != 200 || !strings.Contains(body, "Sign in</a>") {
		t.Error(code, body)
	}
}
