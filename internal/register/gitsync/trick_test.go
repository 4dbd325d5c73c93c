package gitsync_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
)

const secret = "s3cret-t0ken"

// withToken gives the mirror a token.
func withToken(o *gitsync.Options) {
	o.Token = func(context.Context) (string, error) { return secret, nil }
}

// A host that redirects to another, at either step of a fetch, gets nobody to
// go there: neither with the token nor without.
func TestRedirectToAnotherHost(t *testing.T) {
	h := newGitHost(t)
	h.commit("first")
	var visits atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer thief.Close()
	for _, step := range []string{"/info/refs", "/git-upload-pack"} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			h.set(func(h *gitHost) {
				h.instead = func(w http.ResponseWriter, req *http.Request) bool {
					if !strings.HasSuffix(req.URL.Path, step) {
						return false
					}
					_, token, _ := req.BasicAuth()
					w.Header().Set("Location", thief.URL+req.URL.Path+"?"+req.URL.RawQuery+"&token="+token)
					w.WriteHeader(code)
					return true
				}
			})
			_, err := h.mirror(withToken).Fetch(t.Context())
			if !errors.Is(err, gitsync.ErrRedirected) || !strings.Contains(err.Error(), thief.URL) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s, %d: %v", step, code, err)
			}
		}
	}
	if n := visits.Load(); n > 0 {
		t.Errorf("the other host was asked %d times", n)
	}
}

// A repository that was renamed is found under its new name.
func TestRedirectWithinTheHost(t *testing.T) {
	h := newGitHost(t)
	head := h.commit("first")
	h.set(func(h *gitHost) {
		h.token = secret
		h.instead = func(w http.ResponseWriter, req *http.Request) bool {
			rest, old := strings.CutPrefix(req.URL.Path, "/old.git/")
			if old {
				http.Redirect(w, req, "/register.git/"+rest+"?"+req.URL.RawQuery, http.StatusMovedPermanently)
			}
			return old
		}
	})
	mustFetch(t, h.mirror(withToken, func(o *gitsync.Options) {
		o.Repository = strings.Replace(h.url, "register", "old", 1)
	}), head)
}

// A carrier is a transport that redirects each first request of a mirror, and
// notes where it was sent.
type carrier struct {
	location string
	sent     []string
}

func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	c.sent = append(c.sent, req.URL.Scheme+"://"+req.URL.Host)
	res := &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}
	if len(c.sent) == 1 && c.location != "" {
		res.StatusCode = http.StatusFound
		res.Header.Set("Location", c.location)
	}
	return res, nil
}

func TestWhatCountsAsAnotherHost(t *testing.T) {
	const refs = "/r.git/info/refs?service=git-upload-pack"
	for location, follow := range map[string]bool{
		"https://git.example.edu/s.git/info/refs":       true,
		"https://GIT.example.edu" + refs:                true,
		"/s.git/info/refs":                              true,
		"http://git.example.edu" + refs:                 false,
		"https://git.example.edu:8443" + refs:           false,
		"https://git.example.edu.evil.example" + refs:   false,
		"https://api.git.example.edu" + refs:            false,
		"https://evil.example" + refs:                   false,
		"//evil.example" + refs:                         false,
		"https://git.example.edu@evil.example" + refs:   false,
		"https://u:hunter2@evil.example/r.git":          false,
		"ftp://git.example.edu/r.git/info/refs":         false,
		"mailto:git@git.example.edu":                    false,
		"https://[::1]" + refs:                          false,
		"https://evil.example/\x00" + refs:              false, // no URL at all
		"https://git.example.edu/s.git/elsewhere/\x7f/": false,
	} {
		c := &carrier{location: location}
		m := mustOpen(t, gitsync.Options{Repository: "https://git.example.edu/r.git", Dir: t.TempDir(), Transport: c,
			Token: func(context.Context) (string, error) { return secret, nil }})
		_, err := m.Fetch(t.Context())
		if err == nil || (len(c.sent) > 1) != follow {
			t.Errorf("%s: asked %v, %v", location, c.sent, err)
		}
		for _, where := range c.sent {
			if !strings.EqualFold(where, "https://git.example.edu") {
				t.Errorf("%s: went to %s", location, where)
			}
		}
		if text := fmt.Sprintf("%v", err); strings.Contains(text, secret) || strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", location, text)
		}
	}
}

// A token does not travel in clear text; and where there is none, nothing is
// sent that a host could take for a wrong one.
func TestWhenATokenIsSent(t *testing.T) {
	for _, c := range []struct {
		repository, token string
		asked, signed     bool
	}{
		{"https://git.example.edu/r.git", secret, true, true},
		{"https://git.example.edu/r.git", " \n", true, false},
		{"http://git.example.edu/r.git", secret, false, false},
		{"http://git.example.edu/r.git", "", true, false},
		{"http://127.0.0.1/r.git", secret, true, true},
	} {
		asked, signed := false, false
		m := mustOpen(t, gitsync.Options{Repository: c.repository, Dir: t.TempDir(),
			Token: func(context.Context) (string, error) { return c.token, nil },
			Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				asked, signed = true, req.Header.Get("Authorization") != ""
				return nil, errors.New("nobody there")
			})})
		_, err := m.Fetch(t.Context())
		if asked != c.asked || signed != c.signed || err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s with %q: asked %v, with credentials %v: %v", c.repository, c.token, asked, signed, err)
		}
		if !c.asked && !errors.Is(err, gitsync.ErrRefused) {
			t.Errorf("%s with %q: %v", c.repository, c.token, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A host that repeats the header it was sent gets it into no error.
func TestAnEchoedHeaderIsNotShown(t *testing.T) {
	h := newGitHost(t)
	h.commit("first")
	h.set(func(h *gitHost) {
		h.instead = func(w http.ResponseWriter, req *http.Request) bool {
			http.Error(w, "bad header "+req.Header.Get("Authorization"), http.StatusForbidden)
			return true
		}
	})
	_, err := h.mirror(withToken).Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "bad header") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("x-access-token:"+secret))) {
		t.Errorf("Fetch: %v", err)
	}
}

// A host, or whoever stands before it, that plays an older time again is seen
// for what it is: the branch is set back.
func TestAReplayedFetchIsARewind(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", "1")
	old := h.commit("with the address")
	first := h.mirror()
	tape := map[string][]byte{}
	h.set(func(h *gitHost) { h.instead = recording(h, tape) })
	mustFetch(t, first, old)
	h.set(func(h *gitHost) { h.instead = nil })

	h.run(h.work, "rm", "-q", "registrations/a/one.cue")
	revoked := h.commit("without it")
	m := h.mirror()
	mustFetch(t, m, revoked)
	if err := m.Keep(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	h.set(func(h *gitHost) {
		h.instead = func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			w.Write(tape[req.URL.Path])
			return true
		}
	})
	mustFetch(t, m, old)
	if got, err := m.Relation(t.Context(), revoked, old); err != nil || got != gitsync.Rewound {
		t.Errorf("Relation = %v, %v", got, err)
	}
	if list, err := m.Files(t.Context(), revoked); err != nil || len(list) != 0 {
		t.Errorf("what was accepted: %v, %v", list, err)
	}
}

// recording has the host's answers kept by path.
func recording(h *gitHost, tape map[string][]byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, req *http.Request) bool {
		answer := httptest.NewRecorder()
		h.backend.ServeHTTP(answer, req)
		tape[req.URL.Path] = bytes.Clone(answer.Body.Bytes())
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
		return true
	}
}

// A host that names a head and sends another commit, or none, changes nothing.
func TestAHeadThatIsNotSent(t *testing.T) {
	h := newGitHost(t)
	first := h.commit("first")
	m := h.mirror()
	mustFetch(t, m, first)
	h.write("f", "x")
	second := h.commit("second")
	for _, claimed := range []string{strings.Repeat("ab", 20), h.run(h.work, "rev-parse", "HEAD:f")} {
		h.set(func(h *gitHost) {
			h.instead = func(w http.ResponseWriter, req *http.Request) bool {
				answer := httptest.NewRecorder()
				if req.Method == http.MethodPost { // ask git for what it has
					body, _ := io.ReadAll(req.Body)
					req.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(claimed), []byte(second.String()))))
				}
				h.backend.ServeHTTP(answer, req)
				for k, v := range answer.Header() {
					w.Header()[k] = v
				}
				w.WriteHeader(answer.Code)
				w.Write(bytes.ReplaceAll(answer.Body.Bytes(), []byte(second.String()), []byte(claimed)))
				return true
			}
		})
		if got, err := m.Fetch(t.Context()); err == nil {
			t.Errorf("Fetch of %s = %s", claimed, got)
		}
	}
	h.set(func(h *gitHost) { h.instead = nil })
	mustFetch(t, m, second)
	if got, err := m.Relation(t.Context(), first, second); err != nil || got != gitsync.Descends {
		t.Errorf("Relation = %v, %v", got, err)
	}
}

// A branch that is deleted takes nothing away.
func TestADeletedBranch(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", "1")
	head := h.commit("first")
	m := h.mirror()
	mustFetch(t, m, head)
	h.run(h.bare, "branch", "other", "main")
	h.run(h.bare, "update-ref", "-d", "refs/heads/main")
	for range 2 {
		if _, err := m.Fetch(t.Context()); !errors.Is(err, gitsync.ErrBranchGone) {
			t.Errorf("Fetch: %v", err)
		}
	}
	if list, err := m.Files(t.Context(), head); err != nil || len(list) != 1 {
		t.Errorf("Files: %v, %v", list, err)
	}
	mustFetch(t, m, h.push())
}
