package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A change is what the files on disk would do to a base.
type change struct {
	*review.Change
	base   *tree
	disk   *tree
	merged review.Tree // disk, with what the base has and this checkout lacks
	notes  []string    // hints for the person at the terminal
}

// change reads what merging the files on disk into the commit that rev names
// would make, under the site rules of that commit.
func (c *checkout) change(ctx context.Context, rev string, now time.Time, p *progress) (*change, error) {
	base, err := c.at(ctx, rev)
	if err != nil {
		return nil, err
	}
	disk, err := c.diskUnder(ctx, base)
	if err != nil {
		return nil, err
	}
	d := &change{base: base, disk: disk}
	if d.merged, err = c.merge(ctx, d, rev); err != nil {
		return nil, err
	}
	if d.Change, err = review.Read(ctx, base.Tree, d.merged, now, c.shelf, &p.Counter); err != nil {
		return nil, explainTree(err)
	}
	if d.SiteChanges() {
		// The rules of a pull request are never evaluated: nothing bounds that.
		d.notes = append(d.notes, review.SitePath+" changes here, and counts from the merge on; to try it on files that you trust: gatepost check")
	}
	return d, nil
}

// merge is the tree on disk with what was merged into the base since the two
// parted: without that, it would look as if this change took it away.
func (c *checkout) merge(ctx context.Context, d *change, rev string) (review.Tree, error) {
	head, err := c.git.Resolve(ctx, "HEAD")
	if err != nil {
		return d.disk.Tree, nil // nothing is committed
	}
	var fork gitsync.Hash
	relation, err := c.git.Relation(ctx, d.base.commit, head)
	if err == nil {
		if relation == gitsync.Same || relation == gitsync.Descends {
			return d.disk.Tree, nil
		}
		fork, err = c.git.Fork(ctx, d.base.commit, head)
	}
	switch {
	case err == nil:
	case c.shallow():
		d.notes = append(d.notes, fmt.Sprintf("this clone has no full history, so it is compared with %s as it is; if that has gone on, what was merged there looks removed here: git fetch --unshallow", rev))
		return d.disk.Tree, nil
	case errors.Is(err, gitsync.ErrNoPath):
		return review.Tree{}, fail(fmt.Sprintf("what this checkout and %s have in common is no single commit, so nobody can tell what merging would make", rev),
			"bring it up to date: git merge "+quote(rev))
	default:
		return review.Tree{}, err
	}
	ancestor, err := review.NamesAt(ctx, c.git, fork)
	if err != nil {
		return review.Tree{}, explainTree(err)
	}
	name(d.disk.Sources, ancestor)
	merged, contested := review.Merge(ancestor, d.base.Tree, d.disk.Tree)
	if len(contested) > 0 {
		const most = 3
		shown := strings.Join(contested[:min(most, len(contested))], ", ")
		if more := len(contested) - most; more > 0 {
			shown += fmt.Sprintf(" and %s more", thousands(more))
		}
		return review.Tree{}, fail(fmt.Sprintf("changed here and on %s since, so only merging tells what comes of it: %s", rev, shown),
			"bring it up to date: git merge "+quote(rev))
	}
	return merged, nil
}

// name gives the files on disk git's names for their contents. A checkout may
// have other line ends than what is committed.
func name(sources []review.Source, ancestor review.Tree) {
	for i := range sources {
		s := &sources[i]
		if s.Mode != registration.Regular || s.Size != int64(len(s.Data)) || s.Unusable {
			continue
		}
		s.Blob = gitsync.BlobHash(s.Data).String()
		if was := ancestor.Find(s.Path); was != nil && s.Blob != was.Blob && bytes.Contains(s.Data, []byte("\r\n")) {
			if lf := gitsync.BlobHash(bytes.ReplaceAll(s.Data, []byte("\r\n"), []byte("\n"))).String(); lf == was.Blob {
				s.Blob = lf
			}
		}
	}
}
