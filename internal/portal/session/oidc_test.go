package session

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.edu/gatepost/internal/config"
)

func TestSigningInByOpenIDConnect(t *testing.T) {
	s, p := oidcSite(t, nil)
	b := s.browser()
	if code, body := b.get("/departments/physics?x=1"); code != 200 || !strings.HasPrefix(body, "nobody") {
		t.Fatal(code, body)
	}
	code, body := b.get("/sign-in?next=" + url.QueryEscape("/departments/physics?x=1"))
	if want := "u1 Dana Ito <dana@physics.example.edu> postmaster=false at /departments/physics?x=1\n"; code != 200 || !strings.HasPrefix(body, want) {
		t.Fatalf("%d %s", code, body)
	}
	if got := s.sessions.Origins(); len(got) != 1 || got[0] != p.URL {
		t.Errorf("forms may lead to %v", got)
	}
	// Again: one is signed in, and the provider is not asked.
	asked := len(p.asked)
	if code, body := b.get("/sign-in?next=/a"); code != 200 || !strings.Contains(body, "at /a") || len(p.asked) != asked {
		t.Error(code, body)
	}
	for _, c := range b.Jar.Cookies(must(url.Parse(s.URL))) {
		if !strings.HasPrefix(c.Name, "__Host-gatepost") {
			t.Errorf("a cookie %s", c.Name)
		}
	}
	// Out, by POST with a token only.
	if code, _ := b.post("/sign-out", nil); code != http.StatusForbidden {
		t.Errorf("signed out without a token: %d", code)
	}
	_, body = b.get("/")
	if code, body := b.post("/sign-out", url.Values{"token": {tokenOf(t, body)}}); code != 200 || !strings.HasPrefix(body, "nobody at /\n") {
		t.Error(code, body)
	}
	for _, want := range []string{"event=session.signed_in person=u1", "event=session.signed_out person=u1"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, s.log)
		}
	}
}

type jsonNull struct{}

func (jsonNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// TestAnswersCountOnce: state belongs to a browser, and an answer to one attempt.
func TestAnswersCountOnce(t *testing.T) {
	s, p := oidcSite(t, nil)
	catch := func(b *browser) string { // the way back, before it is taken
		var back string
		b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == "/sign-in/callback" {
				back = r.URL.String()
				return http.ErrUseLastResponse
			}
			return nil
		}
		b.get("/sign-in?next=/x")
		b.CheckRedirect = nil
		return back
	}
	victim, attacker := s.browser(), s.browser()
	back := catch(attacker)
	// Signing a victim in as the attacker: the victim's browser has no such state.
	if code, body := victim.get(back); code != http.StatusForbidden || !strings.Contains(body, "This browser has not begun to sign in here") {
		t.Error(code, body)
	}
	mine := catch(victim)
	if code, body := victim.get(back); code != http.StatusForbidden {
		t.Errorf("with an attempt of its own: %d %s", code, body)
	}
	// A code of the attacker's with the victim's state: PKCE and nonce are others.
	swapped := must(url.Parse(mine))
	q := swapped.Query()
	q.Set("code", must(url.Parse(back)).Query().Get("code"))
	swapped.RawQuery = q.Encode()
	if code, body := victim.get(swapped.String()); code != http.StatusForbidden || !strings.Contains(s.log.String(), "invalid_grant") {
		t.Error(code, body)
	}
	mine = catch(victim)
	if code, body := victim.get(mine); code != 200 || !strings.Contains(body, "at /x") {
		t.Fatal(code, body)
	}
	s.log.Reset()
	if code, _ := victim.get(mine); code != http.StatusForbidden || !strings.Contains(s.log.String(), "no attempt of this browser has this state") {
		t.Errorf("a second time: %d\n%s", code, s.log)
	}
	// A copy of the cookie brings the code no second life.
	late := s.browser()
	back = catch(late)
	u := must(url.Parse(s.URL))
	kept := late.Jar.Cookies(u)
	if code, _ := late.get(back); code != 200 {
		t.Fatal(code)
	}
	thief := s.browser()
	for _, c := range kept {
		c.Path, c.Secure = "/", true
	}
	thief.Jar.SetCookies(u, kept)
	if code, _ := thief.get(back); code != http.StatusForbidden {
		t.Errorf("a code a second time: %d", code)
	}
	// Too late.
	slow := s.browser()
	back = catch(slow)
	s.ahead.Store(int64(attemptLife))
	if code, _ := slow.get(back); code != http.StatusForbidden {
		t.Errorf("after %v: %d", attemptLife, code)
	}
	s.ahead.Store(0)
	for _, path := range []string{"/sign-in/callback", "/sign-in/callback?state=&code=x", "/sign-in/callback?code=x&state=y", "/sign-in/callback?error=x"} {
		if code, body := s.browser().get(path); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	// Three tabs at once, of which each comes to its own page.
	tabs := s.browser()
	first := catch(tabs)
	catch(tabs)
	catch(tabs)
	if code, _ := tabs.get(first); code != 200 {
		t.Errorf("the first of three tabs: %d", code)
	}
	_ = p
}

func TestAProviderThatIsDown(t *testing.T) {
	s, p := oidcSite(t, nil)
	p.set(func() { p.down = true })
	b := s.browser()
	if code, body := b.get("/"); code != 200 || !strings.HasPrefix(body, "nobody") {
		t.Error(code, body)
	}
	for range 3 { // it is asked once in a while
		if code, body := b.get("/sign-in"); code != http.StatusServiceUnavailable || !strings.Contains(body, "Nobody can sign in at the moment") {
			t.Error(code, body)
		}
	}
	if n := strings.Count(s.log.String(), "session.provider_failed"); n != 1 {
		t.Errorf("asked %d times:\n%s", n, s.log)
	}
	p.set(func() { p.down = false })
	s.ahead.Store(int64(retryAfter))
	if code, body := b.get("/sign-in"); code != 200 || !strings.HasPrefix(body, "u1 ") {
		t.Error(code, body)
	}
	// Who is signed in stays so, and so does what is known of the provider.
	p.set(func() { p.down = true })
	if _, body := b.get("/"); !strings.HasPrefix(body, "u1 ") {
		t.Error(body)
	}
	// A document of another issuer is none.
	p.set(func() { p.down, p.issuer = false, "https://evil.example" })
	s2 := newSite(t, true, func(o *Options) {
		o.SignIn.OIDC = &config.OIDC{Issuer: p.URL, ClientID: "portal", Scopes: []string{"openid"}, EmailClaim: "email"}
	})
	if code, _ := s2.browser().get("/sign-in"); code != http.StatusServiceUnavailable || !strings.Contains(s2.log.String(), "issuer") {
		t.Errorf("%d\n%s", code, s2.log)
	}
}

func TestPostmastersAreAsTheConfigurationHasThem(t *testing.T) {
	is := func(c config.Postmasters, claims map[string]any, userinfo map[string]any) (string, *site, *browser) {
		s, p := oidcSite(t, func(o *config.OIDC) { o.Postmasters = c })
		p.set(func() {
			p.claims = claims
			if userinfo != nil {
				p.userinfo = userinfo
			}
		})
		b := s.browser()
		_, body := b.get("/sign-in")
		return body, s, b
	}
	groups := config.Postmasters{Claim: "groups", Values: []string{"pm", "pm2"}}
	for name, tc := range map[string]struct {
		c        config.Postmasters
		claims   map[string]any
		userinfo map[string]any
		want     bool
	}{
		"by address":          {c: config.Postmasters{Emails: []string{"dana@physics.example.edu"}}, want: true},
		"another's address":   {c: config.Postmasters{Emails: []string{"pat@example.edu"}}},
		"in the group":        {c: groups, claims: map[string]any{"groups": []any{"x", 7, "pm2"}}, want: true},
		"one group, as text":  {c: groups, claims: map[string]any{"groups": "pm"}, want: true},
		"in another group":    {c: groups, claims: map[string]any{"groups": []string{"PM", "pm3", ""}}},
		"by the userinfo":     {c: groups, userinfo: map[string]any{"sub": "u1", "groups": []string{"pm"}}, want: true},
		"the claim is absent": {c: groups},
		"last of many groups": {c: groups, claims: map[string]any{"groups": append(make([]string, 500), "pm")}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			body, _, _ := is(tc.c, tc.claims, tc.userinfo)
			if !strings.Contains(body, fmt.Sprintf("postmaster=%v", tc.want)) {
				t.Error(body)
			}
		})
	}
	// The configuration changes: so does who is one, and who is let in.
	body, s, b := is(groups, map[string]any{"groups": []string{"pm"}}, nil)
	if !strings.Contains(body, "postmaster=true") {
		t.Fatal(body)
	}
	p := s.sessions.way.(*provider)
	p.config.Postmasters.Values = []string{"pm2"}
	if _, body := b.get("/"); !strings.Contains(body, "postmaster=false") {
		t.Error(body)
	}
	p.config.Domains = []string{"example.edu"}
	if _, body := b.get("/"); !strings.HasPrefix(body, "nobody") {
		t.Error(body)
	}
}

func TestWhatTheUserinfoAdds(t *testing.T) {
	s, p := oidcSite(t, func(o *config.OIDC) { o.NameClaim, o.EmailClaim = "display", "mail" })
	p.set(func() {
		p.claims = map[string]any{"email": nil, "email_verified": nil, "name": nil}
		p.userinfo = map[string]any{"sub": "u1", "mail": []string{"dana@example.edu", "d@example.edu"}, "email_verified": "true", "display": " Dana\u202e\n Ito "}
	})
	if _, body := s.browser().get("/sign-in"); !strings.HasPrefix(body, "u1 Dana Ito <dana@example.edu> ") {
		t.Error(body)
	}
}

func TestASecretInTheBody(t *testing.T) {
	s, p := oidcSite(t, nil)
	p.set(func() { p.inBody = true })
	if _, body := s.browser().get("/sign-in"); !strings.HasPrefix(body, "u1 ") {
		t.Errorf("%s\n%s", body, s.log)
	}
}
