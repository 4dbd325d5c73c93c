package session

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/config"
)

var people = []config.Someone{{Name: "Ada", Email: "ada@example.edu"}, {Name: "Pat", Email: "pat@example.edu", Postmaster: true}}

func trialSite(t *testing.T) *site {
	t.Helper()
	return newSite(t, false, func(o *Options) { o.SignIn.Development = &config.Development{People: people} })
}

func TestChoosingWhoToBe(t *testing.T) {
	s := trialSite(t)
	b := s.browser()
	code, body := b.get("/sign-in?next=/x")
	if code != 200 || !strings.HasPrefix(body, "choose ada@example.edu\nchoose pat@example.edu\nnext=/x ") {
		t.Fatal(code, body)
	}
	form := url.Values{"token": {tokenOf(t, body)}, "person": {"pat@example.edu"}, "next": {"/x"}}
	if code, body := b.post("/sign-in", form); code != 200 || !strings.HasPrefix(body, "pat@example.edu Pat <pat@example.edu> postmaster=true at /x") {
		t.Error(code, body)
	}
	_, body = b.get("/sign-in")
	if code, _ := b.post("/sign-in", url.Values{"token": {tokenOf(t, body)}, "person": {"root"}}); code != http.StatusUnprocessableEntity {
		t.Error(code)
	}
	s.sessions.way.(*trial).people = people[:1]
	if _, body := b.get("/"); !strings.HasPrefix(body, "nobody") {
		t.Errorf("who is taken out of the configuration: %s", body)
	}
}

// TestForgedForms: what another site, another browser or another person made.
func TestForgedForms(t *testing.T) {
	s := trialSite(t)
	b := s.browser()
	_, body := b.get("/")
	anonymous := tokenOf(t, body)
	_, after, _ := strings.Cut(body, "second=")
	if second := strings.TrimSpace(after); second == anonymous || second == "" {
		t.Error("tokens are all the same")
	} else if code, _ := b.post("/do", url.Values{"token": {second}}); code != 200 {
		t.Errorf("the second token of a page: %d", code)
	}
	if code, body := b.post("/do", url.Values{"token": {anonymous}}); code != 200 || body != "done\n" {
		t.Fatal(code, body)
	}
	stranger := s.browser()
	_, body = stranger.get("/")
	strangers := tokenOf(t, body)
	for name, tc := range map[string]struct {
		form    url.Values
		headers []string
		reason  string
	}{
		"no token":          {nil, nil, "token"},
		"an empty one":      {url.Values{"token": {""}}, nil, "token"},
		"one made up":       {url.Values{"token": {"MTc2"}}, nil, "token"},
		"a long one":        {url.Values{"token": {strings.Repeat("a", 5000)}}, nil, "token"},
		"a stranger's":      {url.Values{"token": {strangers}}, nil, "browser"},
		"from another site": {url.Values{"token": {anonymous}}, []string{"Sec-Fetch-Site", "cross-site"}, "origin"},
		"from a sister":     {url.Values{"token": {anonymous}}, []string{"Sec-Fetch-Site", "same-site"}, "origin"},
		"another origin":    {url.Values{"token": {anonymous}}, []string{"Origin", "https://evil.example"}, "origin"},
		"no origin":         {url.Values{"token": {anonymous}}, []string{"Origin", "null"}, "origin"},
	} {
		s.log.Reset()
		if code, body := b.post("/do", tc.form, tc.headers...); code != http.StatusForbidden || !strings.Contains(s.log.String(), "reason="+tc.reason+" path=/do") {
			t.Errorf("%s: %d %s\n%s", name, code, body, s.log)
		}
	}
	for name, headers := range map[string][]string{
		"from here": {"Sec-Fetch-Site", "same-origin"}, "by hand": {"Sec-Fetch-Site", "none"}, "our origin": {"Origin", s.URL},
	} {
		if code, _ := b.post("/do", url.Values{"token": {anonymous}}, headers...); code != 200 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code, _ := b.post("/do", nil, TokenHeader, anonymous); code != 200 {
		t.Errorf("by the header: %d", code)
	}
	if code, _ := b.post("/do?token="+url.QueryEscape(anonymous), nil); code != http.StatusForbidden {
		t.Errorf("in the address: %d", code)
	}
	if code, _ := b.post("/webhook", nil); code != 200 {
		t.Errorf("what has a check of its own: %d", code)
	}
	// Signed in, nobody's tokens count no more, and Ada's are not Pat's.
	as := func(who string) string {
		_, body := b.get("/sign-in")
		_, body = b.post("/sign-in", url.Values{"token": {tokenOf(t, body)}, "person": {who}})
		return tokenOf(t, body)
	}
	ada := as("ada@example.edu")
	if code, _ := b.post("/do", url.Values{"token": {anonymous}}); code != http.StatusForbidden {
		t.Errorf("a token of before the sign-in: %d", code)
	}
	pat := as("pat@example.edu")
	if code, _ := b.post("/do", url.Values{"token": {ada}}); code != http.StatusForbidden {
		t.Errorf("another person's token: %d", code)
	}
	if code, _ := b.post("/do", url.Values{"token": {pat}}); code != 200 {
		t.Errorf("one's own: %d", code)
	}
	// The sign-in ends while the form lies open; after another one it can be sent.
	s.ahead.Store(int64(13 * time.Hour))
	if code, _ := b.post("/do", url.Values{"token": {pat}}); code != http.StatusForbidden {
		t.Errorf("after the sign-in ended: %d", code)
	}
	as("pat@example.edu")
	if code, _ := b.post("/do", url.Values{"token": {pat}}); code != 200 {
		t.Errorf("after signing in again: %d", code)
	}
	s.ahead.Store(int64(tokenLife + time.Minute))
	as("pat@example.edu")
	if code, _ := b.post("/do", url.Values{"token": {pat}}); code != http.StatusForbidden {
		t.Errorf("after %v: %d", tokenLife, code)
	}
}

func TestFormsWithFiles(t *testing.T) {
	s := trialSite(t)
	b := s.browser()
	_, body := b.get("/")
	text := "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + tokenOf(t, body) + "\r\n--b--\r\n"
	r := must(http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/do", strings.NewReader(text)))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	if code, body, _ := b.do(r); code != 200 {
		t.Error(code, body)
	}
}
