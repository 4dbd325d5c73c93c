package cli

import (
	"context"
	"net/netip"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// An origin is one change on the branch as "why" tells it: who wrote it, who
// let it in, and when.
type origin struct {
	Commit   string    `json:"commit"`
	Author   string    `json:"author"`
	Subject  string    `json:"subject"`
	Since    time.Time `json:"since"`              // when it came into the branch
	Merge    string    `json:"merge,omitempty"`    // the merge that brought it in
	MergedBy string    `json:"mergedBy,omitempty"` // the author of that merge
	Request  int       `json:"request,omitempty"`  // number of the pull request
}

func newOrigin(r gitsync.Revision) *origin {
	return &origin{
		Commit: r.Commit.String(), Author: r.Author, Subject: r.Subject, Since: r.Time.UTC(),
		Merge: r.Merge, MergedBy: r.MergedBy, Request: r.Request,
	}
}

// landed is the commit on the branch with which a revision came in.
func landed(r gitsync.Revision) gitsync.Hash {
	if r.Merge != "" {
		if h, err := gitsync.ParseHash(r.Merge); err == nil {
			return h
		}
	}
	return r.Commit
}

// maxMoves bounds how often a file is followed to its former name.
const maxMoves = 16

// origin follows a file of the register into the past: since is the change
// that brought addr in (the file, where addr is not valid), and changed the
// newest change of the file if that is another one. A file that was moved as
// it is, is followed. What the history cannot tell is nil: a shallow clone
// has none, and that is no reason to say nothing else.
func (v view) origin(ctx context.Context, c *checkout, path string, addr netip.Addr) (since, changed *origin) {
	parser, err := registration.NewParser(v.tree.Site)
	if err != nil {
		return nil, nil
	}
	var newest, oldest *gitsync.Revision
	head := v.tree.commit
	for range maxMoves {
		revisions, err := c.git.History(ctx, head, path)
		if err != nil || len(revisions) == 0 {
			break
		}
		if newest == nil {
			newest = &revisions[0]
		}
		whole := true
		for i := range revisions {
			r := &revisions[i]
			if r.Removed || addr.IsValid() && !c.holds(ctx, parser, r.Commit, path, addr) {
				whole = false
				break
			}
			oldest = r
		}
		if !whole || oldest == nil {
			break
		}
		before, former, ok := c.formerName(ctx, landed(*oldest), path)
		if !ok {
			break
		}
		head, path = before, former
	}
	if oldest == nil {
		return nil, nil
	}
	since = newOrigin(*oldest)
	if newest.Commit != oldest.Commit {
		changed = newOrigin(*newest)
	}
	return since, changed
}

// holds reports whether the file at a commit names addr.
func (c *checkout) holds(ctx context.Context, parser *registration.Parser, commit gitsync.Hash, path string, addr netip.Addr) bool {
	sources, err := c.read(ctx, commit, path)
	if err != nil || len(sources) != 1 {
		return false
	}
	r := parser.ParseOdd(sources[0].Source, sources[0].Odd, sources[0].Unusable).Registration
	return r != nil && hasHost(r, addr)
}

// formerName looks whether the file that came in with commit was, until the
// commit before, a file of another name with the same content. One that is
// still there was not moved but copied: its past is its own.
func (c *checkout) formerName(ctx context.Context, commit gitsync.Hash, path string) (before gitsync.Hash, former string, ok bool) {
	at, err := c.git.Describe(ctx, commit)
	if err != nil || len(at.Parents) == 0 {
		return gitsync.Hash{}, "", false
	}
	before = at.Parents[0]
	now, err := c.git.Files(ctx, commit, registerDir)
	if err != nil {
		return gitsync.Hash{}, "", false
	}
	there := make(map[string]gitsync.Hash, len(now))
	for _, e := range now {
		there[e.Path] = e.Hash
	}
	then, err := c.git.Files(ctx, before, registerDir)
	if err != nil {
		return gitsync.Hash{}, "", false
	}
	for _, e := range then {
		if _, copied := there[e.Path]; !copied && e.Hash == there[path] {
			return before, e.Path, true
		}
	}
	return gitsync.Hash{}, "", false
}
