package gitsync_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"example.edu/gatepost/internal/register/gitsync"
)

// FuzzResolve: whatever a person writes for a commit, it is one of this
// repository or none, and the answer comes at once.
func FuzzResolve(f *testing.F) {
	for _, rev := range []string{
		"HEAD", "main", "HEAD~1", "HEAD^2", "HEAD~999999999", "HEAD^^^^", "@", "@{1}", "main@{yesterday}", "HEAD^{tree}", "HEAD^{/c}", "HEAD^{}", ":/c", ":/(a+)+$", "HEAD:file", ":0:file",
		"refs/heads/main", "../../HEAD", "main..HEAD", "-h", "0000000", "ffffffffffffffffffffffffffffffffffffffff", "\x00", "HEAD^{/!-x}", "^{}", "~", "@{-1}", "@{upstream}", "2026-11-23",
	} {
		f.Add(rev)
	}
	dir := f.TempDir()
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}})
	if err != nil {
		f.Fatal(err)
	}
	work, err := repo.Worktree()
	if err != nil {
		f.Fatal(err)
	}
	known := map[gitsync.Hash]bool{}
	for _, content := range []string{"a", "b", "c"} {
		err := os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o600)
		if err == nil {
			_, err = work.Add("file")
		}
		if err != nil {
			f.Fatal(err)
		}
		h, err := work.Commit(content, &git.CommitOptions{Author: &object.Signature{Name: "Ada", Email: "ada@umich.edu", When: time.Unix(1e9, 0)}})
		if err != nil {
			f.Fatal(err)
		}
		known[gitsync.Hash(h)] = true
	}
	w, err := gitsync.OpenWorkdir(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, rev string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		h, err := w.Resolve(ctx, rev)
		switch {
		case ctx.Err() != nil:
			t.Fatal("it takes too long")
		case err == nil && !known[h]:
			t.Errorf("%q is %v", rev, h)
		case err != nil && !errors.Is(err, gitsync.ErrNoCommit):
			t.Errorf("%q: %v", rev, err)
		}
	})
}
