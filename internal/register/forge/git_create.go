package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A First is the first commit of a repository.
type First struct {
	Branch  string // that it is on, and that is checked out
	Title   string
	Body    string
	Author  Person
	At      time.Time
	Changes []Change // what is in it; nothing is removed
}

// CreateGit makes a git repository of the folder dir, in which the files of the
// first commit stand already, and returns the commit. It is made of what is handed
// in and not of what is on the disk, and the index says that the two agree. A
// repository that is there already is ErrInvalid; after any other error a folder
// .git may be left, for the caller to remove.
func CreateGit(ctx context.Context, dir string, f First) (commit string, err error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("forge: making a repository: %w", err) }
	p := Proposal{Base: f.Branch, Title: f.Title, Body: f.Body, Author: f.Author, At: f.At, Changes: f.Changes}
	if err := p.check(); err != nil {
		return "", err
	}
	if err := p.signed(); err != nil {
		return "", err
	}
	if i := slices.IndexFunc(f.Changes, func(c Change) bool { return c.Remove }); i >= 0 {
		return fail(fmt.Errorf("%w: there is no %s to remove", ErrInvalid, f.Changes[i].Path))
	}
	branch := plumbing.NewBranchReferenceName(f.Branch)
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: branch}})
	if errors.Is(err, git.ErrRepositoryAlreadyExists) {
		return fail(fmt.Errorf("%w: %s is one already", ErrInvalid, dir))
	}
	if err != nil {
		return fail(err)
	}
	tree, err := grow(repo, plumbing.ZeroHash, f.Changes)
	if err != nil {
		return fail(err)
	}
	who := object.Signature{Name: f.Author.Name, Email: f.Author.Email, When: f.At}
	head, err := store(repo, &object.Commit{Author: who, Committer: who, Message: p.message(), TreeHash: tree})
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := stage(repo, dir, f.Changes); err != nil {
		return fail(err)
	}
	if err := repo.Storer.SetReference(plumbing.NewHashReference(branch, head)); err != nil {
		return fail(err)
	}
	return head.String(), nil
}

// stage writes the index of files that are on the disk as they are committed.
func stage(repo *git.Repository, dir string, files []Change) error {
	i := &index.Index{Version: 2}
	for _, c := range files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(c.Path)))
		if err != nil {
			return err
		}
		i.Entries = append(i.Entries, &index.Entry{
			Name: c.Path, Hash: plumbing.ComputeHash(plumbing.BlobObject, c.Data), Mode: filemode.Regular,
			ModifiedAt: info.ModTime(), CreatedAt: info.ModTime(), Size: uint32(len(c.Data)),
		})
	}
	slices.SortFunc(i.Entries, func(a, b *index.Entry) int { return strings.Compare(a.Name, b.Name) })
	return repo.Storer.SetIndex(i)
}
