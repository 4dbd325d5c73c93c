package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
)

// direct answers calls without a network, so that time can be made to pass.
type direct struct{ hub http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	d.hub.ServeHTTP(w, r)
	return w.Result(), nil
}

// inBubble runs a test with a clock of its own and a client without a network.
func inBubble(t *testing.T, test func(*testing.T, *forgetest.Hub, *forge.GitHub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hub := forgetest.New(repository, time.Now)
		hub.AddUser(583231, "octocat", octocat)
		hub.Commit("main", "The register", register()...)
		test(t, hub, client(t, "", func(o *forge.GitHubOptions) { o.Transport = direct{hub} }))
	})
}

// TestLimits: the forge says when, or does not, in each of its ways.
func TestLimits(t *testing.T) {
	t.Parallel()
	reset := func(after time.Duration) string { return fmt.Sprint(time.Now().Add(after).Unix()) }
	for name, test := range map[string]struct {
		fail   func() forgetest.Failure
		waited time.Duration // at least
		err    error
	}{
		"used up for forty seconds": {func() forgetest.Failure {
			return forgetest.Failure{Status: 403, Times: 1, Header: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset(40 * time.Second)}}
		}, 40 * time.Second, nil},
		"used up for an hour": {func() forgetest.Failure {
			return forgetest.Failure{Status: 403, Times: 1, Header: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset(time.Hour)}}
		}, 0, forge.ErrLimited},
		"a burst, with a time": {func() forgetest.Failure {
			return forgetest.Failure{Status: 403, Times: 2, Header: map[string]string{"Retry-After": "30"},
				Body: `{"message": "You have exceeded a secondary rate limit.", "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`}
		}, 60 * time.Second, nil},
		"a burst, without a time": {func() forgetest.Failure {
			return forgetest.Failure{Status: 403, Times: 1, Body: `{"message": "You have exceeded a secondary rate limit. Please wait."}`}
		}, time.Minute, nil},
		"429":      {func() forgetest.Failure { return forgetest.Failure{Status: 429, Times: 1} }, time.Minute, nil},
		"for ever": {func() forgetest.Failure { return forgetest.Failure{Status: 429, Times: -1} }, time.Minute, forge.ErrLimited},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
				f := test.fail()
				f.Method, f.Path = "POST", "/git/trees"
				hub.Fail(f)
				start := time.Now()
				_, err := g.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
				took := time.Since(start)
				if !errors.Is(err, test.err) || took < test.waited || took > 2*time.Minute+2*time.Second {
					t.Errorf("%v after %v, want %v after %v", err, took, test.err, test.waited)
				}
			})
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls/1", Status: 429, Times: -1})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := g.Get(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestWhatMayHaveBeenDoneIsNotDoneTwice: a question is asked again, a write
// is not; and whoever repeats the command gets on.
func TestWhatMayHaveBeenDoneIsNotDoneTwice(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/git/trees", "/git/commits", "/git/refs", "/pulls"} {
		t.Run(path, func(t *testing.T) {
			inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
				hub.Fail(forgetest.Failure{Method: "POST", Path: path, Status: 502, Times: 1})
				hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/ref/heads/main", Status: 502, Times: 2})
				p := proposal(write("registrations/its/a.cue", "// a\n"))
				if _, err := g.Open(t.Context(), p); !errors.Is(err, forge.ErrUnreachable) {
					t.Errorf("first: %v", err)
				}
				posts := slices.DeleteFunc(hub.Calls(), func(c string) bool { return c != "POST "+path })
				if len(posts) != 1 {
					t.Errorf("tried %d times", len(posts))
				}
				p.At = p.At.Add(time.Hour)
				r, err := g.Open(t.Context(), p)
				if err != nil || r.Number != 1 || hub.Pulls() != 1 || len(hub.Branches()) != 2 {
					t.Errorf("again: %+v, %v; branches %v", r, err, hub.Branches())
				}
			})
		})
	}
}

// TestErrorsHaveAKindAndNoSecret.
func TestErrorsHaveAKindAndNoSecret(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"bad token":   {401, `{"message": "Bad credentials"}`, forge.ErrRefused},
		"forbidden":   {403, `{"message": "Resource not accessible by personal access token"}`, forge.ErrRefused},
		"not there":   {404, `{"message": "Not Found"}`, forge.ErrNotFound},
		"broken":      {500, `<html>`, forge.ErrUnreachable},
		"not allowed": {422, `{"message": "Validation Failed", "errors": [{"field": "head", "code": "custom", "message": "no"}]}`, forge.ErrConflict},
		"no JSON":     {200, `<html>`, forge.ErrIncomplete},
		"too large":   {200, `{"title": "` + strings.Repeat("a", 25<<20), forge.ErrTooMuch},
		"nothing":     {200, `{}`, forge.ErrIncomplete},
		"another":     {200, `{"number": 2, "state": "open", "user": {"id": 1}, "head": {"sha": "0123456789012345678901234567890123456789"}, "base": {"ref": "main"}, "changed_files": 1}`, forge.ErrIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
				hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls/1", Status: test.status, Body: test.body, Times: -1})
				_, err := g.Get(t.Context(), 1)
				if !errors.Is(err, test.want) || strings.Contains(fmt.Sprint(err), octocat) || len(fmt.Sprint(err)) > 500 {
					t.Errorf("%.600v, want %v", err, test.want)
				}
			})
		})
	}
}

// TestATokenGoesToItsHostAlone.
func TestATokenGoesToItsHostAlone(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") }))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/steal", http.StatusFound)
	}))
	defer first.Close()
	if _, err := client(t, first.URL).Self(t.Context()); err == nil || strings.Contains(err.Error(), octocat) {
		t.Errorf("redirected: %v", err)
	}
	if len(got) > 0 {
		t.Errorf("the other host was asked, with %q", <-got)
	}
	for _, host := range []string{"http://github.example.edu", "ftp://github.example.edu", "https://user:secret@github.example.edu", "github.example.edu"} {
		_, err := forge.NewGitHub(forge.GitHubOptions{Repository: repository, Host: host, Token: forge.Static(octocat)})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("host %s: %v", host, err)
		}
	}
	for _, name := range []string{"", "a", "a/b/c", "a/..", "../a", "a b/c", "a/b?x", "-a/b"} {
		if _, err := forge.NewGitHub(forge.GitHubOptions{Repository: name, Token: forge.Static(octocat)}); err == nil {
			t.Errorf("repository %q is taken", name)
		}
	}
	for _, token := range []string{"", "two words", "line\nHost: x"} {
		g := client(t, first.URL, func(o *forge.GitHubOptions) { o.Token = forge.Static(token) })
		if _, err := g.Self(t.Context()); !errors.Is(err, forge.ErrRefused) || token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// TestFilesFailClosed: an answer that cannot be the whole truth is none.
func TestFilesFailClosed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		r, err := g.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n"), write("registrations/its/b.cue", "// b\n")))
		if err != nil {
			t.Fatal(err)
		}
		hub.Miscount(1, 1)
		if _, err := g.Files(t.Context(), r); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("one more than listed: %v", err)
		}
		hub.Miscount(1, 3000)
		if _, err := g.Files(t.Context(), r); !errors.Is(err, forge.ErrTooMuch) {
			t.Errorf("3,002 files: %v", err)
		}
		hub.Miscount(1, 0)
		hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls/1/files", Status: 200, Times: 1, Body: `[{"filename": "registrations/its/a.cue", "status": "added", "sha": "0123456789012345678901234567890123456789"}, {"filename": "b", "status": "removed"}]`})
		if _, err := g.Files(t.Context(), r); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("a list that differs from the tree: %v", err)
		}
		hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls/1/files", Status: 200, Times: 1, Body: `[{"filename": "a", "status": "removed"}, {"filename": "a", "status": "removed"}]`})
		if _, err := g.Files(t.Context(), r); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("a path twice: %v", err)
		}
		hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/blobs/", Status: 200, Times: 1, Body: `{"encoding": "utf-8", "content": "// x\n"}`})
		if _, err := g.Files(t.Context(), r); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("a content that is another's: %v", err)
		}
		if files, err := g.Files(t.Context(), r); err != nil || len(files) != 2 {
			t.Errorf("in the end: %v, %v", files, err)
		}
	})
}

// TestOneComment: written, left alone, edited, deleted; and nobody else's.
func TestOneComment(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		ctx := t.Context()
		mona := hub.AddUser(77, "mona", "")
		hub.Commit("request/x", "x", forgetest.Change{Path: "x", Content: "x"})
		n := hub.OpenPull(mona, "request/x", "x")
		sign := "<!-- gatepost:plan -->\n"
		hub.AddComment(n, mona, sign+"not the bot's")
		for range 40 {
			hub.AddComment(n, mona, "talk")
		}
		say := func(body string) {
			t.Helper()
			if err := g.SetComment(ctx, n, "plan", body); err != nil {
				t.Fatal(err)
			}
		}
		ours := func() []string {
			var out []string
			for _, c := range hub.Comments(n) {
				if c.By == "octocat" {
					out = append(out, strings.TrimPrefix(c.Body, sign))
				}
			}
			return out
		}
		say("")
		say("first")
		say("first")
		say("second")
		if got := ours(); !slices.Equal(got, []string{"second"}) {
			t.Errorf("comments: %q", got)
		}
		edits := slices.DeleteFunc(hub.Calls(), func(c string) bool { return !strings.HasPrefix(c, "PATCH") })
		if len(edits) != 1 {
			t.Errorf("edits: %v", edits)
		}
		if err := g.SetComment(ctx, n, "other", "of another mark"); err != nil {
			t.Fatal(err)
		}
		hub.AddComment(n, forgetest.User{ID: 583231, Login: "octocat", Type: "User"}, sign+"of a run at the same time")
		say("third")
		say("")
		if got := ours(); len(got) != 1 || !strings.Contains(got[0], "of another mark") {
			t.Errorf("in the end: %q", got)
		}
		if got := hub.Comments(n); len(got) != 42 {
			t.Errorf("%d comments, want the 41 of others and one", len(got))
		}
		if err := g.SetComment(ctx, n, "x --> y", "b"); !errors.Is(err, forge.ErrInvalid) {
			t.Errorf("a mark that ends the comment: %v", err)
		}
	})
}

func TestReportingNeedsAnAppAndSaysSo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		r := forge.Report{Commit: hub.Branch("main"), Name: "gatepost", Conclusion: forge.Success, Title: "no problems\nat all " + strings.Repeat("é", 200)}
		if err := g.ReportCheck(t.Context(), r); !errors.Is(err, forge.ErrRefused) {
			t.Errorf("check run with a person's token: %v", err)
		}
		if err := g.ReportStatus(t.Context(), r); err != nil {
			t.Errorf("status: %v", err)
		}
		if got := hub.Statuses(); len(got) != 1 || !strings.HasPrefix(got[0], r.Commit+" gatepost success no problems at all é") {
			t.Errorf("statuses: %q", got)
		}
	})
}

// TestApprovals: the last word of each, on the head, and not the author's.
func TestApprovals(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		ctx := t.Context()
		a, b, c, d := hub.AddUser(11, "ann", ""), hub.AddUser(12, "bob", ""), hub.AddUser(13, "cy", ""), hub.AddUser(14, "di", "")
		hub.AddTeam(42, "postmasters", a, b)
		r, err := g.Open(ctx, proposal(write("registrations/its/a.cue", "// a\n")))
		if err != nil {
			t.Fatal(err)
		}
		hub.Review(1, d, "APPROVED") // of a head that is none any more
		hub.Commit(r.Branch, "More", forgetest.Change{Path: "registrations/its/b.cue", Content: "// b\n"})
		if r, err = g.Get(ctx, 1); err != nil {
			t.Fatal(err)
		}
		hub.Review(1, a, "APPROVED")
		hub.Review(1, a, "COMMENTED") // takes nothing back
		hub.Review(1, b, "APPROVED")
		hub.Review(1, b, "CHANGES_REQUESTED")
		hub.Review(1, c, "CHANGES_REQUESTED")
		hub.Review(1, c, "APPROVED")
		hub.Review(1, forgetest.User{ID: 583231, Login: "octocat", Type: "User"}, "APPROVED") // the author
		merged := hub.Merge(1)
		list, err := g.ForCommit(ctx, merged)
		if err != nil || len(list) != 1 || list[0].MergedAs != merged {
			t.Fatalf("for %s: %+v, %v", merged, list, err)
		}
		got, err := g.Approvals(ctx, list[0])
		if err != nil || !slices.Equal(got, []forge.Account{{ID: 11, Login: "ann"}, {ID: 13, Login: "cy"}}) {
			t.Errorf("approvals: %v, %v", got, err)
		}
		team, err := g.Team(ctx, "postmasters")
		if err != nil || team.ID != 42 || !team.Has(11) || team.Has(13) || team.Has(0) {
			t.Errorf("team: %+v, %v", team, err)
		}
	})
}

// TestAuthors: all whose accounts are known, each once, and the list in full.
func TestAuthors(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		ctx := t.Context()
		a, b := hub.AddUser(11, "ann", ""), hub.AddUser(12, "bob", "")
		r, err := g.Open(ctx, proposal(write("registrations/its/a.cue", "// a\n")))
		if err != nil {
			t.Fatal(err)
		}
		hub.Wrote(r.Head, b, b)
		for range 120 { // two pages
			hub.Commit(r.Branch, "More", forgetest.Change{Path: "registrations/its/b.cue", Content: "// b\n"})
		}
		last := hub.Commit(r.Branch, "More", forgetest.Change{Path: "registrations/its/b.cue", Content: "// c\n"})
		hub.Wrote(last, a, b)
		if r, err = g.Get(ctx, 1); err != nil || r.Commits < 3 {
			t.Fatalf("%+v, %v", r, err)
		}
		got, err := g.Authors(ctx, r)
		if err != nil || !slices.Equal(got, []forge.Account{{ID: 11, Login: "ann"}, {ID: 12, Login: "bob"}}) {
			t.Errorf("authors: %v, %v", got, err)
		}
		other := r
		other.Head = strings.Repeat("1", 40)
		if _, err := g.Authors(ctx, other); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("without the head: %v", err)
		}
		r.Commits++
		if _, err := g.Authors(ctx, r); !errors.Is(err, forge.ErrIncomplete) {
			t.Errorf("one is missing: %v", err)
		}
		r.Commits = 251
		if _, err := g.Authors(ctx, r); !errors.Is(err, forge.ErrTooMuch) {
			t.Errorf("too many: %v", err)
		}
	})
}
