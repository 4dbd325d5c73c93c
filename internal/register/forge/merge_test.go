package forge_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/gitsync"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// TestMergeAsGitMerges: what comes of a merge is what git itself makes of it, or it
// is refused.
func TestMergeAsGitMerges(t *testing.T) {
	t.Parallel()
	w := func(path, text string) forgetest.Change { return forgetest.Change{Path: path, Content: text} }
	rm := func(path string) forgetest.Change { return forgetest.Change{Path: path, Remove: true} }
	const alarm, old, mfp = "registrations/its/alarm.cue", "registrations/lsa-physics/old.cue", "registrations/lsa-physics/mfp.cue"
	for name, c := range map[string]struct {
		request, main []forgetest.Change
		conflict      string
	}{
		"nothing meanwhile":         {request: []forgetest.Change{w("registrations/its/a.cue", "a")}},
		"other files":               {request: []forgetest.Change{w("registrations/its/a.cue", "a"), rm(old)}, main: []forgetest.Change{w("registrations/its/b.cue", "b"), w(mfp, "m")}},
		"the same":                  {request: []forgetest.Change{w(alarm, "new"), w("x/y/z.cue", "z")}, main: []forgetest.Change{w(alarm, "new"), w("x/y/z.cue", "z"), w("registrations/its/b.cue", "b")}},
		"one path, two contents":    {request: []forgetest.Change{w(alarm, "mine")}, main: []forgetest.Change{w(alarm, "theirs")}, conflict: alarm},
		"changed and removed":       {request: []forgetest.Change{w(alarm, "mine")}, main: []forgetest.Change{rm(alarm), w("registrations/its/c.cue", "c")}, conflict: alarm},
		"removed and changed":       {request: []forgetest.Change{rm(old)}, main: []forgetest.Change{w(old, "theirs")}, conflict: old},
		"two new files":             {request: []forgetest.Change{w("n.cue", "mine")}, main: []forgetest.Change{w("n.cue", "theirs")}, conflict: "n.cue"},
		"file and folder":           {request: []forgetest.Change{w("n", "mine")}, main: []forgetest.Change{w("n/x.cue", "theirs")}, conflict: "n"},
		"a file in the last folder": {request: []forgetest.Change{rm(alarm)}, main: []forgetest.Change{w("registrations/its/new.cue", "n")}, conflict: "registrations/its/new.cue"},
		"a folder that goes":        {request: []forgetest.Change{rm(alarm)}, main: []forgetest.Change{w(mfp, "m")}},
		"modes":                     {request: []forgetest.Change{{Path: alarm, Content: "elsewhere", Mode: "120000"}}, main: []forgetest.Change{w(mfp, "m")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := gitHome(t, true)
			f := h.forge.(*forge.Git)
			h.push("request/4-mine", c.request...)
			if c.main != nil {
				h.push("main", c.main...)
			}
			r, err := f.Get(t.Context(), 4)
			if err != nil {
				t.Fatal(err)
			}
			before := h.tip("main")
			commit, err := f.Merge(t.Context(), 4, r.Head, ann, noon)
			if c.conflict != "" {
				if !errors.Is(err, forge.ErrConflict) || !strings.Contains(err.Error(), c.conflict+" ") || h.tip("main") != before {
					t.Errorf("%s, %v; want a conflict of %s", commit, err, c.conflict)
				}
				return
			}
			if err != nil || h.tip("main") != commit {
				t.Fatalf("%s, %v; main is %s", commit, err, h.tip("main"))
			}
			// Git's own merge of the same two commits.
			hand := newHand(t, f)
			hand.run(hand.work, "checkout", "-q", "-B", "again", before)
			hand.run(hand.work, "merge", "-q", "--no-ff", "-m", "again", r.Head)
			if got, want := hand.run(hand.work, "rev-parse", commit+"^{tree}"), hand.run(hand.work, "rev-parse", "again^{tree}"); got != want {
				t.Errorf("tree %s, git makes %s:\n%s", got, want, hand.run(hand.work, "diff", "--stat", want, got))
			}
			hand.run(hand.work, "fsck", "--strict", "--no-dangling")
			if got := hand.run(hand.work, "log", "-1", "--format=%P|%an <%ae>|%cn|%cI|%s", commit); got != before+" "+r.Head+"|Ann <ann@example.edu>|Ann|2026-11-25T12:00:00Z|Merge branch 'request/4-mine'" &&
				got != before+" "+r.Head+"|Ann <ann@example.edu>|Ann|2026-11-25T12:00:00+00:00|Merge branch 'request/4-mine'" {
				t.Errorf("commit: %s", got)
			}
			// What gatepost why reads out of it.
			workdir, err := gitsync.OpenWorkdir(hand.work)
			if err != nil {
				t.Fatal(err)
			}
			at, err := gitsync.ParseHash(commit)
			if err != nil {
				t.Fatal(err)
			}
			if why, err := workdir.Repo.Latest(t.Context(), at, c.request[0].Path); name != "the same" && (err != nil || why.Request != 4 || why.Branch != "request/4-mine" ||
				why.Landed != "Ann <ann@example.edu>" || why.Merge != commit || why.Author != "Somebody <somebody@example.edu>") {
				t.Errorf("why: %+v, %v", why, err)
			}
			workdir.Close()
			again, err := f.Merge(t.Context(), 4, r.Head, ann, noon.Add(time.Hour))
			if err != nil || again != commit {
				t.Errorf("again: %s, %v", again, err)
			}
			got, err := f.Get(t.Context(), 4)
			if err != nil || got.State != forge.Merged || got.MergedAs != commit || got.MergedBy.Login != "Ann <ann@example.edu>" || !got.MergedAt.Equal(noon) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// newHand is a clone of a bare repository, with its branches.
func newHand(t *testing.T, f *forge.Git) gitRepo {
	t.Helper()
	dir := t.TempDir()
	g := gitRepo{t: t, repo: f.Dir(), work: filepath.Join(dir, "hand")}
	g.run(dir, "clone", "-q", g.repo, g.work)
	return g
}

// TestMergeOfWhatWasJudged: another head is another request.
func TestMergeOfWhatWasJudged(t *testing.T) {
	t.Parallel()
	h := gitHome(t, true)
	f := h.forge.(*forge.Git)
	r, err := f.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
	if err != nil {
		t.Fatal(err)
	}
	h.push(r.Branch, forgetest.Change{Path: "registrations/its/evil.cue", Content: "// evil\n"})
	before := h.tip("main")
	if _, err := f.Merge(t.Context(), 1, r.Head, ann, noon); !errors.Is(err, forge.ErrMoved) || h.tip("main") != before {
		t.Errorf("a head that moved: %v", err)
	}
	for name, bad := range map[string]func() error{
		"no person": func() error { _, err := f.Merge(t.Context(), 1, r.Head, forge.Person{}, noon); return err },
		"no time":   func() error { _, err := f.Merge(t.Context(), 1, r.Head, ann, time.Time{}); return err },
		"no commit": func() error { _, err := f.Merge(t.Context(), 1, "main", ann, noon); return err },
	} {
		if err := bad(); !errors.Is(err, forge.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Close(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	now, err := f.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Merge(t.Context(), 1, now.Head, ann, noon); !errors.Is(err, forge.ErrConflict) {
		t.Errorf("a closed one: %v", err)
	}
	h.push("request/9-orphan")
	hand := newHand(t, f)
	hand.run(hand.work, "checkout", "-q", "--orphan", "orphan")
	hand.run(hand.work, "commit", "-q", "-m", "From nowhere")
	hand.run(hand.work, "push", "-q", "-f", "origin", "HEAD:request/9-orphan")
	if _, err := f.Merge(t.Context(), 9, h.tip("request/9-orphan"), ann, noon); !errors.Is(err, forge.ErrConflict) {
		t.Errorf("nothing in common: %v", err)
	}
}

// TestCrossingHistoriesAreLeftToAPerson: with two best common ancestors, which of
// them counts decides what is a change.
func TestCrossingHistoriesAreLeftToAPerson(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	g.run(g.work, "checkout", "-q", "-b", "side")
	g.change(forgetest.Change{Path: "a", Content: "1"})
	g.run(g.work, "commit", "-q", "-m", "side")
	g.run(g.work, "checkout", "-q", "main")
	g.change(forgetest.Change{Path: "b", Content: "1"})
	g.run(g.work, "commit", "-q", "-m", "main")
	g.run(g.work, "checkout", "-q", "-b", "request/1-x", "main")
	g.run(g.work, "merge", "-q", "--no-ff", "-m", "take side", "side")
	g.run(g.work, "checkout", "-q", "main")
	g.run(g.work, "merge", "-q", "--no-ff", "-m", "side into main", "side")
	g.run(g.work, "checkout", "-q", "request/1-x")
	g.change(forgetest.Change{Path: "c", Content: "1"})
	g.run(g.work, "commit", "-q", "-m", "more")
	g.run(g.work, "push", "-q", "origin", "main", "request/1-x")
	f := openGit(t, g.repo)
	head := g.run(g.work, "rev-parse", "request/1-x")
	if _, err := f.Merge(t.Context(), 1, head, ann, noon); !errors.Is(err, forge.ErrConflict) || !strings.Contains(err.Error(), "crosses") {
		t.Errorf("crossing: %v", err)
	}
	g.run(g.work, "merge", "-q", "--no-ff", "-m", "up to date", "main")
	g.run(g.work, "push", "-q", "origin", "request/1-x")
	if _, err := f.Merge(t.Context(), 1, g.run(g.work, "rev-parse", "HEAD"), ann, noon); err != nil {
		t.Errorf("brought up to date: %v", err)
	}
}

// TestMergesAtOnce: every one lands, none takes another away, pushes included.
func TestMergesAtOnce(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	var list []forge.Request
	for i := range 4 {
		r, err := openGit(t, g.repo).Open(t.Context(), proposal(write(fmt.Sprintf("registrations/its/n%d.cue", i), "// new\n")))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	g.run(g.repo, "pack-refs", "--all", "--prune")
	var all sync.WaitGroup
	for _, r := range list {
		all.Go(func() {
			if _, err := openGit(t, g.repo).Merge(t.Context(), r.Number, r.Head, ann, noon); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	names := g.run(g.repo, "ls-tree", "--name-only", "main:registrations/its")
	if names != "alarm.cue\nn0.cue\nn1.cue\nn2.cue\nn3.cue" {
		t.Errorf("main has:\n%s", names)
	}
	g.run(g.repo, "fsck", "--strict", "--no-dangling")
	if left, err := filepath.Glob(filepath.Join(g.repo, "refs/heads/*.lock")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestACheckoutIsNotMergedInto: its files would be left behind, and the next commit
// there would undo the merge.
func TestACheckoutIsNotMergedInto(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, false)
	f := openGit(t, g.repo)
	r, err := f.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
	if err != nil {
		t.Fatal(err)
	}
	before := g.run(g.work, "rev-parse", "main")
	if _, err := f.Merge(t.Context(), 1, r.Head, ann, noon); !errors.Is(err, forge.ErrConflict) || g.run(g.work, "rev-parse", "main") != before {
		t.Errorf("checked out: %v", err)
	}
	g.run(g.work, "checkout", "-q", "-b", "elsewhere")
	linked := filepath.Join(t.TempDir(), "linked")
	g.run(g.work, "worktree", "add", "-q", linked, "main")
	if _, err := f.Merge(t.Context(), 1, r.Head, ann, noon); !errors.Is(err, forge.ErrConflict) {
		t.Errorf("checked out in a linked work tree: %v", err)
	}
	if err := os.RemoveAll(linked); err != nil {
		t.Fatal(err)
	}
	g.run(g.work, "worktree", "prune")
	if _, err := f.Merge(t.Context(), 1, r.Head, ann, noon); err != nil {
		t.Errorf("not checked out: %v", err)
	}
}
