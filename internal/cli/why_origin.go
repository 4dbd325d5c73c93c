package cli

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
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
	Branch   string    `json:"branch,omitempty"`   // its branch
	Approver string    `json:"approver,omitempty"` // who merged it or committed it to the branch; "" where the commit does not tell
	Approval string    `json:"approval,omitempty"` // how: "merged", "committed", "unknown" (the forge knows) or "unrecorded" (nobody does)

	by string // the author of Commit where that is not who wrote it
}

func newOrigin(r gitsync.Revision) *origin {
	o := &origin{
		Commit: r.Commit.String(), Author: r.Author, Subject: r.Subject, Since: r.Time.UTC(),
		Merge: r.Merge, MergedBy: r.MergedBy, Request: r.Request, Branch: r.Branch,
	}
	switch {
	case r.Merge != "":
		if o.Approver, o.Approval = r.Landed, "merged"; byForge(r.Landed) {
			o.Approver = r.MergedBy
		}
	case byForge(r.Landed): // a squash or a rebase: who pressed the button is not in the commit
		o.Approval = "unknown"
	default:
		o.Approver, o.Approval = r.Landed, "committed"
	}
	return o
}

// tell is newOrigin for a change of path. What no merge says, the branches of
// requests in a plain git repository may: a fast-forward and a squash have no
// words of their own.
func (c *checkout) tell(ctx context.Context, r gitsync.Revision, path string) *origin {
	o := newOrigin(r)
	if o.Approval != "committed" {
		return o
	}
	if o.Request > 0 { // the title of a squash has the number
		return o
	}
	home, err := requestsHome(ctx, c.git.Top())
	if err != nil || home == nil {
		return o
	}
	landing, err := home.Landing(ctx, o.Commit, path)
	if err != nil || landing.Number == 0 {
		return o
	}
	o.Request, o.Branch = landing.Number, landing.Branch
	if landing.Forward {
		o.Approver, o.Approval = "", "unrecorded"
		return o
	}
	o.by, o.Author, o.Subject = o.Author, landing.Author, landing.Title // git made the squash's author whoever squashed
	return o
}

// byForge reports whether a committer is a forge itself, which commits what is
// done on its pages, and not a person.
func byForge(committer string) bool {
	name, address, _ := strings.Cut(committer, " <")
	return name == "GitHub" && strings.HasPrefix(address, "noreply@") || name == "web-flow" || name == "GitHub Enterprise"
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

// Bounds on looking for an address that is gone.
const (
	maxPast  = 5_000           // commits on the branch
	pastTime = 5 * time.Second // for all of them
)

// A removal is the change with which an address went.
type removal struct {
	File    string  `json:"file"` // that registered it last
	Line    int     `json:"line"` // where it was
	History *origin `json:"history"`
}

// removed finds the newest change on the branch that took addr out of the
// register, nil if none is near enough. What names the address without
// registering it does not count, nor does a move to another file.
func (v view) removed(ctx context.Context, c *checkout, addr netip.Addr) *removal {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	parser, err := registration.NewParser(v.tree.Site)
	if err != nil {
		return nil
	}
	at := v.tree.commit
	for range maxPast {
		commit, err := c.git.Describe(ctx, at)
		if err != nil || len(commit.Parents) == 0 {
			return nil
		}
		before := commit.Parents[0]
		changes, err := c.git.Diff(ctx, before, at, registerDir)
		if err != nil {
			return nil
		}
		var was *removal
		still := false
		for _, change := range changes {
			if line := c.lineOf(ctx, parser, change.Old, addr); line > 0 {
				was = &removal{File: change.Path, Line: line}
			}
			still = still || c.lineOf(ctx, parser, change.New, addr) > 0
		}
		if was != nil && !still {
			revision, err := c.git.Latest(ctx, at, was.File)
			if err != nil {
				return nil
			}
			was.History = c.tell(ctx, revision, was.File)
			return was
		}
		at = before
	}
	return nil
}

// lineOf is the line on which an entry of the repository registers addr; 0 if it
// does not.
func (c *checkout) lineOf(ctx context.Context, parser *registration.Parser, e gitsync.Entry, addr netip.Addr) int {
	if registration.Kind(e.Path) != registration.KindRegistration || e.Unusable || e.Mode.Register() != registration.Regular {
		return 0
	}
	data, err := c.git.Read(ctx, e.Hash, registration.MaxFile)
	if err != nil || !bytes.Contains(data, []byte(addr.String())) {
		return 0
	}
	r := parser.Parse(registration.Source{Path: e.Path, Size: int64(len(data)), Data: data}).Registration
	if r == nil {
		return 0
	}
	for _, h := range r.Hosts {
		if h.IP == addr {
			return int(h.At.Line)
		}
	}
	return 0
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
	newestPath, oldestPath := path, path
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
			oldest, oldestPath = r, path
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
	since = c.tell(ctx, *oldest, oldestPath)
	if newest.Commit != oldest.Commit {
		changed = c.tell(ctx, *newest, newestPath)
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
