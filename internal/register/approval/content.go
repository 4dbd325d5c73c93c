package approval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// Where the register is in its repository.
const (
	registerFolder = "registrations"
	siteFile       = "schema/site.cue"
)

// Contents compares what commits bring. *gitsync.Mirror does.
type Contents interface {
	Diff(ctx context.Context, old, new gitsync.Hash, under ...string) ([]gitsync.Change, error)
	Fork(ctx context.Context, a, b gitsync.Hash) (gitsync.Hash, error)
	// FetchRequest brings the head of a request here, if it is not.
	FetchRequest(ctx context.Context, number int, head gitsync.Hash) error
}

// Files reads what is in commits. *gitsync.Mirror does.
type Files interface {
	Files(ctx context.Context, commit gitsync.Hash, under ...string) ([]gitsync.Entry, error)
	Read(ctx context.Context, blob gitsync.Hash, max int64) ([]byte, error)
}

var (
	_ Contents = (*gitsync.Mirror)(nil)
	_ Files    = (*gitsync.Mirror)(nil)
)

// matters reports whether a path means something to the register.
func matters(path string) bool {
	switch registration.Kind(path) {
	case registration.KindIgnored, registration.KindMisplaced:
		return path == siteFile
	}
	return true
}

// sameEntry reports whether two entries mean the same to the register.
func sameEntry(a, b gitsync.Entry) bool {
	if nothing(a) || nothing(b) {
		return nothing(a) == nothing(b)
	}
	return a.Hash == b.Hash && a.Mode.Register() == b.Mode.Register()
}

// nothing reports whether there is nothing that the register could read.
func nothing(e gitsync.Entry) bool { return e.Path == "" || e.Unusable }

// A mixture is a path that both sides of a merge changed, or that the merge
// left as it was although the request changes it.
type mixture struct {
	path                     string
	base, ours, theirs, made gitsync.Entry
}

// compare holds what a commit changed against what the head of a request
// changes since it left the branch. It says what does not go together, in words
// for an operator, or else which paths only their contents can tell about.
func compare(did, meant []gitsync.Change) (mixed []mixture, odd string) {
	of := make(map[string]gitsync.Change, len(meant))
	for _, m := range meant {
		if matters(m.Path) && !sameEntry(m.Old, m.New) {
			of[m.Path] = m
		}
	}
	for _, d := range did {
		if !matters(d.Path) || sameEntry(d.Old, d.New) {
			continue
		}
		m, ok := of[d.Path]
		if !ok {
			return nil, fmt.Sprintf("it changes %s, and the request does not", d.Path)
		}
		delete(of, d.Path)
		if sameEntry(m.Old, d.Old) && sameEntry(m.New, d.New) {
			continue
		}
		mixed = append(mixed, mixture{d.Path, m.Old, d.Old, m.New, d.New})
	}
	for path, m := range of { // the commit leaves these alone: what stands there is looked up
		mixed = append(mixed, mixture{path: path, base: m.Old, theirs: m.New})
	}
	slices.SortFunc(mixed, func(a, b mixture) int { return bytes.Compare([]byte(a.path), []byte(b.path)) })
	return mixed, ""
}

// brings says why a commit on top of base is not what a request with this head
// brings; "" if it is. Both are in the clone.
func brings(ctx context.Context, git Contents, files Files, base, commit, head gitsync.Hash) (odd string, err error) {
	fork, err := git.Fork(ctx, base, head)
	if errors.Is(err, gitsync.ErrNoPath) {
		return "the request and the branch do not meet in one commit, so what the request changes cannot be told", nil
	}
	if err != nil {
		return "", err
	}
	did, err := git.Diff(ctx, base, commit, registerFolder, siteFile)
	if err != nil {
		return "", err
	}
	meant, err := git.Diff(ctx, fork, head, registerFolder, siteFile)
	if err != nil {
		return "", err
	}
	mixed, odd := compare(did, meant)
	if odd != "" {
		return odd, nil
	}
	var left []string
	for _, m := range mixed {
		if m.made.Path == "" && m.ours.Path == "" {
			left = append(left, m.path)
		}
	}
	standing := map[string]gitsync.Entry{}
	if len(left) > 0 {
		list, err := files.Files(ctx, commit, left...)
		if err != nil {
			return "", err
		}
		for _, e := range list {
			standing[e.Path] = e
		}
	}
	for _, m := range mixed {
		if slices.Contains(left, m.path) {
			m.ours = standing[m.path]
			m.made = m.ours
		}
		if ok, err := m.clean(ctx, files); err != nil {
			return "", err
		} else if !ok {
			return fmt.Sprintf("%s is neither as the request leaves it nor a plain merge of the request with what was there", m.path), nil
		}
	}
	return "", nil
}

// clean reports whether what a merge made of a path is both changes, and
// nothing else.
func (m *mixture) clean(ctx context.Context, files Files) (bool, error) {
	if sameEntry(m.made, m.theirs) && sameEntry(m.made, m.ours) {
		return true, nil // the branch had it already
	}
	var text [4][]byte
	for i, e := range []gitsync.Entry{m.base, m.ours, m.theirs, m.made} {
		if nothing(e) || e.Mode.Register() != registration.Regular {
			return false, nil
		}
		limit := int64(registration.MaxFile)
		if registration.Kind(m.path) == registration.KindCampus || m.path == siteFile {
			limit = registration.MaxCampusFile
		}
		data, err := files.Read(ctx, e.Hash, limit)
		if errors.Is(err, gitsync.ErrTooLarge) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		text[i] = data
	}
	merged, ok := mergeText(text[0], text[1], text[2])
	return ok && bytes.Equal(merged, text[3]), nil
}
