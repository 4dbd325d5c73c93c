package session

import (
	"net/url"
	"strings"
	"testing"
)

func TestNobodyIsSentElsewhere(t *testing.T) {
	for next, want := range map[string]string{
		"/": "/", "/ip/192.0.2.1": "/ip/192.0.2.1", "/register?ip=192.0.2.1&x=%2F": "/register?ip=192.0.2.1&x=%2F", "": "/",
		"//evil.example": "/", "https://evil.example/": "/", "/\\evil.example": "/", "\\\\evil.example": "/", "/\t/evil.example": "/", "\t//evil.example": "/",
		"/%5cevil.example": "/", "/%2f/evil.example": "/", "/a//evil.example": "/", "javascript:alert(1)": "/", "/x\r\nSet-Cookie: a=b": "/", "evil.example": "/", "/%0d%0aX": "/",
		"/sign-in": "/", "/sign-in/callback?code=x": "/", "/sign-out": "/", "/sign-in?next=/sign-in": "/", "/é": "/", "/" + strings.Repeat("x", maxNext): "/", "/?%zz": "/?%zz", "/%zz": "/", ":": "/",
	} {
		if got := ownPath(next); got != want {
			t.Errorf("ownPath(%q) = %q, want %q", next, got, want)
		}
	}
	s, _ := oidcSite(t, nil)
	if code, body := s.browser().get("/sign-in?next=" + url.QueryEscape("//evil.example/")); code != 200 || !strings.Contains(body, "at /\n") {
		t.Error(code, body)
	}
}

func FuzzOwnPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "/%2f%2fx", "http:/x", "/a?b#c"} {
		f.Add(s)
	}
	base := must(url.Parse("https://relay.example.edu/sign-in"))
	f.Fuzz(func(t *testing.T, s string) {
		to, err := base.Parse(ownPath(s))
		if err != nil || to.Host != base.Host || to.Scheme != base.Scheme {
			t.Errorf("%q leads to %v, %v", s, to, err)
		}
	})
}
