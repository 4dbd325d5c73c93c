package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	// requestBranches is where the branches of requests are.
	requestBranches = "refs/heads/request/"

	// numbers has a reference for each number that was ever given out, to the
	// head that the request began with. It stays when the branch goes, so that a
	// number means one request for ever.
	numbers = "refs/gatepost/requests/"

	maxNumber  = 999_999_999
	maxCommits = 100_000 // visited to answer one question
	gitTimeout = time.Minute
)

// A Git is a plain git repository on this disk, bare or a checkout's, whose
// branches request/NUMBER-NAME are requests. It is safe for concurrent use, also
// by several processes.
type Git struct {
	dir    string // as given
	gitDir string // where objects and references are
}

// OpenGit finds the repository at dir: a bare one, or the one of the checkout
// whose topmost folder dir is.
func OpenGit(dir string) (*Git, error) {
	gitDir, err := findGitDir(dir)
	if err == nil {
		_, err = git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	}
	if err != nil {
		return nil, fmt.Errorf("forge: opening the repository %s: %w", dir, err)
	}
	return &Git{dir: dir, gitDir: gitDir}, nil
}

// Dir is the folder that OpenGit was given.
func (g *Git) Dir() string { return g.dir }

// findGitDir is the folder with the objects and references of the repository
// at dir. In a linked work tree .git is a file that names a folder, which in
// turn names the one that is shared.
func findGitDir(dir string) (string, error) {
	const longest = 4096
	at := filepath.Join(dir, ".git")
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, os.ErrNotExist):
		at = dir
	case err != nil:
		return "", err
	case !info.IsDir():
		text, err := readSmall(at, longest)
		if err != nil {
			return "", err
		}
		target, ok := strings.CutPrefix(strings.TrimSpace(text), "gitdir: ")
		if !ok {
			return "", errors.New("its .git is neither a folder nor names one")
		}
		if at = target; !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
	}
	shared, err := readSmall(filepath.Join(at, "commondir"), longest)
	if err == nil {
		if shared = strings.TrimSpace(shared); !filepath.IsAbs(shared) {
			shared = filepath.Join(at, shared)
		}
		at = shared
	}
	if info, err := os.Stat(filepath.Join(at, "objects")); err != nil || !info.IsDir() {
		return "", git.ErrRepositoryNotExists
	}
	return at, nil
}

func readSmall(path string, most int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, most)
	n, err := f.Read(buf)
	if n > 0 {
		err = nil
	}
	return string(buf[:n]), err
}

// with runs f with a fresh view of the repository: others may have repacked it
// since. go-git indexes into files that it reads, so damage can come as a
// panic.
func (g *Git) with(ctx context.Context, doing string, f func(context.Context, *git.Repository) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the repository's data is damaged: %v", p)
		}
		if err != nil {
			err = fmt.Errorf("forge: %s: %w", doing, err)
		}
	}()
	repo, err := git.PlainOpenWithOptions(g.dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return err
	}
	return f(ctx, repo)
}

// Open makes the request's branch. The order is: objects, synced, then the number,
// then the branch; a crash in between costs a number and some space.
func (g *Git) Open(ctx context.Context, p Proposal) (Request, error) {
	if err := p.check(); err != nil {
		return Request{}, err
	}
	if err := p.signed(); err != nil {
		return Request{}, err
	}
	var out Request
	err := g.with(ctx, "opening a request", func(ctx context.Context, repo *git.Repository) error {
		past, err := pastOf(ctx, repo, p.Base)
		if err != nil {
			return err
		}
		on := past.chain[len(past.chain)-1]
		if p.Parent != "" {
			on = plumbing.NewHash(p.Parent)
		}
		if _, known := past.came[on]; !known {
			return fmt.Errorf("%w: commit %s is not on branch %s", ErrInvalid, p.Parent, p.Base)
		}
		parent, err := repo.CommitObject(on)
		if err != nil {
			return err
		}
		tree, err := grow(repo, parent.TreeHash, p.Changes)
		if err != nil {
			return err
		}
		if tree == parent.TreeHash {
			return fmt.Errorf("%w: %s says all of this already", ErrInvalid, p.Base)
		}
		if again, ok, err := past.same(ctx, p, parent.Hash, tree); err != nil || ok {
			out = again
			return err
		}
		who := object.Signature{Name: p.Author.Name, Email: p.Author.Email, When: p.At}
		head, err := store(repo, &object.Commit{
			Author: who, Committer: who, Message: p.message(), TreeHash: tree, ParentHashes: []plumbing.Hash{parent.Hash},
		})
		if err != nil {
			return err
		}
		made, err := changedObjects(repo, tree, p.Changes)
		if err != nil {
			return err
		}
		if err := g.settle(append(made, head)...); err != nil {
			return err
		}
		number, name, err := g.publish(ctx, repo, head, slug(p.Name))
		if err != nil {
			return err
		}
		out, err = past.describe(ctx, branch{number, name, head})
		return err
	})
	return out, err
}

// signed refuses a commit without a name or a time of its own.
func (p *Proposal) signed() error {
	if err := p.Author.valid(); err != nil {
		return fmt.Errorf("forge: making a commit: %w", err)
	}
	if p.At.IsZero() {
		return fmt.Errorf("forge: making a commit: %w: it needs a time", ErrInvalid)
	}
	return nil
}

// valid refuses what git would not take for the author of a commit.
func (p Person) valid() error {
	if p.Name == "" || p.Email == "" || strings.ContainsAny(p.Name+p.Email, "<>\n\x00") {
		return fmt.Errorf("%w: it needs its author's name and address", ErrInvalid)
	}
	return nil
}

// same finds an open request that says exactly what p does, so that a command
// that is repeated does not ask twice.
func (past *past) same(ctx context.Context, p Proposal, parent, tree plumbing.Hash) (Request, bool, error) {
	list, err := branches(ctx, past.repo)
	if err != nil {
		return Request{}, false, err
	}
	for _, b := range list {
		c, err := past.repo.CommitObject(b.head)
		if err != nil || b.name == "" || c.TreeHash != tree || c.NumParents() != 1 || c.ParentHashes[0] != parent || c.Message != p.message() {
			continue
		}
		r, err := past.describe(ctx, b)
		if err != nil || r.State == Open {
			return r, err == nil, err
		}
	}
	return Request{}, false, nil
}

// publish takes the next number and makes the branch. A reference appears by
// linking a file that is complete: that fails if another process was faster,
// where renaming would replace what it made, and nobody ever reads half of one.
func (g *Git) publish(ctx context.Context, repo *git.Repository, head plumbing.Hash, name string) (number int, ref plumbing.ReferenceName, err error) {
	list, err := branches(ctx, repo)
	if err != nil {
		return 0, "", err
	}
	number = 1
	for _, b := range list {
		number = max(number, b.number+1)
	}
	file, drop, err := g.refFile(head)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, drop()) }()
	for ; ; number++ {
		if err := ctx.Err(); err != nil {
			return 0, "", err
		}
		if number > maxNumber {
			return 0, "", errors.New("all numbers are taken")
		}
		err := g.link(file, numbers+strconv.Itoa(number))
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return 0, "", err
		}
	}
	ref = plumbing.ReferenceName(requestBranches + strconv.Itoa(number) + "-" + name)
	return number, ref, g.link(file, ref.String())
}
