package gitsync_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
)

// shownDiff is a diff in a line a path.
func shownDiff(list []gitsync.Change) string {
	var b strings.Builder
	side := func(e gitsync.Entry) string {
		switch {
		case e.Path == "":
			return "-"
		case e.Unusable:
			return "unusable"
		}
		return e.Mode.String()[:4] + e.Hash.String()[:3]
	}
	for _, c := range list {
		fmt.Fprintf(&b, "%s %s %s\n", c.Path, side(c.Old), side(c.New))
	}
	return b.String()
}

// TestDiffIsWhatTwoListsDiffer: over every pair of odd commits, Diff says what
// comparing two whole lists says.
func TestDiffIsWhatTwoListsDiffer(t *testing.T) {
	h := newGitHost(t)
	blob := func(content string) string {
		h.write("blob", content)
		return h.run(h.work, "hash-object", "-w", "blob")
	}
	one, two := blob("1"), blob("2")
	dir := func(entries ...string) string { return h.tree(entries...) }
	inner := dir("100644 a.cue", one, "100644 b.cue", two)
	changed := dir("100644 a.cue", two, "100644 b.cue", two)
	trees := map[string]string{
		"empty":        dir(),
		"one file":     dir("100644 x.cue", one),
		"folder":       dir("40000 registrations", dir("40000 a", inner, "40000 b", inner)),
		"changed":      dir("40000 registrations", dir("40000 a", inner, "40000 b", changed)),
		"executable":   dir("40000 registrations", dir("40000 a", dir("100755 a.cue", one), "40000 b", changed)),
		"file now":     dir("40000 registrations", dir("100644 a", one, "40000 b", inner)),
		"file itself":  dir("100644 registrations", one),
		"link":         dir("40000 registrations", dir("120000 a", one, "160000 b", strings.Repeat("12", 20))),
		"twice":        dir("40000 registrations", dir("40000 a", inner, "40000 a", changed)),
		"twice a file": dir("40000 registrations", dir("100644 a.cue", one, "100644 a.cue", two)),
		"unsorted":     dir("40000 registrations", dir("40000 b", inner, "40000 a", inner)),
		"bad names":    dir("40000 registrations", dir("40000 ..", inner, "100644 a\x07", one, "40000 c\xff", inner)),
		"deep":         deep(h, inner),
		"deep changed": deep(h, changed),
		"around":       dir("100644 a-b", one, "40000 a", inner, "100644 a.cue", one),
	}
	commits := map[string]gitsync.Hash{"none": {}}
	for name, tree := range trees {
		commits[name] = h.commitTree(tree)
	}
	m := mustOpen(t, gitsync.Options{Repository: h.work, Branch: "main"})
	for from, old := range commits {
		for to, new := range commits {
			if to == "none" {
				continue
			}
			for _, under := range [][]string{nil, {"registrations"}, {"registrations/a", "x.cue"}} {
				got, err := m.Diff(t.Context(), old, new, under...)
				if err != nil {
					t.Fatalf("%s to %s: %v", from, to, err)
				}
				if want := shownDiff(byLists(t, m, old, new, under)); shownDiff(got) != want {
					t.Errorf("%s to %s under %q:\n%swant\n%s", from, to, under, shownDiff(got), want)
				}
			}
		}
	}
	if _, err := m.Diff(t.Context(), gitsync.Hash{1}, commits["folder"]); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Errorf("from a commit that is not there: %v", err)
	}
}

// deep is a tree with a folder too many.
func deep(h *gitHost, inner string) string {
	for range 18 {
		inner = h.tree("40000 registrations", inner)
	}
	return inner
}

// byLists compares two commits by all that is in them.
func byLists(t *testing.T, m *gitsync.Mirror, old, new gitsync.Hash, under []string) []gitsync.Change {
	t.Helper()
	side := func(h gitsync.Hash) map[string]gitsync.Entry {
		out := map[string]gitsync.Entry{}
		if h.IsZero() {
			return out
		}
		list, err := m.Files(t.Context(), h, under...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if other, ok := out[e.Path]; ok && other != e { // the same path twice
				e.Unusable, e.Hash = true, gitsync.Hash{}
			}
			out[e.Path] = e
		}
		return out
	}
	was, is := side(old), side(new)
	var out []gitsync.Change
	for _, p := range sortedKeys(was, is) {
		a, b := was[p], is[p]
		if a.Unusable && b.Unusable && a.Odd == b.Odd && (a.Hash == b.Hash || a.Hash.IsZero()) {
			continue
		}
		if a != b {
			out = append(out, gitsync.Change{Path: p, Old: a, New: b})
		}
	}
	return out
}

func sortedKeys(maps ...map[string]gitsync.Entry) []string {
	var out []string
	for _, m := range maps {
		for k := range m {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestLine follows a branch through merges, and through a push that made
// another branch's tip its head.
func TestLine(t *testing.T) {
	h := newGitHost(t)
	names := map[string]string{}
	name := func(n string) gitsync.Hash {
		head := h.head()
		names[head.String()] = n
		return head
	}
	commit := func(n string) gitsync.Hash {
		h.run(h.work, "commit", "-q", "--allow-empty", "-m", n)
		return name(n)
	}
	first := commit("first")
	h.run(h.work, "checkout", "-q", "-b", "side")
	commit("side1")
	side := commit("side2")
	h.run(h.work, "checkout", "-q", "main")
	second := commit("second")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "merge", "side")
	merge := name("merge")
	third := commit("third")
	h.run(h.work, "checkout", "-q", "side")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "foxtrot", "main")
	foxtrot := name("foxtrot")
	last := commit("last")
	h.run(h.work, "checkout", "-q", "--orphan", "other")
	orphan := commit("orphan")
	m := mustOpen(t, gitsync.Options{Repository: h.work, Branch: "main"})
	for _, c := range []struct {
		old, new gitsync.Hash
		want     string
	}{
		{first, first, ""},
		{first, third, "second merge third"},
		{second, merge, "merge"},
		{side, third, "!merge third"},
		{third, last, "!foxtrot last"},
		{second, last, "!foxtrot last"},
		{first, foxtrot, "side1 side2 foxtrot"},
		{side, foxtrot, "foxtrot"},
	} {
		steps, err := m.Line(t.Context(), c.old, c.new, 10)
		var got []string
		base := c.old
		for _, s := range steps {
			text := names[s.Commit.String()]
			if s.Jump {
				text = "!" + text
			}
			if s.Base != base {
				t.Errorf("%s stands on %s", text, names[s.Base.String()])
			}
			base = s.Commit
			got = append(got, text)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("from %s to %s: %v, %v; want %s", names[c.old.String()], names[c.new.String()], got, err, c.want)
		}
	}
	if _, err := m.Line(t.Context(), first, last, 2); !errors.Is(err, gitsync.ErrTooMany) {
		t.Errorf("more than two: %v", err)
	}
	for _, pair := range [][2]gitsync.Hash{{third, second}, {orphan, third}, {first, orphan}} {
		if _, err := m.Line(t.Context(), pair[0], pair[1], 10); !errors.Is(err, gitsync.ErrNoPath) {
			t.Errorf("from %s to %s: %v", names[pair[0].String()], names[pair[1].String()], err)
		}
	}
	for _, c := range []struct{ a, b, want gitsync.Hash }{
		{first, first, first}, {second, side, first}, {third, side, side}, {third, foxtrot, third}, {third, last, third}, {last, second, second},
	} {
		if got, err := m.Fork(t.Context(), c.a, c.b); err != nil || got != c.want {
			t.Errorf("the fork of %s and %s is %s, %v", names[c.a.String()], names[c.b.String()], names[got.String()], err)
		}
	}
	if _, err := m.Fork(t.Context(), orphan, third); !errors.Is(err, gitsync.ErrNoPath) {
		t.Errorf("two histories: %v", err)
	}
}

// TestForkOfTwoThatTookEachOther: there is no single one.
func TestForkOfTwoThatTookEachOther(t *testing.T) {
	h := newGitHost(t)
	h.run(h.work, "commit", "-q", "--allow-empty", "-m", "first")
	h.run(h.work, "checkout", "-q", "-b", "side")
	h.run(h.work, "commit", "-q", "--allow-empty", "-m", "side1")
	h.run(h.work, "checkout", "-q", "main")
	h.run(h.work, "commit", "-q", "--allow-empty", "-m", "main1")
	main1 := h.run(h.work, "rev-parse", "main")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "main2", "side")
	h.run(h.work, "checkout", "-q", "side")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "side2", main1)
	m := mustOpen(t, gitsync.Options{Repository: h.work, Branch: "main"})
	a, _ := gitsync.ParseHash(h.run(h.work, "rev-parse", "main"))
	b, _ := gitsync.ParseHash(h.run(h.work, "rev-parse", "side"))
	if got, err := m.Fork(t.Context(), a, b); !errors.Is(err, gitsync.ErrNoPath) {
		t.Errorf("%s, %v", got, err)
	}
}

// TestRawIsWhatGitHasStored, byte for byte.
func TestRawIsWhatGitHasStored(t *testing.T) {
	h := newGitHost(t)
	head := h.commit("caf\xe9 \u00fc\n\nbody\n\n\n")
	m := h.mirror()
	mustFetch(t, m, head)
	want, err := exec.Command("git", "-C", h.work, "cat-file", "commit", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Raw(t.Context(), head); err != nil || string(got) != string(want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	large := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(large, []byte(strings.Repeat("all work and no play\n", 60_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run(h.work, "commit", "-q", "--allow-empty", "-F", large)
	head = h.push()
	mustFetch(t, m, head)
	if _, err := m.Raw(t.Context(), head); !errors.Is(err, gitsync.ErrTooLarge) {
		t.Errorf("a large one: %v", err)
	}
	if _, err := m.Raw(t.Context(), gitsync.Hash{1}); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Errorf("none: %v", err)
	}
}

// TestFetchRequest brings what the branch does not have, and only what was
// asked for.
func TestFetchRequest(t *testing.T) {
	h := newGitHost(t)
	head := h.commit("first")
	m := h.mirror()
	mustFetch(t, m, head)
	h.write("squashed", "x")
	h.run(h.work, "add", "-A")
	h.run(h.work, "commit", "-q", "-m", "of a request")
	h.run(h.work, "push", "-q", "origin", "HEAD:refs/pull/7/head")
	want := h.head()
	h.run(h.work, "reset", "-q", "--hard", "HEAD~1")
	if _, err := m.Raw(t.Context(), want); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Fatal(err)
	}
	if err := m.FetchRequest(t.Context(), 8, want); !errors.Is(err, gitsync.ErrBranchGone) {
		t.Errorf("a request that is not there: %v", err)
	}
	if err := m.FetchRequest(t.Context(), 7, gitsync.Hash{1}); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Errorf("another head: %v", err)
	}
	for range 2 {
		if err := m.FetchRequest(t.Context(), 7, want); err != nil {
			t.Error(err)
		}
		h.set(func(h *gitHost) { h.down = true }) // it is not asked again
	}
	if _, err := m.Raw(t.Context(), want); err != nil {
		t.Error(err)
	}
	h.set(func(h *gitHost) { h.down = false })
	mustFetch(t, m, head)
}

// TestDiffOfFoldersWithoutAFile: folders that name the same pair of folders
// again and again, and hold no file in the end, are compared once each.
func TestDiffOfFoldersWithoutAFile(t *testing.T) {
	h := newGitHost(t)
	bomb := func(core string) gitsync.Hash {
		for range 12 {
			var entries []string
			for i := range 40 {
				entries = append(entries, fmt.Sprintf("40000 %02d", i), core)
			}
			core = h.tree(entries...)
		}
		return h.commitTree(core)
	}
	one := bomb(h.tree())
	two := bomb(h.tree("40000 x", h.tree()))
	m := mustOpen(t, gitsync.Options{Repository: h.work, Branch: "main"})
	if got, err := m.Diff(t.Context(), one, two); err != nil || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}
