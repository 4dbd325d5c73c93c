package gitsync_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
)

// A commit of a pull request may hold zeros without end that the next commit
// takes back: nobody sees them in the change, and the relay's memory must not
// hold them.
func TestZerosInTheHistory(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", "1")
	first := h.commit("first")
	dir := t.TempDir()
	m := h.mirror(func(o *gitsync.Options) { o.Dir, o.MaxObject = dir, 1<<20 })
	mustFetch(t, m, first)

	zeros := filepath.Join(h.work, "zeros")
	if err := os.WriteFile(zeros, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(zeros, 8<<20); err != nil { // takes no space
		t.Fatal(err)
	}
	h.commit("zeros")
	if err := os.Remove(zeros); err != nil {
		t.Fatal(err)
	}
	h.commit("as if nothing had been")
	if _, err := m.Fetch(t.Context()); !errors.Is(err, gitsync.ErrTooLarge) {
		t.Errorf("Fetch: %v", err)
	}
	if list, err := m.Files(t.Context(), first); err != nil || len(list) != 1 {
		t.Errorf("what was there before: %v, %v", list, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "register.git", "objects", "pack", "tmp_*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
