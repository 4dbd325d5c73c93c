package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"example.edu/gatepost/internal/program"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A checkout is a clone of the register: its commits, and the files on disk.
type checkout struct {
	git   *gitsync.Workdir
	args  []string      // of the command line, for hints
	shelf *review.Shelf // nil: what files mean is worked out each time
}

// openCheckout opens the checkout that dir is in. The caller closes it.
func openCheckout(o Options, dir string) (*checkout, error) {
	root, err := findRoot(dir)
	if err != nil {
		return nil, err
	}
	w, err := gitsync.OpenWorkdir(root)
	if err != nil {
		return nil, err
	}
	if top, _ := filepath.EvalSymlinks(w.Top()); top != "" {
		if real, err := filepath.EvalSymlinks(root); err == nil && real != top {
			w.Close()
			return nil, fail(fmt.Sprintf("%s is not at the top of its git repository, %s", filepath.Join(root, registerDir), w.Top()),
				"a register has a repository of its own, with "+registerDir+"/ at the top")
		}
	}
	return &checkout{git: w, args: o.Args}, nil
}

func (c *checkout) close() { c.git.Close() }

// A tree is the register's files as they were found in one place.
type tree struct {
	review.Tree
	commit gitsync.Hash // zero for the files on disk
}

// at reads the tree of the commit that rev names.
func (c *checkout) at(ctx context.Context, rev string) (*tree, error) {
	commit, err := c.resolve(ctx, rev)
	if err != nil {
		return nil, err
	}
	return c.commit(ctx, commit)
}

// commit reads the tree of a commit.
func (c *checkout) commit(ctx context.Context, commit gitsync.Hash) (*tree, error) {
	t, err := review.At(ctx, c.git, commit, c.shelf)
	return &tree{t, commit}, explainTree(err)
}

// read reads the register's files below path at a commit.
func (c *checkout) read(ctx context.Context, commit gitsync.Hash, path string) ([]review.Source, error) {
	entries, err := c.git.Files(ctx, commit, path)
	if err != nil {
		return nil, err
	}
	return review.Sources(entries, func(e gitsync.Entry, max int64) ([]byte, error) { return c.git.Read(ctx, e.Hash, max) })
}

// disk reads the files on disk, to be judged under their own site rules.
func (c *checkout) disk(ctx context.Context) (*tree, error) { return c.diskUnder(ctx, nil) }

// diskUnder reads the files on disk, to be judged under the site rules of base
// if there is one.
func (c *checkout) diskUnder(ctx context.Context, base *tree) (*tree, error) {
	t := &tree{}
	entries, err := c.git.DiskFiles(ctx, review.SitePath)
	if err != nil {
		return nil, err
	}
	if t.Site, err = review.Site(entries, c.content(ctx)); err != nil {
		return nil, explainTree(err)
	}
	if entries, err = c.git.DiskFiles(ctx, registerDir); err != nil {
		return nil, err
	}
	site := t.Site
	if base != nil {
		site = base.Site
	}
	if t.Sources, err = review.Sources(entries, c.shelf.Left(site, c.content(ctx))); err != nil {
		return nil, explainTree(err)
	}
	for i := range t.Sources { // git's names tell what is the same, where git has not looked yet
		if s := &t.Sources[i]; s.Blob == "" && s.Mode == registration.Regular && !s.Unusable && s.Size == int64(len(s.Data)) {
			s.Blob = gitsync.BlobHash(s.Data).String()
		}
	}
	return t, nil
}

// useShelf has what files mean looked up, and kept, in git's own folder. What
// cannot be kept there is worked out anew each time.
func (c *checkout) useShelf(ctx context.Context) {
	if dir, err := c.git.Private(ctx); err == nil && dir != "" {
		c.shelf = review.OpenShelf(filepath.Join(dir, "gatepost", "parsed"), program.ID())
	}
}

// text is the content of a file, wherever it was left.
func (c *checkout) text(ctx context.Context, s *review.Source) []byte {
	switch {
	case s == nil:
		return nil
	case !s.Left:
		return s.Data
	}
	h, err := gitsync.ParseHash(s.Blob)
	if err != nil {
		return nil
	}
	data, err := c.git.Read(ctx, h, registration.MaxCampusFile)
	if err != nil {
		return nil
	}
	return data
}

// diskSources reads what files on disk say to the register.
func (c *checkout) diskSources(ctx context.Context, entries []gitsync.Entry) ([]review.Source, error) {
	sources, err := review.Sources(entries, c.content(ctx))
	return sources, explainTree(err)
}

// content reads a file on disk.
func (c *checkout) content(ctx context.Context) func(gitsync.Entry, int64) ([]byte, error) {
	return func(e gitsync.Entry, max int64) ([]byte, error) { return c.git.DiskRead(ctx, e.Path, max) }
}

// explainTree adds the next step to what is wrong with a whole tree.
func explainTree(err error) error {
	switch {
	case errors.Is(err, review.ErrTooLarge):
		return hinted(err, "the relay would not take them over; what is large there, and does it belong there?")
	case errors.Is(err, review.ErrSite):
		return hinted(err, "the site's rules are in "+review.SitePath+"; they can only narrow the built-in definitions")
	}
	return err
}

// resolve finds the commit that rev names, or says what rev was probably
// meant to be.
func (c *checkout) resolve(ctx context.Context, rev string) (gitsync.Hash, error) {
	h, err := c.git.Resolve(ctx, rev)
	switch {
	case err == nil:
		return h, nil
	case errors.Is(err, gitsync.ErrNoRepository):
		return h, fail(c.git.Top()+" is not a git repository", "this needs the history: clone the register with git, and give the clone: -C DIR")
	case !errors.Is(err, gitsync.ErrNoCommit):
		return h, err
	}
	message := fmt.Sprintf("there is no commit %s here", quote(rev))
	for _, prefix := range []string{"origin/", "upstream/"} {
		if _, err := c.git.Resolve(ctx, prefix+rev); err == nil {
			return h, fail(message, "did you mean: "+corrected(c.args, rev, prefix+rev))
		}
	}
	if c.shallow() {
		return h, fail(message, "this clone has no full history: git fetch --unshallow", "in a workflow: actions/checkout with fetch-depth: 0")
	}
	if rev == "HEAD" {
		return h, fail("the repository has no commit yet", "git add "+registerDir+" && git commit")
	}
	return h, fail(message, "is it fetched? git fetch --all", "the branches: git branch --all")
}

// shallow reports whether git cut the history off when it cloned.
func (c *checkout) shallow() bool {
	_, err := os.Stat(filepath.Join(c.git.Top(), ".git", "shallow"))
	return err == nil
}

// treeAt is the tree that at names, and the moment at which to judge it: HEAD
// and now, the commit of a time and that time, or a commit and its own time.
func (c *checkout) treeAt(ctx context.Context, at string, now time.Time) (*tree, time.Time, error) {
	rev := at
	when, isTime := parseTime(at)
	if at == "" || isTime {
		rev = "HEAD"
	}
	commit, err := c.resolve(ctx, rev)
	if err != nil {
		if !isTime && at != "" {
			err = hinted(err, "a time is written 2026-10-01T12:00:00Z, or 2026-10-01 for the end of that day (UTC)")
		}
		return nil, now, err
	}
	switch {
	case isTime:
		commit, err = c.git.At(ctx, commit, when)
		if errors.Is(err, gitsync.ErrNoCommit) {
			err = fail("the history does not go back to "+moment(when), "the oldest commits: git log --reverse --format='%h %cI %s'")
		}
		now = when
	case at != "":
		var made gitsync.Commit
		made, err = c.git.Describe(ctx, commit)
		now = made.Time
	}
	if err != nil {
		return nil, now, err
	}
	t, err := c.commit(ctx, commit)
	return t, now, err
}

// headName is what the files on disk are called: the commit checked out, with
// "+dirty" where they differ from it.
func (c *checkout) headName(ctx context.Context, disk *tree) (string, error) {
	head, err := c.resolve(ctx, "HEAD")
	if err != nil {
		return "", err
	}
	committed, err := c.committed(ctx, head)
	if err != nil {
		return "", err
	}
	same := 0
	for _, s := range disk.Sources {
		if s.Mode == registration.Regular && committed[s.Path].String() == s.Blob {
			same++
		}
	}
	if same != len(committed) || same != len(disk.Sources) {
		return head.String() + "+dirty", nil
	}
	return head.String(), nil
}
