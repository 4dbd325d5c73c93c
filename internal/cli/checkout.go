package cli

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// sitePath is where a repository narrows the built-in rules.
const sitePath = "schema/site.cue"

// maxSite bounds what is read of it, in bytes; the parser has a bound of its
// own.
const maxSite = 1 << 20

// A checkout is a clone of the register: its commits, and the files on disk.
type checkout struct {
	git  *gitsync.Workdir
	args []string // of the command line, for hints
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
	commit  gitsync.Hash // zero for the files on disk
	site    []byte       // content of schema/site.cue, nil if there is none
	sources []source
}

// A source is a file of the register, and what is odd about its name.
type source struct {
	registration.Source
	odd      string // "" for nearly every file
	unusable bool   // the name is no valid path; Path is for display
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
	sources, err := c.read(ctx, commit, registerDir)
	if err != nil {
		return nil, err
	}
	t := &tree{commit: commit, sources: sources}
	entries, err := c.git.Files(ctx, commit, sitePath)
	if err != nil {
		return nil, err
	}
	t.site, err = siteOf(entries, func(e gitsync.Entry, max int64) ([]byte, error) { return c.git.Read(ctx, e.Hash, max) })
	return t, err
}

// disk reads the files on disk.
func (c *checkout) disk(ctx context.Context) (*tree, error) {
	entries, err := c.git.DiskFiles(ctx, registerDir)
	if err != nil {
		return nil, err
	}
	read := func(e gitsync.Entry, max int64) ([]byte, error) { return c.git.DiskRead(ctx, e.Path, max) }
	t := &tree{}
	if t.sources, err = sourcesOf(entries, read); err != nil {
		return nil, err
	}
	if entries, err = c.git.DiskFiles(ctx, sitePath); err != nil {
		return nil, err
	}
	t.site, err = siteOf(entries, read)
	return t, err
}

// read reads the register's files below path at a commit.
func (c *checkout) read(ctx context.Context, commit gitsync.Hash, path string) ([]source, error) {
	entries, err := c.git.Files(ctx, commit, path)
	if err != nil {
		return nil, err
	}
	return sourcesOf(entries, func(e gitsync.Entry, max int64) ([]byte, error) { return c.git.Read(ctx, e.Hash, max) })
}

// sourcesOf reads what the parser wants to see of entries: nothing of files
// that are none of the register's, no content of what is no regular file, and
// of a file over the limit its size alone.
func sourcesOf(entries []gitsync.Entry, read func(gitsync.Entry, int64) ([]byte, error)) ([]source, error) {
	sources := make([]source, 0, len(entries))
	total := int64(0)
	for _, e := range entries {
		kind := registration.Kind(e.Path)
		if kind == registration.KindIgnored {
			continue
		}
		s := source{
			Source: registration.Source{Path: e.Path, Mode: e.Mode.Register(), Size: max(e.Size, 0)},
			odd:    e.Odd, unusable: e.Unusable,
		}
		if s.Mode == registration.Regular && !s.unusable && kind != registration.KindMisplaced {
			data, err := read(e, maxSize(kind))
			if tooLarge, ok := errors.AsType[*gitsync.TooLarge](err); ok {
				s.Size = tooLarge.Size
			} else if err != nil {
				return nil, err
			} else {
				s.Data, s.Size = data, int64(len(data))
			}
		}
		if total += int64(len(s.Data)); total > registration.MaxRegister {
			return nil, fail(fmt.Sprintf("the files below %s/ have more than %d MiB together", registerDir, registration.MaxRegister>>20),
				"the relay would not take them over; what is large there, and does it belong there?")
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func siteOf(entries []gitsync.Entry, read func(gitsync.Entry, int64) ([]byte, error)) ([]byte, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	if entries[0].Mode.Register() != registration.Regular {
		return nil, fail(sitePath+" is a "+entries[0].Mode.String(), "it must be a regular file")
	}
	return read(entries[0], maxSite)
}

func maxSize(kind registration.FileKind) int64 {
	if kind == registration.KindCampus {
		return registration.MaxCampusFile
	}
	return registration.MaxFile
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
	for _, s := range disk.sources {
		if s.Mode == registration.Regular && committed[s.Path] == blobHash(s.Data) {
			same++
		}
	}
	if same != len(committed) || same != len(disk.sources) {
		return head.String() + "+dirty", nil
	}
	return head.String(), nil
}

// blobHash is git's name for a content.
func blobHash(data []byte) gitsync.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return gitsync.Hash(h.Sum(nil))
}

// behind is a hint if HEAD lacks commits of base: what others merged since
// then looks as if this change took it away.
func (c *checkout) behind(ctx context.Context, base gitsync.Hash, rev string) (hint string) {
	head, err := c.git.Resolve(ctx, "HEAD")
	if err != nil {
		return ""
	}
	relation, err := c.git.Relation(ctx, base, head)
	if err != nil || relation == gitsync.Same || relation == gitsync.Descends {
		return ""
	}
	return fmt.Sprintf("this checkout does not contain all of %s, so what was merged there looks removed here; bring it up to date: git merge %s", rev, quote(rev))
}
