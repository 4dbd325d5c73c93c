package session

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"example.edu/gatepost/internal/config"
)

func TestBehindAWebServerThatSignsIn(t *testing.T) {
	c := config.SignInProxy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8::1/128")},
		Headers:     config.SignInHeaders{Email: "X-Remote-Email", Name: "X-Remote-Name", Groups: "X-Remote-Groups"},
		Postmasters: config.Postmasters{Emails: []string{"pat@example.edu"}, Values: []string{"mail pm"}}, SignOutURL: "https://relay.example.edu/out"}
	s := newSite(t, false, func(o *Options) { o.SignIn.Proxy = &c })
	ask := func(from, path string, headers ...string) (int, string, *http.Request) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.RemoteAddr = from
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String(), r
	}
	const email, name, groups = "X-Remote-Email", "X-Remote-Name", "X-Remote-Groups"
	for what, tc := range map[string]struct {
		from    string
		headers []string
		want    string
	}{
		"signed in":               {"192.0.2.1:99", []string{email, "Ada@Example.edu", name, "Ada"}, "ada@example.edu Ada <ada@example.edu> postmaster=false"},
		"over IPv6":               {"[2001:db8::1]:99", []string{email, "ada@example.edu"}, "ada@example.edu ada@example.edu <"},
		"over IPv4 in IPv6":       {"[::ffff:192.0.2.1]:99", []string{email, "ada@example.edu"}, "ada@example.edu"},
		"a postmaster":            {"192.0.2.1:99", []string{email, "pat@example.edu"}, "postmaster=true"},
		"by group":                {"192.0.2.1:99", []string{email, "ada@example.edu", groups, "x; mail pm,y"}, "postmaster=true"},
		"by part of a group":      {"192.0.2.1:99", []string{email, "ada@example.edu", groups, "mail pms"}, "postmaster=false"},
		"from outside":            {"192.0.2.99:99", []string{email, "pat@example.edu"}, "nobody"},
		"from outside, forwarded": {"192.0.2.99:99", []string{email, "pat@example.edu", "X-Forwarded-For", "192.0.2.1"}, "nobody"},
		"twice":                   {"192.0.2.1:99", []string{email, "pat@example.edu", email, "ada@example.edu"}, "nobody"},
		"groups twice":            {"192.0.2.1:99", []string{email, "ada@example.edu", groups, "mail pm", groups, "x"}, "postmaster=false"},
		"nobody":                  {"192.0.2.1:99", nil, "nobody"},
		"empty":                   {"192.0.2.1:99", []string{email, ""}, "nobody"},
		"no address":              {"192.0.2.1:99", []string{email, "(null)"}, "nobody"},
		"a name beyond ASCII":     {"192.0.2.1:99", []string{email, "ada@example.edu", name, "Ada Zoë"}, "ada@example.edu Ada Zoë <"},
		"a broken name":           {"192.0.2.1:99", []string{email, "ada@example.edu", name, "Ada \xff"}, "ada@example.edu ada@example.edu <"},
		"from a pipe":             {"@", []string{email, "ada@example.edu"}, "nobody"},
	} {
		code, body, r := ask(tc.from, "/", tc.headers...)
		if code != 200 || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", what, code, body)
		}
		if strings.HasPrefix(what, "from") && r.Header.Get(email) != "" {
			t.Errorf("%s: the header is passed on", what)
		}
	}
	if code, _, _ := ask("192.0.2.1:1", "/sign-in?next=/x", email, "ada@example.edu"); code != http.StatusSeeOther {
		t.Error(code)
	}
	if code, body, _ := ask("192.0.2.99:1", "/sign-in", email, "ada@example.edu"); code != http.StatusForbidden || !strings.Contains(body, "did not say who you are") ||
		!strings.Contains(s.log.String(), "no address of signIn.proxy.from") || !strings.Contains(s.log.String(), "client=192.0.2.99") {
		t.Errorf("%d %s\n%s", code, body, s.log)
	}
	spoofed := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	spoofed.RemoteAddr = "192.0.2.99:1"
	spoofed.Header.Set(email, "pat@example.edu")
	if who, ok := s.sessions.Who(spoofed); ok {
		t.Errorf("who came past Guard is %v", who)
	}
	if s.sessions.way.out() != c.SignOutURL {
		t.Error("signing out leads elsewhere")
	}
}
