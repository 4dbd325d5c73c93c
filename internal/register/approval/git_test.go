package approval

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
)

// A repo is a git repository that git itself writes, and a mirror that reads
// it.
type repo struct {
	*gitsync.Mirror
	t    *testing.T
	dir  string
	date string // of commits; "": now
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	needs(t, "git")
	r := &repo{t: t, dir: t.TempDir()}
	r.git("init", "-q", "-b", "main")
	var err error
	if r.Mirror, err = gitsync.Open(t.Context(), gitsync.Options{Repository: r.dir}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@umich.edu", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@umich.edu")
	if r.date != "" {
		cmd.Env = append(cmd.Env, "GIT_AUTHOR_DATE="+r.date, "GIT_COMMITTER_DATE="+r.date)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write writes files, "path content" in turn; "-" as content removes one.
func (r *repo) write(files ...string) {
	r.t.Helper()
	for i := 0; i+1 < len(files); i += 2 {
		full := filepath.Join(r.dir, files[i])
		if files[i+1] == "-" {
			if err := os.Remove(full); err != nil {
				r.t.Fatal(err)
			}
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(files[i+1]), 0o644)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// commit commits files and gives the hash; options go before "commit".
func (r *repo) commit(options []string, files ...string) gitsync.Hash {
	r.t.Helper()
	r.write(files...)
	r.git("add", "-A")
	r.git(append(options, "commit", "-q", "--allow-empty", "-m", "A change\n\nwith a body")...)
	return r.head()
}

func (r *repo) head() gitsync.Hash { return r.hash("HEAD") }

func (r *repo) hash(rev string) gitsync.Hash {
	r.t.Helper()
	h, err := gitsync.ParseHash(r.git("rev-parse", rev))
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// step is the step that a commit is on a branch.
func (r *repo) step(commit gitsync.Hash) gitsync.Step {
	r.t.Helper()
	return gitsync.Step{Commit: commit, Base: r.hash(commit.String() + "^1")}
}

// run runs a program that must succeed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
