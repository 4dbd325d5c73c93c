package forge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
)

// TestWhatIsSettled: every object that a proposal makes is among those that are
// brought to the disk before the request has its number.
func TestWhatIsSettled(t *testing.T) {
	dir := t.TempDir()
	first := []Change{{Path: "a/b/one.cue", Data: []byte("1\n")}, {Path: "a/two.cue", Data: []byte("2\n")}, {Path: "c/three.cue", Data: []byte("3\n")}}
	for _, c := range first {
		at := filepath.Join(dir, c.Path)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, c.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := CreateGit(t.Context(), dir, First{Branch: "main", Title: "First", Author: Person{"P", "p@example.edu"}, At: time.Now(), Changes: first}); err != nil {
		t.Fatal(err)
	}
	loose := func() map[string]bool {
		files, err := filepath.Glob(filepath.Join(dir, ".git", "objects", "??", "*"))
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]bool{}
		for _, f := range files {
			m[filepath.Base(filepath.Dir(f))+filepath.Base(f)] = true
		}
		return m
	}
	repo, err := git.PlainOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	head, err := repo.Head()
	if err != nil {
		t.Fatal(err)
	}
	c, err := repo.CommitObject(head.Hash())
	if err != nil {
		t.Fatal(err)
	}
	before := loose()
	changes := []Change{{Path: "a/b/one.cue", Data: []byte("new\n")}, {Path: "d/e/f/four.cue", Data: []byte("4\n")}, {Path: "c/three.cue", Remove: true}, {Path: "five.cue", Data: []byte("5\n")}}
	tree, err := grow(repo, c.TreeHash, changes)
	if err != nil {
		t.Fatal(err)
	}
	list, err := changedObjects(repo, tree, changes)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, h := range list {
		named[h.String()] = true
	}
	made := 0
	for name := range loose() {
		if before[name] {
			continue
		}
		if made++; !named[name] {
			t.Errorf("%s was made, and is not brought to the disk; these are: %s", name, strings.Join(keys(named), " "))
		}
	}
	if made < 8 {
		t.Errorf("only %d objects were made", made)
	}
	if err := (&Git{dir: dir, gitDir: filepath.Join(dir, ".git")}).settle(list...); err != nil {
		t.Error(err)
	}
}

func keys(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
