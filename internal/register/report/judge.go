package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// maxMeetings bounds how many commits of the base a request may have been made
// from; beyond, nobody tells what merging it means.
const maxMeetings = 32

// A doubt is a reason not to judge that the request itself can take away. It is
// no error: it is reported.
type doubt struct {
	title string // a few words
	text  string // what is uncertain and what to do, in Markdown
}

func (d doubt) Error() string { return d.title }

// judge judges every subject at head. They change the same, but their authors
// may be others.
func (o Options) judge(ctx context.Context, head string, subjects []subject) ([]verdict, error) {
	all := func(v verdict) []verdict { return slices.Repeat([]verdict{v}, len(subjects)) }
	change, site, err := o.read(ctx, head)
	if err != nil {
		d, ok := doubtOf(err)
		if !ok {
			return nil, err
		}
		return all(doubted(d)), nil
	}
	if change == nil {
		return all(moot(site)), nil
	}
	var seen *review.Witnesses
	if o.Evidence != nil {
		if seen, err = o.Evidence(ctx, change.Was(), change.Is()); err != nil {
			return nil, err
		}
	}
	plan := change.Plan()
	verdicts := make([]verdict, len(subjects))
	for i, s := range subjects {
		author, unread, err := o.author(ctx, change, s)
		if err != nil {
			return nil, err
		}
		verdicts[i] = newVerdict(change.Problems(author), &plan, seen, unread, site)
	}
	return verdicts, nil
}

// read reads what merging head into the branch would make; nil if it changes
// nothing of the register. site says that it changes the site's rules.
func (o Options) read(ctx context.Context, head string) (change *review.Change, site bool, err error) {
	tip, err := o.tip(ctx)
	if err != nil {
		return nil, false, err
	}
	fork, err := o.fork(ctx, tip, head)
	if err != nil {
		return nil, false, err
	}
	files, err := o.GitHub.Since(ctx, head, o.folders(fork), review.Folder, review.SitePath)
	if err != nil {
		return nil, false, err
	}
	site = slices.ContainsFunc(files, func(f forge.File) bool { return f.Path == review.SitePath })
	files = slices.DeleteFunc(files, func(f forge.File) bool { return registration.Kind(f.Path) == registration.KindIgnored })
	if len(files) == 0 {
		return nil, site, nil
	}
	base, err := review.At(ctx, o.Repo, tip, nil)
	if err != nil {
		return nil, false, err
	}
	ancestor := base
	if fork != tip {
		if ancestor, err = review.NamesAt(ctx, o.Repo, fork); err != nil {
			return nil, false, err
		}
	}
	merged, contested := review.Merge(ancestor, base, lay(ancestor, head, files))
	if len(contested) > 0 {
		return nil, false, doubt{"the branch must be brought up to date", fmt.Sprintf(
			"%s was changed here and on `%s` since this branch left it, so only merging tells what comes of it. Merge `%s` into this branch (the button “Update branch” does it), and it is judged again.\n\n%s",
			review.Count(len(contested), "file", "files"), o.Branch, o.Branch, review.PathsMarkdown(contested))}
	}
	change, err = review.Read(ctx, base, merged, o.Now(), nil, o.Counter)
	return change, site, err
}

// tip is the branch's newest commit, as GitHub has it.
func (o Options) tip(ctx context.Context) (gitsync.Hash, error) {
	name, err := o.GitHub.Tip(ctx, o.Branch)
	if err != nil {
		return gitsync.Hash{}, err
	}
	tip, err := gitsync.ParseHash(name)
	if err != nil {
		return gitsync.Hash{}, err
	}
	if _, err := o.Repo.Describe(ctx, tip); errors.Is(err, gitsync.ErrNoCommit) {
		return gitsync.Hash{}, fmt.Errorf("report: %w: %s at %s", ErrStale, o.Branch, name)
	} else if err != nil {
		return gitsync.Hash{}, err
	}
	return tip, nil
}

// fork is the commit of the base's history that head was made from, or last
// took in. Of GitHub's answer nothing is taken on trust but the parents of
// commits that only the request has: whatever leads out of them must lead into
// the history of the base, which is on this disk.
func (o Options) fork(ctx context.Context, base gitsync.Hash, head string) (gitsync.Hash, error) {
	ahead, err := o.GitHub.Ahead(ctx, base.String(), head)
	if errors.Is(err, forge.ErrNotFound) {
		return gitsync.Hash{}, doubt{"it has nothing in common with the register", fmt.Sprintf(
			"The history of this branch does not begin in `%s`. Make a new branch from there, and put the change on it.", o.Branch)}
	}
	if err != nil {
		return gitsync.Hash{}, err
	}
	mine := make(map[string]bool, len(ahead))
	for _, c := range ahead {
		mine[c.Hash] = true
	}
	meetings := []string{}
	if !mine[head] { // the base has it already
		meetings = append(meetings, head)
	}
	for _, c := range ahead {
		for _, p := range c.Parents {
			if !mine[p] && !slices.Contains(meetings, p) {
				meetings = append(meetings, p)
			}
		}
	}
	crossing := doubt{"its history crosses that of the register", fmt.Sprintf(
		"This branch and `%s` were merged into one another more than once, so only merging tells what comes of it. Merge `%s` into this branch (the button “Update branch” does it), and it is judged again.", o.Branch, o.Branch)}
	if len(meetings) > maxMeetings {
		return gitsync.Hash{}, crossing
	}
	hashes := make([]gitsync.Hash, len(meetings))
	for i, name := range meetings {
		if hashes[i], err = gitsync.ParseHash(name); err != nil {
			return gitsync.Hash{}, err
		}
		has, err := o.has(ctx, base, hashes[i])
		if err != nil {
			return gitsync.Hash{}, err
		}
		if !has {
			return gitsync.Hash{}, fmt.Errorf("report: comparing %s with %s: %w: a commit between them is missing", head, base, forge.ErrIncomplete)
		}
	}
	var newest []gitsync.Hash
	for i, h := range hashes {
		covered := false
		for j, other := range hashes {
			if i == j || covered {
				continue
			}
			if covered, err = o.has(ctx, other, h); err != nil {
				return gitsync.Hash{}, err
			}
		}
		if !covered {
			newest = append(newest, h)
		}
	}
	if len(newest) != 1 {
		return gitsync.Hash{}, crossing
	}
	return newest[0], nil
}

// has reports whether commit h is in the history of at.
func (o Options) has(ctx context.Context, at, h gitsync.Hash) (bool, error) {
	relation, err := o.Repo.Relation(ctx, h, at)
	return relation == gitsync.Same || relation == gitsync.Descends, err
}

// folders tells package forge what is in the folders of a commit here.
func (o Options) folders(commit gitsync.Hash) forge.Folders {
	return func(ctx context.Context, dir string) (map[string]forge.Known, error) {
		names, err := o.Repo.Folder(ctx, commit, dir)
		if err != nil || names == nil {
			return nil, err
		}
		known := make(map[string]forge.Known, len(names))
		for name, n := range names {
			known[name] = forge.Known{Hash: n.Hash.String(), Mode: n.Mode.Register(), Folder: n.Folder}
		}
		return known, nil
	}
}

// lay is the request's own tree: that of the commit it was made from, with what
// it changes.
func lay(ancestor review.Tree, head string, files []forge.File) review.Tree {
	changed := make(map[string]bool, len(files))
	for _, f := range files {
		changed[f.Path] = true
	}
	t := review.Tree{Commit: head, Site: ancestor.Site}
	for _, s := range ancestor.Sources {
		if !changed[s.Path] || s.Unusable {
			t.Sources = append(t.Sources, s)
		}
	}
	for _, f := range files {
		if !f.Removed {
			t.Sources = append(t.Sources, review.Source{Source: f.Source, Blob: f.Blob})
		}
	}
	slices.SortStableFunc(t.Sources, func(a, b review.Source) int { return strings.Compare(a.Path, b.Path) })
	return t
}

// author is who opened a request, with those of their teams that decide. unread
// are the teams that this token may not look into. A group of the merge queue
// has no author: whose requests are in it were judged before.
func (o Options) author(ctx context.Context, change *review.Change, s subject) (author policy.Author, unread []registration.Team, err error) {
	if s.request == nil {
		return policy.Author{}, nil, nil
	}
	author = policy.Author{Login: s.request.Author.Login, ID: s.request.Author.ID}
	for _, want := range change.Teams(author) {
		team, err := o.GitHub.Team(ctx, want.Slug)
		switch {
		case errors.Is(err, forge.ErrNotFound), errors.Is(err, forge.ErrRefused):
			unread = append(unread, want)
			author.Unread = append(author.Unread, want.ID)
		case err != nil:
			return author, nil, err
		case team.ID == want.ID && team.Has(author.ID): // the slug may be another team's by now
			author.Teams = append(author.Teams, want.ID)
		}
	}
	return author, unread, nil
}

// doubtOf tells errors that the request is to blame for from all others.
func doubtOf(err error) (doubt, bool) {
	d, ok := errors.AsType[doubt](err)
	switch {
	case ok:
		return d, true
	case errors.Is(err, forge.ErrTooMuch):
		return doubt{"it is more than is read of one request", "It changes more files, or holds more commits, than are read of one request. Split it, or bring it onto a new branch as few commits."}, true
	case errors.Is(err, forge.ErrIncomplete):
		return doubt{"GitHub did not tell everything that it changes", "What GitHub told of this request is not all of it, or a file's name cannot be told at all (it is not text, or no name for a file). Rename such a file; if there is none, run the workflow again."}, true
	case errors.Is(err, review.ErrSite):
		return doubt{"the register's own rules are broken", "`" + review.SitePath + "` on the branch that this goes into cannot be used, so nothing can be judged. A postmaster must mend it first."}, true
	case errors.Is(err, review.ErrTooLarge):
		return doubt{"the register is too large", "The files of the register are larger together than the relay takes over. What is large there, and does it belong there?"}, true
	}
	return doubt{}, false
}
