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
	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/session"
)

// Somebody fills in the form, their sign-in ends meanwhile, and they send it: it
// comes back as it was typed, and after signing in again it can be sent, without
// anything being typed twice.
func TestASignInEndsWhileSomebodyTypes(t *testing.T) {
	w := newWorld(t, nil)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler().ServeHTTP(rw, r) }))
	var err error
	w.sessions, err = session.New(session.Options{
		SignIn: config.SignIn{Development: &config.Development{People: []config.Someone{{Name: dana.Name, Email: dana.Email}}}},
		URL:    "http://" + web.Listener.Addr().String(), Lifetime: time.Hour, Secrets: [][]byte{bytes.Repeat([]byte("x"), session.MinSecret)},
		Pages: signInPages{w.pages, w.formAgain}, Logger: w.log,
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
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(method, path string, sent url.Values) (int, string, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(sent.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header.Get("Location")
	}
	hidden := func(page, name string) string {
		m := regexp.MustCompile(`name="`+name+`" value="([^"]*)"`).FindAllStringSubmatch(page, -1)
		if m == nil {
			t.Fatalf("no %s on\n%s", name, page)
		}
		return m[len(m)-1][1]
	}
	signIn := func() {
		t.Helper()
		_, body, _ := send(http.MethodGet, "/sign-in?next=/register", nil)
		if code, body, _ := send(http.MethodPost, "/sign-in", url.Values{"token": {hidden(body, "token")}, "next": {"/register"}, "person": {dana.Email}}); code != http.StatusSeeOther {
			t.Fatal(code, body)
		}
	}
	signIn()
	code, page, _ := send(http.MethodGet, "/register?ip=192.0.2.7", nil)
	if code != http.StatusOK {
		t.Fatal(code, page)
	}
	v := typed()
	v.Key = hidden(page, "key")
	filled := func(page string) url.Values {
		sent := press(v, "send")
		sent.Set(form.FieldKey, hidden(page, "key"))
		sent.Set("token", hidden(page, "token"))
		return sent
	}
	// In another tab they sign out.
	if code, body, _ := send(http.MethodPost, "/sign-out", url.Values{"token": {hidden(page, "token")}}); code != http.StatusSeeOther {
		t.Fatal(code, body)
	}
	code, page, _ = send(http.MethodPost, "/register", filled(page))
	if code != http.StatusForbidden || !strings.Contains(page, "You are not signed in any more") || !strings.Contains(page, "Please hurry") || hidden(page, "key") != v.Key {
		t.Fatal(code, page)
	}
	signIn()
	code, page, _ = send(http.MethodPost, "/register", filled(page))
	if code != http.StatusForbidden || !strings.Contains(page, "press the button once more") || !strings.Contains(page, "Please hurry") {
		t.Fatal(code, page)
	}
	code, page, to := send(http.MethodPost, "/register", filled(page))
	if code != http.StatusSeeOther || !strings.HasPrefix(to, "/requests/") {
		t.Fatal(code, page)
	}
	if list, err := w.git.List(t.Context(), ""); err != nil || len(list) != 1 {
		t.Errorf("%d requests: %v", len(list), err)
	}
}
