package history_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"example.edu/gatepost/internal/register/gitsync"
)

// Modes of an entry of a git tree.
const (
	regularMode    = "100644"
	executableMode = "100755"
	symlinkMode    = "120000"
	submoduleMode  = "160000"
)

// A node is one entry of a tree as the history knows it.
type node struct {
	mode string
	v    *version // what it says
}

// A tree is the register at one commit: path → node. It is replaced, never
// edited.
type tree map[string]node

// with is t with one entry more, or in place of another. What stands in its way,
// as a file where a folder is wanted or the other way round, goes.
func (t tree) with(path string, n node) tree {
	out := t.without(path)
	for p := range t {
		if strings.HasPrefix(path, p+"/") {
			delete(out, p)
		}
	}
	out[path] = n
	return out
}

// without is t less one file, or all that is in one folder.
func (t tree) without(path string) tree {
	out := maps.Clone(t)
	maps.DeleteFunc(out, func(p string, _ node) bool { return p == path || strings.HasPrefix(p, path+"/") })
	return out
}

// paths are the paths that a filter likes, in order.
func (t tree) paths(like func(string, node) bool) []string {
	var out []string
	for p, n := range t {
		if like == nil || like(p, n) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// A commit is one of the history, with the register that it holds.
type commit struct {
	hash    gitsync.Hash
	parents []*commit
	tree    tree
}

// descends reports whether old is in the history of c.
func (c *commit) descends(old *commit) bool {
	seen := map[*commit]bool{}
	var look func(*commit) bool
	look = func(at *commit) bool {
		if at == old {
			return true
		}
		if seen[at] {
			return false
		}
		seen[at] = true
		return slices.ContainsFunc(at.parents, look)
	}
	return look(c)
}

// A repository is a bare one on the disk, written object by object: so it can
// hold what git's own commands would not make.
type repository struct {
	dir     string
	git     *git.Repository
	written map[string]plumbing.Hash // by content: trees and blobs that are there
	n       int                      // commits so far
	url     string                   // where it is served, or ""
}

func newRepository(t testing.TB) *repository {
	t.Helper()
	r := &repository{dir: filepath.Join(t.TempDir(), "register.git"), written: map[string]plumbing.Hash{}}
	var err error
	if r.git, err = git.PlainInit(r.dir, true); err != nil {
		t.Fatal(err)
	}
	return r
}

// serve serves the repository over http, as a forge would; without git's own
// program it stays a path.
func (r *repository) serve(t testing.TB) {
	t.Helper()
	bin, err := exec.LookPath("git")
	if err != nil {
		return
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: bin, Args: []string{"http-backend"}, Dir: r.dir, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + r.dir},
	})
	t.Cleanup(server.Close)
	r.url = server.URL + "/register.git"
}

func (r *repository) object(kind plumbing.ObjectType, content []byte) (plumbing.Hash, error) {
	key := kind.String() + " " + string(content)
	if h, ok := r.written[key]; ok {
		return h, nil
	}
	o := r.git.Storer.NewEncodedObject()
	o.SetType(kind)
	w, err := o.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := w.Write(content); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := w.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	h, err := r.git.Storer.SetEncodedObject(o)
	if err == nil && kind != plumbing.CommitObject {
		r.written[key] = h
	}
	return h, err
}

// writeTree writes what is below prefix ("" or ending in a slash).
func (r *repository) writeTree(t tree, prefix string) (plumbing.Hash, error) {
	type entry struct {
		mode, name string
		hash       plumbing.Hash
	}
	var entries []entry
	folders := map[string]tree{}
	for path, n := range t {
		name, _, deeper := strings.Cut(strings.TrimPrefix(path, prefix), "/")
		if deeper {
			if folders[name] == nil {
				folders[name] = tree{}
			}
			folders[name][path] = n
			continue
		}
		h := plumbing.ComputeHash(plumbing.CommitObject, []byte(path)) // of a submodule, which is not there
		if n.mode != submoduleMode {
			var err error
			if h, err = r.object(plumbing.BlobObject, []byte(n.v.text)); err != nil {
				return h, err
			}
		}
		entries = append(entries, entry{n.mode, name, h})
	}
	for name, below := range folders {
		h, err := r.writeTree(below, prefix+name+"/")
		if err != nil {
			return h, err
		}
		entries = append(entries, entry{"40000", name, h})
	}
	key := func(e entry) string { // git sorts a folder as if its name ended in a slash
		if e.mode == "40000" {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(key(a), key(b)) })
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00%s", e.mode, e.name, e.hash[:])
	}
	return r.object(plumbing.TreeObject, b.Bytes())
}

// commit writes a commit; nothing points at it yet.
func (r *repository) commit(t tree, at time.Time, parents ...*commit) (*commit, error) {
	root, err := r.writeTree(t, "")
	if err != nil {
		return nil, err
	}
	r.n++
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", root)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p.hash)
	}
	who := fmt.Sprintf("Ada <ada@umich.edu> %d +0000", at.Unix())
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\nCommit %d (#%d)\n", who, who, r.n, r.n)
	h, err := r.object(plumbing.CommitObject, []byte(b.String()))
	return &commit{hash: gitsync.Hash(h), parents: parents, tree: t}, err
}

// point sets the branch, with force; nil deletes it.
func (r *repository) point(c *commit) error {
	name := plumbing.NewBranchReferenceName("main")
	if c == nil {
		return r.git.Storer.RemoveReference(name)
	}
	return r.git.Storer.SetReference(plumbing.NewHashReference(name, plumbing.Hash(c.hash)))
}
