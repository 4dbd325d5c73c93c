package gitsync_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
)

// A gitHost is a real git server on loopback: git http-backend behind
// net/http/cgi, with one repository and a checkout to commit in.
type gitHost struct {
	t    *testing.T
	bare string // the repository served
	work string // a checkout that pushes to it
	url  string // of the repository, over http

	backend *cgi.Handler // answers as git does

	mu    sync.Mutex
	down  bool
	token string // demanded as the password if not ""
	seen  []string
	// instead, if set, may answer in the host's place; it reports whether it did.
	instead func(http.ResponseWriter, *http.Request) bool
}

func newGitHost(t *testing.T) *gitHost {
	t.Helper()
	t.Parallel()
	bin, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	root := t.TempDir()
	h := &gitHost{t: t, bare: filepath.Join(root, "register.git"), work: filepath.Join(root, "work")}
	h.run(root, "init", "-q", "--bare", "-b", "main", h.bare)
	h.run(root, "clone", "-q", h.bare, h.work)
	h.run(h.work, "checkout", "-q", "-b", "main")
	h.backend = &cgi.Handler{
		Path: bin, Args: []string{"http-backend"}, Dir: root,
		Env:    []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + root},
		Stderr: &bytes.Buffer{},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.mu.Lock()
		down, token, instead := h.down, h.token, h.instead
		_, password, _ := req.BasicAuth()
		h.seen = append(h.seen, password)
		h.mu.Unlock()
		switch {
		case instead != nil && instead(w, req):
		case down:
			http.Error(w, "gone fishing with "+password, http.StatusBadGateway)
		case token != "" && password != token:
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "bad token "+password, http.StatusUnauthorized)
		default:
			h.backend.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	h.url = server.URL + "/register.git"
	return h
}

// set changes how the host behaves.
func (h *gitHost) set(f func(*gitHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// run runs git and gives its output.
func (h *gitHost) run(dir string, args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.edu",
		"GIT_COMMITTER_NAME=Post Master", "GIT_COMMITTER_EMAIL=pm@example.edu")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write puts a file into the checkout, without committing it.
func (h *gitHost) write(path, content string) {
	h.t.Helper()
	full := filepath.Join(h.work, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// commit commits the whole checkout and pushes it, by force if need be.
func (h *gitHost) commit(message string) gitsync.Hash {
	h.t.Helper()
	h.run(h.work, "add", "-A")
	h.run(h.work, "commit", "-q", "--allow-empty", "-m", message)
	return h.push()
}

// push publishes the checkout's present commit as main.
func (h *gitHost) push() gitsync.Hash {
	h.t.Helper()
	h.run(h.work, "push", "-q", "-f", "origin", "HEAD:main")
	return h.head()
}

// tree writes a tree of "mode name" and hash in turn, however odd, and gives
// its hash.
func (h *gitHost) tree(entries ...string) string {
	h.t.Helper()
	var b bytes.Buffer
	for pair := range slices.Chunk(entries, 2) {
		hash, err := gitsync.ParseHash(pair[1])
		if err != nil {
			h.t.Fatal(err)
		}
		b.WriteString(pair[0] + "\x00")
		b.Write(hash[:])
	}
	file := filepath.Join(h.t.TempDir(), "tree")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return h.run(h.work, "hash-object", "-t", "tree", "-w", "--literally", file)
}

// commitTree commits and pushes a tree.
func (h *gitHost) commitTree(tree string) gitsync.Hash {
	h.t.Helper()
	h.run(h.work, "reset", "-q", "--soft", h.run(h.work, "commit-tree", "-m", "tree", tree))
	return h.push()
}

func (h *gitHost) head() gitsync.Hash {
	h.t.Helper()
	head, err := gitsync.ParseHash(h.run(h.work, "rev-parse", "HEAD"))
	if err != nil {
		h.t.Fatal(err)
	}
	return head
}

// mirror opens a mirror of the host in a new folder.
func (h *gitHost) mirror(change ...func(*gitsync.Options)) *gitsync.Mirror {
	h.t.Helper()
	o := gitsync.Options{Repository: h.url, Branch: "main", Dir: h.t.TempDir()}
	for _, f := range change {
		f(&o)
	}
	return mustOpen(h.t, o)
}

func mustOpen(t *testing.T, o gitsync.Options) *gitsync.Mirror {
	t.Helper()
	m, err := gitsync.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func mustFetch(t *testing.T, m *gitsync.Mirror, want gitsync.Hash) {
	t.Helper()
	got, err := m.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Fetch = %s, want %s", got, want)
	}
}

// paths lists entries as "path mode", marked where they are odd.
func paths(list []gitsync.Entry) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%s %s", e.Path, e.Mode)
		if e.Odd != "" {
			fmt.Fprintf(&b, " (%s)", e.Odd)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
