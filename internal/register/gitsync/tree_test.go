package gitsync_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
)

func TestFilesOfACommit(t *testing.T) {
	h := newGitHost(t)
	h.write("README.md", "top")
	h.write("schema/site.cue", "site")
	h.write("registrations/a/One.cue", "1")
	h.write("registrations/a/one.cue", "2")
	h.write("registrations/a/caf\xe9.cue", "3")
	h.write("registrations/a/bell\a.cue", "4")
	h.write("registrations/b/run.cue", "5")
	if err := os.Chmod(filepath.Join(h.work, "registrations/b/run.cue"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(h.work, "registrations/b/link.cue")); err != nil {
		t.Fatal(err)
	}
	h.run(h.work, "add", ".")
	h.run(h.work, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",registrations/b/sub")
	h.run(h.work, "commit", "-q", "-m", "first")
	head := h.push()
	m := h.mirror()
	mustFetch(t, m, head)

	const below = `registrations/a/One.cue regular file
registrations/a/bell` + "\uFFFD" + `.cue regular file (the name holds a control character)
registrations/a/caf` + "\uFFFD" + `.cue regular file (the name is not valid UTF-8)
registrations/a/one.cue regular file (the name differs only in case from registrations/a/One.cue)
registrations/b/link.cue symlink
registrations/b/run.cue executable file
registrations/b/sub submodule
`
	for _, c := range []struct {
		under []string
		want  string
	}{
		{nil, "README.md regular file\n" + below + "schema/site.cue regular file\n"},
		{[]string{"registrations"}, below},
		{[]string{"registrations/", "registrations", "registrations/b"}, below},
		{[]string{"registrations", "schema/site.cue"}, below + "schema/site.cue regular file\n"},
		{[]string{"nothing", "schema/site.cue/below", "README.md/x"}, ""},
	} {
		got, err := m.Files(t.Context(), head, c.under...)
		if err != nil || paths(got) != c.want {
			t.Errorf("Files(%q) = %v\n%swant\n%s", c.under, err, paths(got), c.want)
		}
	}
	for dir, want := range map[string]int{"": 3, "registrations": 2, "registrations/a": 4, "registrations/b": 3, "registrations/c": -1, "README.md": -1, "registrations/b/link.cue": -1} {
		got, err := m.Folder(t.Context(), head, dir)
		if err != nil || len(got) != max(want, 0) || (got == nil) != (want < 0) {
			t.Errorf("Folder(%q) = %v, %v, want %d", dir, got, err, want)
		}
		if _, raw := got["caf\xe9.cue"]; dir == "registrations/a" && !raw || dir == "" && !got["registrations"].Folder ||
			dir == "registrations/b" && (got["sub"].Mode != gitsync.Submodule || got["run.cue"].Mode != gitsync.Executable) {
			t.Errorf("Folder(%q) = %v", dir, got)
		}
	}
	if _, err := m.Files(t.Context(), gitsync.Hash{1}); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Errorf("files of no commit: %v", err)
	}
}

// What is too deep is told, and keeps nobody from the other files.
func TestTreesAreBoundedInDepth(t *testing.T) {
	h := newGitHost(t)
	h.write("a", "1")
	h.write(strings.Repeat("d/", 16)+"f", "x")
	h.write(strings.Repeat("d/", 17)+"f", "x")
	head := h.commit("deep")
	m := h.mirror()
	mustFetch(t, m, head)
	want := "a regular file\n" + strings.Repeat("d/", 16) + "d special file (it is a folder inside too many others)\n" +
		strings.Repeat("d/", 16) + "f regular file\n"
	if list, err := m.Files(t.Context(), head); err != nil || paths(list) != want {
		t.Errorf("Files: %v\n%s", err, paths(list))
	}
	w, err := gitsync.OpenWorkdir(h.work)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if list, err := w.DiskFiles(t.Context()); err != nil || paths(list) != want {
		t.Errorf("DiskFiles: %v\n%s", err, paths(list))
	}
}

// A tree may hold one folder twice, and that the next twice, and no
// file at all, 2^15 ways to nothing.
func TestFoldersWithoutFiles(t *testing.T) {
	h := newGitHost(t)
	tree := h.tree()
	for range 15 {
		tree = h.tree("40000 a", tree, "40000 b", tree)
	}
	head := h.commitTree(tree)
	m := h.mirror()
	mustFetch(t, m, head)
	if list, err := m.Files(t.Context(), head); err != nil || len(list) != 0 {
		t.Errorf("Files: %v\n%s", err, paths(list))
	}
}

// A tree that git would not write can hold a name twice. Which of the two a
// checkout shows is chance, so neither is used.
func TestANameThatStandsTwice(t *testing.T) {
	h := newGitHost(t)
	h.write("a", "good")
	h.write("b", "bad")
	h.commit("files")
	good, bad := h.run(h.work, "rev-parse", "HEAD:a"), h.run(h.work, "rev-parse", "HEAD:b")
	head := h.commitTree(h.tree("100644 a", good, "100644 a", bad, "100644 c", good))
	m := h.mirror()
	mustFetch(t, m, head)
	list, err := m.Files(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Unusable != (e.Path == "a") {
			t.Errorf("%+v", e)
		}
	}
	if len(list) != 3 {
		t.Errorf("%s", paths(list))
	}
}

func TestReadIsBounded(t *testing.T) {
	h := newGitHost(t)
	h.write("f", "12345")
	head := h.commit("first")
	m := h.mirror()
	mustFetch(t, m, head)
	list, err := m.Files(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := m.Read(t.Context(), list[0].Hash, 5); err != nil || string(data) != "12345" {
		t.Errorf("Read = %q, %v", data, err)
	}
	var large *gitsync.TooLarge
	if _, err := m.Read(t.Context(), list[0].Hash, 4); !errors.As(err, &large) || large.Size != 5 || !errors.Is(err, gitsync.ErrTooLarge) {
		t.Errorf("Read of too much: %v", err)
	}
	if n, err := m.Size(t.Context(), list[0].Hash); err != nil || n != 5 {
		t.Errorf("Size = %d, %v", n, err)
	}
}

func TestHistoryTellsWhoLetAFileIn(t *testing.T) {
	h := newGitHost(t)
	const path = "registrations/a/one.cue"
	h.write("other", "0")
	h.commit("start")
	h.write(path, "1")
	pushed := h.commit("Pushed \x1b[31mred")
	h.run(h.work, "checkout", "-q", "-b", "form/7")
	h.write(path, "2")
	h.commit("Wrote two (#99)")
	writer := h.head()
	h.write("unrelated", "x")
	h.commit("More")
	h.run(h.work, "checkout", "-q", "main")
	h.write("other", "1")
	h.commit("In between")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "Merge pull request #12 from physics/form-7\n\nPrinters", "form/7")
	merge := h.push()
	h.write(path, "3")
	squash := h.commit("Renew the printers (#31)")
	if err := os.Remove(filepath.Join(h.work, path)); err != nil {
		t.Fatal(err)
	}
	head := h.commit("Remove (#40)")
	m := h.mirror()
	mustFetch(t, m, head)

	got, err := m.History(t.Context(), head, path)
	if err != nil {
		t.Fatal(err)
	}
	want := []gitsync.Revision{
		{Commit: head, Subject: "Remove (#40)", Request: 40, Removed: true},
		{Commit: squash, Subject: "Renew the printers (#31)", Request: 31},
		{Commit: writer, Subject: "Wrote two (#99)", Request: 12, Branch: "physics/form-7", Merge: merge.String(), MergedBy: "Ada <ada@example.edu>"},
		{Commit: pushed, Subject: "Pushed  [31mred"},
	}
	if len(got) != len(want) {
		t.Fatalf("History = %+v", got)
	}
	for i := range want {
		if got[i].Time.IsZero() {
			t.Errorf("revision %d has no time", i)
		}
		got[i].Time = time.Time{}
		want[i].Author, want[i].Landed = "Ada <ada@example.edu>", "Post Master <pm@example.edu>"
		if got[i] != want[i] {
			t.Errorf("revision %d\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	if latest, err := m.Latest(t.Context(), merge, path); err != nil || latest.Request != 12 || latest.Commit != writer {
		t.Errorf("Latest = %+v, %v", latest, err)
	}
	if _, err := m.Latest(t.Context(), head, "registrations/never.cue"); !errors.Is(err, gitsync.ErrNoPath) {
		t.Errorf("Latest of what never was: %v", err)
	}
	c, err := m.Describe(t.Context(), merge)
	if err != nil || c.Committer != "Post Master <pm@example.edu>" || len(c.Parents) != 2 {
		t.Errorf("Describe = %+v, %v", c, err)
	}
	if at, err := m.At(t.Context(), head, time.Now().Add(time.Hour)); err != nil || at != head {
		t.Errorf("At now = %v, %v", at, err)
	}
	if _, err := m.At(t.Context(), head, time.Unix(0, 0)); !errors.Is(err, gitsync.ErrNoCommit) {
		t.Errorf("At the beginning of time: %v", err)
	}
}

func TestResolve(t *testing.T) {
	h := newGitHost(t)
	first := h.commit("first")
	h.run(h.work, "tag", "-a", "-m", "t", "v1")
	h.run(h.work, "push", "-q", "origin", "v1")
	second := h.commit("second")
	w, err := gitsync.OpenWorkdir(h.work)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for rev, want := range map[string]gitsync.Hash{
		"HEAD": second, "HEAD~1": first, "main": second, "v1": first, "origin/main": second, "HEAD^": first,
		first.String(): first, first.String()[:8]: first,
	} {
		if got, err := w.Resolve(t.Context(), rev); err != nil || got != want {
			t.Errorf("Resolve(%q) = %s, %v; want %s", rev, got, err, want)
		}
	}
	for _, rev := range []string{"", "nothing", "HEAD~9", "-x", "@{", "main..HEAD", strings.Repeat("a", 1000), "\x00"} {
		if got, err := w.Resolve(t.Context(), rev); !errors.Is(err, gitsync.ErrNoCommit) {
			t.Errorf("Resolve(%q) = %s, %v", rev, got, err)
		}
	}
}

func TestWorkdirReadsTheDiskAndFollowsNothing(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", "committed")
	head := h.commit("first")
	h.write("registrations/a/one.cue", "changed")
	h.write("registrations/a/new.cue", "new")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(h.work, p) }
	if err := errors.Join(
		os.Symlink(secret, at("registrations/a/link.cue")),
		os.Symlink("one.cue", at("registrations/a/inside.cue")),
		os.Symlink("a", at("registrations/folder")),
		os.MkdirAll(at("registrations/sub/.git"), 0o755),
		syscall.Mkfifo(at("registrations/a/pipe.cue"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	w, err := gitsync.OpenWorkdir(at("registrations/a")) // from below
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if w.Top() != h.work {
		t.Errorf("Top = %s", w.Top())
	}
	list, err := w.DiskFiles(t.Context(), "registrations", "schema/site.cue")
	const want = `registrations/a/inside.cue symlink
registrations/a/link.cue symlink
registrations/a/new.cue regular file
registrations/a/one.cue regular file
registrations/a/pipe.cue special file
registrations/folder symlink
registrations/sub submodule
`
	if err != nil || paths(list) != want {
		t.Errorf("DiskFiles = %v\n%s", err, paths(list))
	}
	if data, err := w.DiskRead(t.Context(), "registrations/a/one.cue", 100); err != nil || string(data) != "changed" {
		t.Errorf("DiskRead = %q, %v", data, err)
	}
	if _, err := w.DiskRead(t.Context(), "registrations/a/one.cue", 6); !errors.Is(err, gitsync.ErrTooLarge) {
		t.Errorf("DiskRead of too much: %v", err)
	}
	for _, p := range []string{
		"registrations/a/link.cue", "registrations/a/inside.cue", "registrations/folder/one.cue", "registrations/a/pipe.cue",
		"registrations/a", "../secret", "/etc/passwd", "registrations/../registrations/a/one.cue", "", "nothing",
	} {
		if data, err := w.DiskRead(t.Context(), p, 100); err == nil {
			t.Errorf("DiskRead(%q) = %q", p, data)
		}
	}
	base, err := w.Files(t.Context(), head, "registrations")
	if err != nil || paths(base) != "registrations/a/one.cue regular file\n" {
		t.Errorf("Files = %v\n%s", err, paths(base))
	}
	if data, err := w.Read(t.Context(), base[0].Hash, 100); err != nil || string(data) != "committed" {
		t.Errorf("Read = %q, %v", data, err)
	}
}

func TestWorkdirOutsideGit(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := gitsync.OpenWorkdir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if list, err := w.DiskFiles(t.Context()); err != nil || paths(list) != "f regular file\n" {
		t.Errorf("DiskFiles = %v, %s", err, paths(list))
	}
	if _, err := w.Resolve(t.Context(), "HEAD"); !errors.Is(err, gitsync.ErrNoRepository) {
		t.Errorf("Resolve: %v", err)
	}
	if _, err := gitsync.OpenWorkdir(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a folder that is not there was opened")
	}
}

// What git's index says of a file counts as long as nothing has touched the
// file since.
func TestDiskFilesKnowWhatGitHasLookedInto(t *testing.T) {
	h := newGitHost(t)
	for _, name := range []string{"same", "edited", "same size", "touched back", "executable", "replaced", "staged", "unstaged", "skipped"} {
		h.write(name, "one")
	}
	h.write("sub/same", "two")
	head := h.commit("first")
	// Git itself leaves out what it wrote in the same instant as its index.
	old := time.Now().Add(-time.Hour)
	list, err := filepath.Glob(filepath.Join(h.work, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(list, filepath.Join(h.work, "sub/same")) {
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	h.run(h.work, "update-index", "--refresh")
	h.write("edited", "three")
	h.write("same size", "ten")
	h.write("touched back", "ten")
	h.write("untracked", "one")
	for _, f := range []string{"same size", "touched back"} {
		if err := os.Chtimes(filepath.Join(h.work, f), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(h.work, "executable"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.work, "replaced")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("same", filepath.Join(h.work, "replaced")); err != nil {
		t.Fatal(err)
	}
	h.write("staged", "three")
	if err := os.Chtimes(filepath.Join(h.work, "staged"), old, old); err != nil {
		t.Fatal(err)
	}
	h.run(h.work, "add", "staged")
	h.run(h.work, "rm", "-q", "--cached", "unstaged")
	h.run(h.work, "update-index", "--skip-worktree", "skipped")

	w, err := gitsync.OpenWorkdir(h.work)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	files, err := w.DiskFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, e := range files {
		if e.Hash.IsZero() {
			continue
		}
		known = append(known, e.Path)
		if want := h.run(h.work, "hash-object", e.Path); e.Hash.String() != want {
			t.Errorf("%s is %s, and was told to be %s", e.Path, want, e.Hash)
		}
	}
	if want := []string{"same", "staged", "sub/same"}; !slices.Equal(known, want) {
		t.Errorf("known are %q, want %q", known, want)
	}
	if _, err := w.Files(t.Context(), head); err != nil {
		t.Error(err)
	}
}
