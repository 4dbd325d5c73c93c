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

	"example.edu/gatepost/internal/register/forge"
)

func openGit(t *testing.T, dir string) *forge.Git {
	t.Helper()
	f, err := forge.OpenGit(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestACheckoutIsLeftAsItIs: somebody is working in it.
func TestACheckoutIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, false)
	for path, text := range map[string]string{"registrations/its/alarm.cue": "// half done\n", "registrations/its/untracked.cue": "// new\n"} {
		if err := os.WriteFile(filepath.Join(g.work, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g.run(g.work, "add", "registrations/its/alarm.cue")
	before := g.run(g.work, "status", "--porcelain=v2", "--branch") + g.run(g.work, "diff", "HEAD")
	index, err := os.ReadFile(filepath.Join(g.work, ".git", "index"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openGit(t, g.repo).Open(t.Context(), proposal(write("registrations/its/alarm.cue", "// proposed\n"))); err != nil {
		t.Fatal(err)
	}
	after := g.run(g.work, "status", "--porcelain=v2", "--branch") + g.run(g.work, "diff", "HEAD")
	now, err := os.ReadFile(filepath.Join(g.work, ".git", "index"))
	if before != after || err != nil || !slices.Equal(index, now) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestGitItselfFindsNothingWrong has git judge what was written: order of
// trees, modes, references.
func TestGitItselfFindsNothingWrong(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	r, err := openGit(t, g.repo).Open(t.Context(), proposal(
		write("registrations/lsa.cue", "1"), write("registrations/lsa/a.cue", "2"), write("registrations/lsa-physics/deep/er/x.cue", "3"),
		write("registrations/lsa-physics.cue", "4"), remove("registrations/its/alarm.cue"), write("a", "5"), write("a.b", "6"), write("a0/x", "7")))
	if err != nil {
		t.Fatal(err)
	}
	g.run(g.repo, "fsck", "--strict", "--no-dangling")
	if left, err := filepath.Glob(filepath.Join(g.repo, "gatepost-ref-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	got := g.run(g.repo, "diff", "--name-status", "--no-renames", "main", r.Branch)
	want := "A\ta\nA\ta.b\nA\ta0/x\nD\tregistrations/its/alarm.cue\nA\tregistrations/lsa-physics.cue\nA\tregistrations/lsa-physics/deep/er/x.cue\nA\tregistrations/lsa.cue\nA\tregistrations/lsa/a.cue"
	if got != want {
		t.Errorf("git diff:\n%s\nwant:\n%s", got, want)
	}
	if out := g.run(g.repo, "log", "-1", "--format=%an <%ae> %aI%n%B", r.Branch); out != "Octo Cat <octocat@example.edu> 2026-11-23T12:00:00+00:00\nRegister mfp3\n\nA printer in the print room." {
		t.Errorf("git log:\n%s", out)
	}
}

// TestTwoAtATimeGetTwoNumbers: from several processes as from one.
func TestTwoAtATimeGetTwoNumbers(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	const n = 8
	numbers := make([]int, n)
	var all sync.WaitGroup
	for i := range n {
		f := openGit(t, g.repo)
		all.Go(func() {
			r, err := f.Open(t.Context(), proposal(write(fmt.Sprintf("registrations/its/n%d.cue", i), "// new\n")))
			if err != nil {
				t.Error(err)
			}
			numbers[i] = r.Number
		})
	}
	all.Wait()
	slices.Sort(numbers)
	if want := []int{1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(numbers, want) {
		t.Errorf("numbers %v", numbers)
	}
}

func TestNumbersSurvivePackedReferences(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	f := openGit(t, g.repo)
	first, err := f.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
	if err != nil {
		t.Fatal(err)
	}
	g.run(g.repo, "branch", "-q", "-D", first.Branch)
	g.run(g.repo, "pack-refs", "--all", "--prune")
	g.run(g.repo, "gc", "-q", "--prune=now")
	second, err := f.Open(t.Context(), proposal(write("registrations/its/b.cue", "// b\n")))
	if err != nil || second.Number != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	if got, err := f.Get(t.Context(), 1); err != nil || got.State != forge.Closed || got.Head != first.Head {
		t.Errorf("the first: %+v, %v", got, err)
	}
}

func TestALinkedWorkTree(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, false)
	linked := filepath.Join(t.TempDir(), "linked")
	g.run(g.work, "worktree", "add", "-q", linked)
	r, err := openGit(t, linked).Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got := g.run(g.work, "rev-parse", r.Branch); got != r.Head {
		t.Errorf("in the main work tree: %s", got)
	}
	g.run(g.work, "rev-parse", "--verify", "refs/gatepost/requests/1")
}

func TestABranchMergedByFastForward(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	f := openGit(t, g.repo)
	r, err := f.Open(t.Context(), proposal(write("registrations/its/a.cue", "// a\n")))
	if err != nil {
		t.Fatal(err)
	}
	g.run(g.repo, "update-ref", "refs/heads/main", r.Head)
	got, err := f.Get(t.Context(), 1)
	if err != nil || got.State != forge.Merged || got.MergedAs != r.Head || got.Files != 1 || got.Title != r.Title {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNoAuthorNoCommit: git would not make one either.
func TestNoAuthorNoCommit(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, true)
	f := openGit(t, g.repo)
	for _, who := range []forge.Person{{}, {Name: "A"}, {Email: "a@example.edu"}, {Name: "A\nB", Email: "a@example.edu"}, {Name: "A <b>", Email: "a@example.edu"}} {
		p := proposal(write("registrations/its/a.cue", "// a\n"))
		p.Author = who
		if _, err := f.Open(t.Context(), p); !errors.Is(err, forge.ErrInvalid) {
			t.Errorf("%q: %v", who, err)
		}
	}
}

func TestOpenGitSaysWhereThereIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := forge.OpenGit(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("an empty folder: %v", err)
	}
}
