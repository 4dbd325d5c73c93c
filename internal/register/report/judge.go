package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
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

// read reads what merging head into the branch would make; nil if it changes
// nothing of the register. site says that it changes the site's rules.
func (j Judging) read(ctx context.Context, tip gitsync.Hash, head string) (change *review.Change, site bool, err error) {
	fork, files, err := j.Forge.changes(ctx, j, tip, head)
	if err != nil {
		return nil, false, err
	}
	site = slices.ContainsFunc(files, func(f forge.File) bool { return f.Path == review.SitePath })
	files = slices.DeleteFunc(files, func(f forge.File) bool { return registration.Kind(f.Path) == registration.KindIgnored })
	if len(files) == 0 {
		return nil, site, nil
	}
	if j.Base != nil && !site {
		if base := j.Base(tip.String()); base != nil && base.Commit() == tip.String() {
			if change, err = j.edit(ctx, base, tip, fork, head, files); change != nil || err != nil {
				return change, false, err
			}
		}
	}
	base, err := review.At(ctx, j.Repo, tip, nil)
	if err != nil {
		return nil, false, err
	}
	ancestor := base
	if fork != tip {
		if ancestor, err = review.NamesAt(ctx, j.Repo, fork); err != nil {
			return nil, false, err
		}
	}
	merged, contested := review.Merge(ancestor, base, lay(ancestor, head, files))
	if len(contested) > 0 {
		return nil, false, j.behind(contested)
	}
	change, err = review.Read(ctx, base, merged, j.Now(), nil, j.Counter)
	return change, site, err
}

// edit makes the change of a register that is built already, which costs what
// changes and not what there is. It is nil where an edit cannot say what a file is.
func (j Judging) edit(ctx context.Context, base *review.Base, tip, fork gitsync.Hash, head string, files []forge.File) (*review.Change, error) {
	edits := make([]review.Edit, len(files))
	for i, f := range files {
		if !f.Removed && (f.Mode != registration.Regular || int64(len(f.Data)) != f.Size) {
			return nil, nil
		}
		if !f.Removed && base.File(f.Path) == nil && base.Taken(f.Path) { // of two names that are alike, the whole list tells which is the odd one
			return nil, nil
		}
		edits[i] = review.Edit{Path: f.Path, Data: f.Data, Remove: f.Removed}
	}
	if fork != tip {
		ancestor, err := review.NamesAt(ctx, j.Repo, fork)
		if err != nil {
			return nil, err
		}
		now, err := review.NamesAt(ctx, j.Repo, tip)
		if err != nil {
			return nil, err
		}
		if _, contested := review.Merge(ancestor, now, lay(ancestor, head, files)); len(contested) > 0 {
			return nil, j.behind(contested)
		}
	}
	change, err := base.Change(edits, j.Now())
	if errors.Is(err, review.ErrEdits) {
		return nil, nil
	}
	return change, err
}

// behind is the doubt about paths that both sides changed.
func (j Judging) behind(contested []string) doubt {
	return doubt{"the branch must be brought up to date", fmt.Sprintf(
		"%s was changed here and on `%s` since this branch left it, so only merging tells what comes of it. %s\n\n%s",
		review.Count(len(contested), "file", "files"), j.Branch, j.update(), review.PathsMarkdown(contested))}
}

// update is how to bring a branch up to date.
func (j Judging) update() string {
	return fmt.Sprintf("Merge `%s` into this branch%s, and it is judged again.", j.Branch, j.Forge.button())
}

// tip is the branch's newest commit, as GitHub has it.
func (j Judging) tip(ctx context.Context) (gitsync.Hash, error) {
	name, err := j.Forge.Tip(ctx, j.Branch)
	if err != nil {
		return gitsync.Hash{}, err
	}
	tip, err := gitsync.ParseHash(name)
	if err != nil {
		return gitsync.Hash{}, err
	}
	if _, err := j.Repo.Describe(ctx, tip); errors.Is(err, gitsync.ErrNoCommit) {
		return gitsync.Hash{}, fmt.Errorf("report: %w: %s at %s", ErrStale, j.Branch, name)
	} else if err != nil {
		return gitsync.Hash{}, err
	}
	return tip, nil
}

// fork is the commit of the base's history that head was made from, or last
// took in. Of GitHub's answer nothing is taken on trust but the parents of
// commits that only the request has: whatever leads out of them must lead into
// the history of the base, which is on this disk.
func (g github) fork(ctx context.Context, j Judging, base gitsync.Hash, head string) (gitsync.Hash, error) {
	ahead, err := g.Ahead(ctx, base.String(), head)
	if errors.Is(err, forge.ErrNotFound) {
		return gitsync.Hash{}, j.unrelated()
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
	if len(meetings) > maxMeetings {
		return gitsync.Hash{}, j.crossing()
	}
	hashes := make([]gitsync.Hash, len(meetings))
	for i, name := range meetings {
		if hashes[i], err = gitsync.ParseHash(name); err != nil {
			return gitsync.Hash{}, err
		}
		has, err := j.has(ctx, base, hashes[i])
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
		for k, other := range hashes {
			if i == k || covered {
				continue
			}
			if covered, err = j.has(ctx, other, h); err != nil {
				return gitsync.Hash{}, err
			}
		}
		if !covered {
			newest = append(newest, h)
		}
	}
	if len(newest) != 1 {
		return gitsync.Hash{}, j.crossing()
	}
	return newest[0], nil
}

// has reports whether commit h is in the history of at.
func (j Judging) has(ctx context.Context, at, h gitsync.Hash) (bool, error) {
	relation, err := j.Repo.Relation(ctx, h, at)
	return relation == gitsync.Same || relation == gitsync.Descends, err
}

// folders tells package forge what is in the folders of a commit here.
func (j Judging) folders(commit gitsync.Hash) forge.Folders {
	return func(ctx context.Context, dir string) (map[string]forge.Known, error) {
		names, err := j.Repo.Folder(ctx, commit, dir)
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

// doubtOf tells errors that the request is to blame for from all others.
func (j Judging) doubtOf(err error) (doubt, bool) {
	d, ok := errors.AsType[doubt](err)
	switch {
	case ok:
		return d, true
	case errors.Is(err, forge.ErrTooMuch):
		return doubt{"it is more than is read of one request", "It changes more files, or holds more commits, than are read of one request. Split it, or bring it onto a new branch as few commits."}, true
	case errors.Is(err, forge.ErrIncomplete):
		return j.Forge.incomplete(), true
	case errors.Is(err, review.ErrSite):
		return doubt{"the register's own rules are broken", "`" + review.SitePath + "` on the branch that this goes into cannot be used, so nothing can be judged. A postmaster must mend it first."}, true
	case errors.Is(err, review.ErrTooLarge):
		return doubt{"the register is too large", "The files of the register are larger together than the relay takes over. What is large there, and does it belong there?"}, true
	}
	return doubt{}, false
}
