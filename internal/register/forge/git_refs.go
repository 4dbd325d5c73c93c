package forge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// maxReferences bounds how many references of a repository are looked at.
const maxReferences = 200_000

// eachReference visits every reference that names an object, each once. The
// library's own list takes the lock of a push that is under way for a reference,
// and fails as long as that is empty, which for one that a crash left is for ever;
// git passes over both. The loose ones are read first: git packs a reference
// before it removes the file.
func eachReference(ctx context.Context, repo *git.Repository, visit func(*plumbing.Reference) error) error {
	storage, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return errors.New("it is not on a disk")
	}
	fs, seen := storage.Filesystem(), map[plumbing.ReferenceName]bool{}
	tell := func(ref *plumbing.Reference) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if seen[ref.Name()] || ref.Type() != plumbing.HashReference {
			return nil
		}
		if seen[ref.Name()] = true; len(seen) > maxReferences {
			return fmt.Errorf("%w: more than %d references", ErrTooMuch, maxReferences)
		}
		return visit(ref)
	}
	for folders := []string{"refs"}; len(folders) > 0; folders = folders[1:] {
		list, err := fs.ReadDir(folders[0])
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			name := path.Join(folders[0], e.Name())
			switch {
			case e.IsDir():
				if folders = append(folders, name); len(folders) > maxReferences {
					return fmt.Errorf("%w: more than %d folders of references", ErrTooMuch, maxReferences)
				}
				continue
			case strings.HasSuffix(name, ".lock"):
				continue
			}
			ref, err := repo.Storer.Reference(plumbing.ReferenceName(name))
			if errors.Is(err, plumbing.ErrReferenceNotFound) || errors.Is(err, dotgit.ErrEmptyRefFile) || errors.Is(err, os.ErrNotExist) {
				continue // it went meanwhile, or is none
			}
			if err == nil {
				err = tell(ref)
			}
			if err != nil {
				return err
			}
		}
	}
	f, err := fs.Open("packed-refs")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		hash, name, ok := strings.Cut(lines.Text(), " ")
		if !ok || !isCommit(hash) { // a comment, or what a tag stands for
			continue
		}
		if err := tell(plumbing.NewHashReference(plumbing.ReferenceName(name), plumbing.NewHash(hash))); err != nil {
			return err
		}
	}
	return lines.Err()
}
