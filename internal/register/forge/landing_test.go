package forge_test

import (
	"testing"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
)

// TestLanding: with git's own fast-forwards and squashes, and what only looks
// like one.
func TestLanding(t *testing.T) {
	t.Parallel()
	g := newGitRepo(t, false)
	f := openGit(t, g.repo)
	const a, b, c, d = "registrations/its/a.cue", "registrations/its/b.cue", "registrations/its/c.cue", "registrations/its/d.cue"
	open := func(changes ...forge.Change) forge.Request {
		t.Helper()
		r, err := f.Open(t.Context(), proposal(changes...))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	expect := func(name, rev, path string, want forge.Landing) {
		t.Helper()
		if want.Number > 0 {
			want.Author, want.Title = "Octo Cat <octocat@example.edu>", "Register mfp3"
		}
		got, err := f.Landing(t.Context(), g.run(g.repo, "rev-parse", rev), path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	squash := func(branch, message string) {
		t.Helper()
		g.run(g.work, "merge", "-q", "--squash", branch)
		g.run(g.work, "commit", "-q", "-m", message)
	}
	first, second := open(write(a, "// a\n")), open(write(b, "// b\n"))
	expect("the beginning", "main", a, forge.Landing{})
	g.run(g.work, "merge", "-q", "--ff-only", first.Branch)
	expect("a fast-forward", "main", a, forge.Landing{Number: 1, Branch: first.Branch, Forward: true})
	squash(second.Branch, "The second")
	expect("a squash", "main", b, forge.Landing{Number: 2, Branch: second.Branch})
	expect("another path of it", "main", c, forge.Landing{})

	// A request made from there has the same content, and did not bring it.
	third := open(write(c, "// c\n"))
	expect("what others inherited", "main", b, forge.Landing{Number: 2, Branch: second.Branch})
	fourth := open(write(c, "// c\n"), write(d, "// d\n"))
	squash(third.Branch, "Which of the two?")
	expect("two that say the same", "main", c, forge.Landing{})
	g.run(g.work, "merge", "-q", "--no-ff", "--no-edit", fourth.Branch)
	expect("a merge speaks for itself", "main", d, forge.Landing{})

	// Taken out and put in again by hand: the request came in long ago.
	g.change(forgetest.Change{Path: d, Remove: true})
	g.run(g.work, "commit", "-q", "-m", "Out")
	expect("nobody's", "main", d, forge.Landing{})
	g.change(forgetest.Change{Path: d, Content: "// d\n"})
	g.run(g.work, "commit", "-q", "-m", "In again")
	expect("in again", "main", d, forge.Landing{})

	// A removal; and with its branch gone, a request is still known by its number.
	fifth := open(remove(b))
	squash(fifth.Branch, "Remove b")
	expect("a removal", "main", b, forge.Landing{Number: 5, Branch: fifth.Branch})
	g.run(g.work, "branch", "-q", "-D", fifth.Branch)
	expect("its branch is gone", "main", b, forge.Landing{Number: 5})

	// A clone follows the branches of its origin.
	clone := t.TempDir()
	g.run(clone, "clone", "-q", g.repo, ".")
	got, err := openGit(t, clone).Landing(t.Context(), g.run(g.repo, "rev-parse", first.Branch), a)
	if want := (forge.Landing{Number: 1, Branch: "origin/" + first.Branch, Forward: true, Author: "Octo Cat <octocat@example.edu>", Title: "Register mfp3"}); err != nil || got != want {
		t.Errorf("in a clone: %+v, %v", got, err)
	}
	if got, err := openGit(t, clone).Landing(t.Context(), "0123456789012345678901234567890123456789", a); err != nil || got.Number != 0 {
		t.Errorf("a commit that is not here: %+v, %v", got, err)
	}
	if _, err := openGit(t, clone).Landing(t.Context(), "main", a); err == nil {
		t.Error("main is taken for a commit")
	}
}
