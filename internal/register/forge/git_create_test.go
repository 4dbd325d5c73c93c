package forge_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
)

func first(changes ...forge.Change) forge.First {
	return forge.First{
		Branch: "trunk", Title: "A register", Body: "Of machines.", Author: forge.Person{Name: "Ann", Email: "ann@example.edu"},
		At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Changes: changes,
	}
}

// TestCreateGit: git finds a sound repository in which nothing is left to do.
func TestCreateGit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []forge.Change{write("a.txt", "a\n"), write("a/b.txt", "b\n"), write("a-b.txt", ""), write("z/y/x.txt", "x\n")}
	files[0].Path = "A.txt" // a file and a folder cannot have one name
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	commit, err := forge.CreateGit(t.Context(), dir, first(files...))
	if err != nil {
		t.Fatal(err)
	}
	g := gitRepo{t: t, repo: dir, work: dir}
	for want, args := range map[string][]string{
		"## trunk":                           {"status", "--porcelain", "--branch"},
		commit:                               {"rev-parse", "HEAD"},
		"A.txt\na-b.txt\na/b.txt\nz/y/x.txt": {"ls-tree", "-r", "--name-only", "HEAD"},
		"A register\n\nOf machines.":         {"log", "--format=%B"},
		"Ann ann@example.edu 2026-11-23T12:00:00+00:00 Ann": {"log", "--format=%an %ae %aI %cn"},
		"": {"fsck", "--strict"},
	} {
		if got := g.run(dir, args...); got != want {
			t.Errorf("git %v: %q, want %q", args, got, want)
		}
	}
	if _, err := forge.CreateGit(t.Context(), dir, first(files...)); !errors.Is(err, forge.ErrInvalid) {
		t.Errorf("a repository that is there already: %v", err)
	}
	if got := g.run(dir, "rev-parse", "HEAD"); got != commit {
		t.Errorf("and now it is at %s", got)
	}
}

// TestCreateGitRefuses: what cannot be committed leaves no repository.
func TestCreateGitRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*forge.First){
		"no name":     func(f *forge.First) { f.Author.Name = "" },
		"a long name": func(f *forge.First) { f.Author.Name = "a\nb" },
		"no time":     func(f *forge.First) { f.At = time.Time{} },
		"no branch":   func(f *forge.First) { f.Branch = "a..b" },
		"nothing":     func(f *forge.First) { f.Changes = nil },
		"a removal":   func(f *forge.First) { f.Changes = append(f.Changes, remove("b")) },
		"git's own":   func(f *forge.First) { f.Changes = append(f.Changes, write(".git/config", "")) },
		"no title":    func(f *forge.First) { f.Title = " " },
	} {
		dir := t.TempDir()
		f := first(write("a", "a\n"))
		change(&f)
		if _, err := forge.CreateGit(t.Context(), dir, f); !errors.Is(err, forge.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

func TestUsualPerson(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[user]\n\tname = Ann\n\temail = ann@example.edu\n[author]\n\temail = a@example.edu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := forge.UsualPerson(); err != nil || p != (forge.Person{Name: "Ann", Email: "a@example.edu"}) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[user\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := forge.UsualPerson(); err == nil {
		t.Errorf("a damaged configuration: %+v", p)
	}
}
