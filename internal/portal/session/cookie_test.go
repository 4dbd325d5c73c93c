package session

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/config"
)

func TestCookiesAreSetAsTheyShould(t *testing.T) {
	s, _ := oidcSite(t, nil)
	c := s.browser()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{"/", "/sign-in"} {
		r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil))
		_, _, resp := c.do(r)
		if len(resp.Header["Set-Cookie"]) != 1 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		for _, line := range resp.Header["Set-Cookie"] {
			for _, want := range []string{"__Host-", "; Path=/;", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Max-Age="} {
				if !strings.Contains(line, want) {
					t.Errorf("%s: %s lacks %s", path, line, want)
				}
			}
			if strings.Contains(line, "Domain") {
				t.Error(line)
			}
		}
	}
}

// TestWhoIsNotLetIn: each attack, and each answer of a provider that is not as
// it should be.
func TestWhoIsNotLetIn(t *testing.T) {
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, tc := range map[string]struct {
		set  func(*idp)
		conf func(*config.OIDC)
		log  string // of session.refused
		page string
	}{
		"another nonce":              {set: func(p *idp) { p.claims = map[string]any{"nonce": "stolen"} }, log: "another nonce"},
		"no nonce":                   {set: func(p *idp) { p.claims = map[string]any{"nonce": nil} }, log: "another nonce"},
		"another issuer":             {set: func(p *idp) { p.claims = map[string]any{"iss": "https://evil.example"} }, log: "issued by a different provider"},
		"another issuer answers":     {set: func(p *idp) { p.extra = url.Values{"iss": {"https://evil.example"}} }, log: "another issuer"},
		"another audience":           {set: func(p *idp) { p.claims = map[string]any{"aud": "another"} }, log: "expected audience"},
		"for another among us":       {set: func(p *idp) { p.claims = map[string]any{"aud": []string{"portal", "x"}, "azp": "x"} }, log: "made for the client"},
		"for many, and nobody":       {set: func(p *idp) { p.claims = map[string]any{"aud": []string{"portal", "x"}} }, log: "made for the client"},
		"expired":                    {set: func(p *idp) { p.claims = map[string]any{"exp": time.Now().Add(-time.Second).Unix()} }, log: "expired"},
		"another's signature":        {set: func(p *idp) { p.signer = other }, log: "failed to verify"},
		"no ID token":                {set: func(p *idp) { p.noToken = true }, log: "no ID token"},
		"another access token":       {set: func(p *idp) { p.claims = map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"} }, log: "access token"},
		"unverified":                 {set: func(p *idp) { p.claims = map[string]any{"email_verified": false} }, log: "not verified", page: "Verify it in your account"},
		"unverified, in words":       {set: func(p *idp) { p.claims = map[string]any{"email_verified": "false"} }, log: "not verified"},
		"unverified, though assumed": {set: func(p *idp) { p.claims = map[string]any{"email_verified": false} }, conf: func(c *config.OIDC) { c.EmailsVerified = true }, log: "not verified"},
		"it does not say":            {set: func(p *idp) { p.claims = map[string]any{"email_verified": nil} }, log: "signIn.oidc.emailsVerified"},
		"null is not verified":       {set: func(p *idp) { p.claims = map[string]any{"email_verified": jsonNull{}} }, log: "signIn.oidc.emailsVerified"},
		"no address":                 {set: func(p *idp) { p.claims = map[string]any{"email": nil} }, log: "no mail address"},
		"no mail address":            {set: func(p *idp) { p.claims = map[string]any{"email": "dana"} }, log: "no mail address"},
		"an address with a line end": {set: func(p *idp) { p.claims = map[string]any{"email": "a@b.example\r\nX: y"} }, log: "no mail address"},
		"another university":         {conf: func(c *config.OIDC) { c.Domains = []string{"example.edu", ".chem.example.edu"} }, log: "none of signIn.oidc.domains", page: "no address of its"},
		"no subject":                 {set: func(p *idp) { p.claims = map[string]any{"sub": nil} }, log: "no usable subject"},
		"a long subject":             {set: func(p *idp) { p.claims = map[string]any{"sub": strings.Repeat("x", 256)} }, log: "no usable subject"},
		"somebody else's userinfo": {set: func(p *idp) {
			p.claims, p.userinfo = map[string]any{"email": nil}, map[string]any{"sub": "u2", "email": "root@example.edu", "email_verified": true}
		}, log: "somebody else"},
		"userinfo of another address": {set: func(p *idp) {
			p.claims, p.userinfo = map[string]any{"email_verified": nil}, map[string]any{"sub": "u1", "email": "mallory@example.edu", "email_verified": true}
		}, log: "signIn.oidc.emailsVerified"},
		"the provider says no": {set: func(p *idp) {
			p.refusal = url.Values{"error": {"access_denied"}, "error_description": {"not\r\nfor <you>"}}
		}, log: "access_denied not  for <you>", page: "The identity provider says: access_denied not  for <you>"},
		"another secret": {conf: func(c *config.OIDC) { c.ClientSecretFile = "" }, log: "the code: 401"},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := oidcSite(t, tc.conf)
			if tc.set != nil {
				p.set(func() { tc.set(p) })
			}
			b := s.browser()
			code, body := b.get("/sign-in?next=/x")
			if code != http.StatusForbidden || !strings.HasPrefix(body, "You could not be signed in") || !strings.Contains(body, tc.page) {
				t.Errorf("%d %s", code, body)
			}
			if !strings.Contains(s.log.String(), "event=session.refused") || !strings.Contains(s.log.String(), tc.log) {
				t.Errorf("the log lacks %q:\n%s", tc.log, s.log)
			}
			if _, body := b.get("/"); !strings.HasPrefix(body, "nobody") {
				t.Error(body)
			}
		})
	}
}

func TestCookiesEnd(t *testing.T) {
	s, _ := oidcSite(t, nil)
	b := s.browser()
	b.get("/sign-in")
	s.ahead.Store(int64(12*time.Hour - time.Minute))
	if _, body := b.get("/"); !strings.HasPrefix(body, "u1 ") {
		t.Error(body)
	}
	s.ahead.Store(int64(12*time.Hour + time.Second)) // whatever the browser kept
	if _, body := b.get("/"); !strings.HasPrefix(body, "nobody") {
		t.Error(body)
	}
}

// TestKeysOfCookies: another key's cookies are worth nothing, those of a key
// that is being replaced hold, and nothing can be changed in one.
func TestKeysOfCookies(t *testing.T) {
	s, p := oidcSite(t, nil)
	b := s.browser()
	b.get("/sign-in")
	u := must(url.Parse(s.URL))
	with := func(secrets ...string) *Sessions {
		var list [][]byte
		for _, x := range secrets {
			list = append(list, bytes.Repeat([]byte(x), MinSecret))
		}
		return must(New(Options{SignIn: config.SignIn{OIDC: &config.OIDC{Issuer: p.URL}}, URL: s.URL, Lifetime: 12 * time.Hour, Secrets: list, Pages: plain{}, Logger: slog.New(slog.DiscardHandler)}))
	}
	ask := func(x *Sessions, change func(*http.Cookie)) bool {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for _, c := range b.Jar.Cookies(u) {
			change(c)
			r.AddCookie(c)
		}
		_, ok := x.Who(r)
		return ok
	}
	same := func(*http.Cookie) {}
	if !ask(with("a"), same) || !ask(with("b", "a"), same) || ask(with("b"), same) {
		t.Error("secrets are not taken as they should be")
	}
	length := 0
	ask(with("a"), func(c *http.Cookie) {
		if c.Name == prefix+ticketCookie {
			length = len(c.Value)
		}
	})
	for i := 0; i < length-4; i += 5 { // the last character may stand for fewer than six bits
		if ask(with("a"), func(c *http.Cookie) {
			if c.Name != prefix+ticketCookie {
				return
			}
			with := byte('A')
			if c.Value[i] == with {
				with = 'B'
			}
			c.Value = c.Value[:i] + string(with) + c.Value[i+1:]
		}) {
			t.Errorf("changed at %d of %d, and taken", i, length)
		}
	}
	if length == 0 {
		t.Error("there is no ticket")
	}
	if ask(with("a"), func(c *http.Cookie) { // one kind in place of another
		if c.Name == prefix+visitorCookie {
			c.Name = prefix + ticketCookie
		} else {
			c.Name = "x"
		}
	}) {
		t.Error("a visitor's cookie is taken for a ticket")
	}
	other := must(New(Options{SignIn: config.SignIn{OIDC: &config.OIDC{Issuer: "https://other.example"}}, URL: s.URL, Lifetime: 12 * time.Hour, Secrets: [][]byte{bytes.Repeat([]byte("a"), MinSecret)}, Pages: plain{}, Logger: slog.New(slog.DiscardHandler)}))
	if ask(other, same) {
		t.Error("a ticket of another provider")
	}
	if _, err := New(Options{SignIn: config.SignIn{OIDC: &config.OIDC{}}, URL: s.URL, Secrets: [][]byte{[]byte("short")}}); err == nil {
		t.Error("a short secret is taken")
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "cookies")
	first, err := OwnSecrets(own)
	if err != nil || len(first) != 1 || len(first[0]) < MinSecret {
		t.Fatal(first, err)
	}
	again, err := OwnSecrets(own)
	if err != nil || !bytes.Equal(first[0], again[0]) {
		t.Error("another secret after a restart", err)
	}
	if info := must(os.Stat(own)); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	long := strings.Repeat("x", MinSecret)
	for text, want := range map[string]int{
		long + "\n" + strings.Repeat("y", 40) + "\n": 2, "\r\n  " + long + "\r\n\n": 1,
		"": 0, "\n\n": 0, "short\n": 0, long + "\nshort": 0, strings.Repeat(long+"\n", 17): 0, strings.Repeat("x", 20<<10): 0,
	} {
		path := filepath.Join(dir, "given")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecrets(path)
		if len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%.20q: %d, %v", text, len(got), err)
		}
		if _, err := OwnSecrets(path); (err == nil) != (want > 0) {
			t.Errorf("%.20q as our own: %v", text, err)
		}
	}
}
