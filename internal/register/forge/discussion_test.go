package forge_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
)

// talking is what both kinds of forge can do with a discussion.
type talking interface {
	forge.Opener
	forge.Reader
	forge.Speaker
	forge.Closer
	forge.Follower
}

var ann = forge.Person{Name: "Ann", Email: "ann@example.edu"}

// bodies are remarks in a line each: mark, kind and text.
func bodies(list []forge.Remark) (out []string) {
	for _, r := range list {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %q", r.Mark, r.Kind, r.Body)))
	}
	return out
}

// TestADiscussion: what is said comes back, in order, once, and one comment is kept.
func TestADiscussion(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		ctx, f := t.Context(), h.forge.(talking)
		r, err := f.Open(ctx, proposal(write("registrations/its/new.cue", "// new\n")))
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(f.SetComment(ctx, r.Number, "register", "first"))
		must(f.Comment(ctx, r.Number, ann, "What is\r\nthis?\x00\u0007"))
		must(f.SetComment(ctx, r.Number, "register", "second"))
		must(f.SetComment(ctx, r.Number, "register", "second"))
		must(f.SetComment(ctx, r.Number, "other", "gone"))
		must(f.SetComment(ctx, r.Number, "other", ""))
		must(f.SetComment(ctx, r.Number, "never", ""))
		must(f.Comment(ctx, r.Number, ann, strings.Repeat("long ", 20_000)))
		said, err := f.Remarks(ctx, r.Number)
		must(err)
		if len(said) != 3 || len(said[2].Body) > 61_000 || !strings.HasSuffix(said[2].Body, "(cut)") {
			t.Fatalf("remarks: %.300q", bodies(said))
		}
		if got, want := bodies(said[:2]), []string{`register comment "second"`, `comment "What is\nthis?"`}; !slices.Equal(got, want) {
			t.Errorf("remarks: %q, want %q", got, want)
		}
		ids := map[string]bool{}
		for _, s := range said {
			ids[s.ID] = true
			if s.At.IsZero() || time.Since(s.At) > time.Hour {
				t.Errorf("%s at %s", s.ID, s.At)
			}
		}
		if len(ids) != 3 {
			t.Errorf("ids: %v", ids)
		}
		again, err := f.Remarks(ctx, r.Number)
		if err != nil || !slices.EqualFunc(said, again, func(a, b forge.Remark) bool { return a == b }) {
			t.Errorf("read again: %v, %v", again, err)
		}
		for _, bad := range []error{f.Comment(ctx, r.Number, ann, " \n"), f.SetComment(ctx, r.Number, "a/../b", "x")} {
			if !errors.Is(bad, forge.ErrInvalid) {
				t.Errorf("%v, want ErrInvalid", bad)
			}
		}
		if _, err := f.Remarks(ctx, 999); !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("of no request: %v", err)
		}
		if err := f.Comment(ctx, 999, ann, "x"); !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("on no request: %v", err)
		}
	})
}

// TestClosing: the request stays, closed, with its time, and can be closed again.
func TestClosing(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		ctx, f := t.Context(), h.forge.(talking)
		var open []forge.Request
		for i := range 3 {
			r, err := f.Open(ctx, proposal(write(fmt.Sprintf("registrations/its/n%d.cue", i), "// new\n")))
			if err != nil {
				t.Fatal(err)
			}
			if r.OpenedAt.IsZero() || !r.MergedAt.IsZero() || !r.ClosedAt.IsZero() {
				t.Errorf("opened: %+v", r)
			}
			open = append(open, r)
		}
		for range 2 {
			if err := f.Close(ctx, open[0].Number); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Get(ctx, open[0].Number)
		if err != nil || got.State != forge.Closed || time.Since(got.ClosedAt) > time.Hour || !got.MergedAt.IsZero() {
			t.Errorf("closed: %+v, %v", got, err)
		}
		commit := h.merge(open[1])
		if err := f.Close(ctx, open[1].Number); !errors.Is(err, forge.ErrConflict) {
			t.Errorf("closing a merged one: %v", err)
		}
		if got, err = f.Get(ctx, open[1].Number); err != nil || got.MergedAs != commit || time.Since(got.MergedAt) > time.Hour {
			t.Errorf("merged: %+v, %v", got, err)
		}
		numbers := func(since time.Time) (out []int) {
			list, err := f.Recent(ctx, since)
			if err != nil {
				t.Error(err)
			}
			for _, r := range list {
				out = append(out, r.Number)
			}
			return out
		}
		if got := numbers(time.Now().Add(-time.Hour)); !slices.Contains(got, open[0].Number) || !slices.Contains(got, open[1].Number) || !slices.Contains(got, open[2].Number) {
			t.Errorf("recent: %v", got)
		}
		if got := numbers(time.Now().Add(time.Hour)); !slices.Equal(got, []int{open[2].Number}) {
			t.Errorf("open: %v", got)
		}
		if err := f.Close(ctx, 999); !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("closing none: %v", err)
		}
		if tip, err := f.Tip(ctx, "main"); err != nil || tip != h.tip("main") {
			t.Errorf("tip: %s, %v", tip, err)
		}
		if _, err := f.Tip(ctx, "nowhere"); !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("tip of nothing: %v", err)
		}
	})
}

// TestABranchThatSomebodyPushedCanBeClosed: it never had a number of its own.
func TestABranchThatSomebodyPushedCanBeClosed(t *testing.T) {
	t.Parallel()
	h := gitHome(t, true)
	f := h.forge.(*forge.Git)
	h.push("request/7-mine", forgetest.Change{Path: "registrations/its/x.cue", Content: "// x\n"})
	if err := f.Close(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Get(t.Context(), 7); err != nil || r.State != forge.Closed || r.ClosedAt.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	r, err := f.Open(t.Context(), proposal(write("registrations/its/new.cue", "// new\n")))
	if err != nil || r.Number != 8 {
		t.Errorf("the next: %+v, %v", r, err)
	}
}

// TestReviewsAndLinesAreRemarks: a word may stand in any of them.
func TestReviewsAndLinesAreRemarks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		ctx := t.Context()
		mona, self := hub.AddUser(77, "mona", ""), forgetest.User{ID: 583231, Login: "octocat", Type: "User"}
		r, err := g.Open(ctx, proposal(write("registrations/its/a.cue", "// a\n")))
		if err != nil {
			t.Fatal(err)
		}
		say := func(f func()) { f(); <-time.After(time.Second) }
		say(func() { hub.ReviewWith(1, mona, "CHANGES_REQUESTED", "/ask Whose?") })
		say(func() { hub.AddComment(1, mona, "<!-- gatepost:register -->\nnot ours") })
		say(func() { hub.AddLineComment(1, mona, "/ask And this?") })
		say(func() { hub.ReviewWith(1, mona, "COMMENTED", "") })
		say(func() { hub.ReviewWith(1, mona, "PENDING", "not yet") })
		say(func() { hub.ReviewWith(1, mona, "APPROVED", "") })
		say(func() { hub.AddComment(1, self, "<!-- gatepost:register -->\nours") })
		said, err := g.Remarks(ctx, 1)
		want := []string{`changes "/ask Whose?"`, `comment "<!-- gatepost:register -->\nnot ours"`, `comment "/ask And this?"`, `approval ""`, `register comment "ours"`}
		if err != nil || !slices.Equal(bodies(said), want) {
			t.Errorf("%q, %v; want %q", bodies(said), err, want)
		}
		if said[0].Commit != r.Head || said[2].Commit != r.Head || said[1].Commit != "" || said[0].Author != (forge.Account{ID: 77, Login: "mona"}) {
			t.Errorf("%+v", said)
		}
		for range 1001 {
			hub.AddComment(1, mona, "talk")
		}
		if said, err := g.Remarks(ctx, 1); !errors.Is(err, forge.ErrTooMuch) || len(said) != 1000 || said[0].Body != "/ask Whose?" {
			t.Errorf("too many: %d, %v", len(said), err)
		}
	})
}

// TestWhoMayWrite: the number decides, and not the name.
func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		a, b := hub.AddUser(11, "ann", ""), hub.AddUser(12, "bob", "")
		hub.Permit(a, "write")
		hub.Permit(b, "read")
		for who, want := range map[forge.Account]bool{
			{ID: 11, Login: "ann"}: true, {ID: 12, Login: "bob"}: false, {ID: 13, Login: "ann"}: false,
			{ID: 14, Login: "nobody"}: false, {ID: 11, Login: "../x"}: false, {}: false,
		} {
			if may, err := g.MayWrite(t.Context(), who); err != nil || may != want {
				t.Errorf("%+v: %v, %v", who, may, err)
			}
		}
	})
}

// TestADiscussionThatSomebodyPushed: whoever may push can put anything there.
func TestADiscussionThatSomebodyPushed(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	f := openGit(t, g.repo)
	r, err := f.Open(t.Context(), proposal(write("registrations/its/new.cue", "// new\n")))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("x", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := g.run(g.repo, "mktree", "--missing")
	late := g.run(g.repo, "hash-object", "-t", "commit", "-w", "--literally", commitFile(t, tree, "Eve <eve@example.edu> 999999999999999 +0000", "\x1b[31mred\x00\n"))
	for name, rubbish := range map[string]string{
		"a blob":       g.run(g.repo, "hash-object", "-w", long),
		"a tree":       tree,
		"a long text":  g.run(g.repo, "hash-object", "-t", "commit", "-w", commitFile(t, tree, "Eve <eve@example.edu> 1 +0000", strings.Repeat("x", 200_000))),
		"no real time": late,
	} {
		for _, ref := range []string{"refs/gatepost/discussion/1", "refs/gatepost/comments/1/register", "refs/gatepost/closed/1"} {
			g.run(g.repo, "update-ref", ref, rubbish)
		}
		said, err := f.Remarks(ctx, r.Number)
		if name == "no real time" {
			if err != nil || len(said) != 2 || !said[0].At.IsZero() || strings.ContainsAny(said[0].Body, "\x1b\x00") {
				t.Errorf("%s: %+v, %v", name, said, err)
			}
		} else if !errors.Is(err, forge.ErrIncomplete) && !errors.Is(err, forge.ErrTooMuch) {
			t.Errorf("%s: %v, %v", name, said, err)
		}
		if got, err := f.Get(ctx, r.Number); err != nil || got.State != forge.Open {
			t.Errorf("%s: the request: %+v, %v", name, got, err)
		}
		if err := f.SetComment(ctx, r.Number, "register", "ours"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.run(g.repo, "update-ref", "-d", "refs/gatepost/discussion/1")
	g.run(g.repo, "symbolic-ref", "refs/gatepost/discussion/1", "refs/heads/main")
	if said, err := f.Remarks(ctx, r.Number); err != nil || len(said) != 1 {
		t.Errorf("a reference to a branch: %v, %v", said, err)
	}
}

func commitFile(t *testing.T, tree, who, message string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "commit")
	if err := os.WriteFile(p, []byte("tree "+tree+"\nauthor "+who+"\ncommitter "+who+"\n\n"+message), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestManyTalkAtOnce: nobody's word is lost, and git finds nothing wrong.
func TestManyTalkAtOnce(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	if _, err := openGit(t, g.repo).Open(t.Context(), proposal(write("registrations/its/new.cue", "// new\n"))); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if err := openGit(t, g.repo).Comment(t.Context(), 1, ann, fmt.Sprint("remark ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	g.run(g.repo, "pack-refs", "--all", "--prune")
	g.run(g.repo, "gc", "-q", "--prune=now")
	f := openGit(t, g.repo)
	if err := f.SetComment(t.Context(), 1, "register", "kept"); err != nil {
		t.Fatal(err)
	}
	said, err := f.Remarks(t.Context(), 1)
	if err != nil || len(said) != 7 {
		t.Errorf("%q, %v", bodies(said), err)
	}
	g.run(g.repo, "fsck", "--strict", "--no-dangling")
	if left, err := filepath.Glob(filepath.Join(g.repo, "gatepost-ref-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A lock that a crash left is named.
	lock := filepath.Join(g.repo, "refs/gatepost/discussion/1.lock")
	if err := errors.Join(os.MkdirAll(filepath.Dir(lock), 0o755), os.WriteFile(lock, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Comment(t.Context(), 1, ann, "locked"); !errors.Is(err, forge.ErrConflict) || !strings.Contains(err.Error(), lock) {
		t.Errorf("locked: %v", err)
	}
}

// TestAPushUnderWayIsNoReference: git makes an empty lock first, and may die then.
func TestAPushUnderWayIsNoReference(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	f := openGit(t, g.repo)
	r, err := f.Open(t.Context(), proposal(write("registrations/its/new.cue", "// new\n")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{r.Branch, "request/0-before", "request/9-later"} {
		if err := os.WriteFile(filepath.Join(g.repo, "refs/heads", name+".lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(g.repo, "refs/heads/request/5-empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := f.List(t.Context(), ""); err != nil || len(list) != 1 || list[0].Branch != r.Branch {
		t.Errorf("%+v, %v", list, err)
	}
}
