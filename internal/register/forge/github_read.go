package forge

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"

	"example.edu/gatepost/internal/register/registration"
)

// request reads what GitHub says of a pull request. What would be decided by
// must be there.
func request(pr *github.PullRequest) (Request, error) {
	r := Request{
		Number: pr.GetNumber(), Title: pr.GetTitle(), Body: pr.GetBody(),
		Author: Account{ID: pr.GetUser().GetID(), Login: pr.GetUser().GetLogin()},
		Base:   pr.GetBase().GetRef(), Branch: pr.GetHead().GetRef(), Head: pr.GetHead().GetSHA(),
		Fork: foreign(pr), Files: -1, Commits: -1,
	}
	if u, err := url.Parse(pr.GetHTMLURL()); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		r.URL = u.String()
	}
	if pr.ChangedFiles != nil {
		r.Files = *pr.ChangedFiles
	}
	if pr.Commits != nil {
		r.Commits = *pr.Commits
	}
	r.OpenedAt, r.UpdatedAt = sane(pr.GetCreatedAt().Time), sane(pr.GetUpdatedAt().Time)
	switch {
	case pr.GetMerged() || pr.MergedAt != nil:
		r.State, r.MergedAs = Merged, pr.GetMergeCommitSHA()
		r.MergedAt, r.MergedBy = sane(pr.GetMergedAt().Time), Account{ID: pr.GetMergedBy().GetID(), Login: pr.GetMergedBy().GetLogin()}
	case pr.GetState() == "open":
		r.State = Open
	case pr.GetState() == "closed":
		r.State, r.ClosedAt = Closed, sane(pr.GetClosedAt().Time)
	}
	if r.Number < 1 || r.State == "" || r.Author.ID == 0 || !isCommit(r.Head) || r.Base == "" || r.State == Merged && !isCommit(r.MergedAs) {
		return Request{}, fmt.Errorf("forge: reading pull request %d: %w", r.Number, ErrIncomplete)
	}
	return r, nil
}

// foreign reports whether the branch is in another repository, or one that is gone.
func foreign(pr *github.PullRequest) bool {
	return pr.GetHead().GetRepo().GetID() == 0 || pr.GetHead().GetRepo().GetID() != pr.GetBase().GetRepo().GetID()
}

// Get is the pull request with a number.
func (g *GitHub) Get(ctx context.Context, number int) (Request, error) {
	var pr *github.PullRequest
	doing := fmt.Sprintf("reading pull request %d", number)
	err := g.read(ctx, doing, func(ctx context.Context) (resp *github.Response, err error) {
		pr, resp, err = g.client.PullRequests.Get(ctx, g.owner, g.name, number)
		return resp, err
	})
	if err != nil {
		return Request{}, err
	}
	r, err := request(pr)
	if err == nil && (r.Number != number || r.Files < 0 || r.Commits < 0) {
		err = fmt.Errorf("forge: %s: %w", doing, ErrIncomplete)
	}
	return r, err
}

// List is the pull requests in a state, newest first.
func (g *GitHub) List(ctx context.Context, state State) ([]Request, error) {
	ask := map[State]string{"": "all", Open: "open", Merged: "closed", Closed: "closed"}[state]
	return g.list(ctx, "listing pull requests", state, func(ctx context.Context, o github.ListOptions) ([]*github.PullRequest, *github.Response, error) {
		return g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{
			State: ask, Sort: "created", Direction: "desc", ListOptions: o,
		})
	})
}

// ForCommit is the merged pull requests that a commit came in with.
func (g *GitHub) ForCommit(ctx context.Context, commit string) ([]Request, error) {
	if !isCommit(commit) {
		return nil, fmt.Errorf("forge: %q is no full commit hash", commit)
	}
	return g.list(ctx, "looking for the pull request of "+commit, Merged, func(ctx context.Context, o github.ListOptions) ([]*github.PullRequest, *github.Response, error) {
		return g.client.PullRequests.ListPullRequestsWithCommit(ctx, g.owner, g.name, commit, &o)
	})
}

func (g *GitHub) list(ctx context.Context, doing string, state State, page func(context.Context, github.ListOptions) ([]*github.PullRequest, *github.Response, error)) ([]Request, error) {
	var all []*github.PullRequest
	err := g.pages(ctx, doing, maxList/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		list, resp, err := page(ctx, o)
		all = append(all, list...)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	var out []Request
	seen := map[int]bool{}
	for _, pr := range all {
		r, err := request(pr)
		if err != nil {
			return nil, err
		}
		// One that is opened between two pages pushes another onto the next.
		if !seen[r.Number] && (state == "" || r.State == state) {
			out = append(out, r)
		}
		seen[r.Number] = true
	}
	return out, nil
}

// Files is all that the pull request changes. GitHub's list says what was
// renamed but not what is a symlink, and ends at 3,000 without a word; so it is
// held against the count, and each file is looked up in the tree of the head.
func (g *GitHub) Files(ctx context.Context, r Request) ([]File, error) {
	doing := fmt.Sprintf("reading the files of pull request %d", r.Number)
	now, err := g.Get(ctx, r.Number)
	if err != nil {
		return nil, err
	}
	if now.Head != r.Head {
		return nil, fmt.Errorf("forge: %s: %w", doing, ErrMoved)
	}
	if now.Files > maxFiles {
		return nil, fmt.Errorf("forge: %s: %w: it changes %d files", doing, ErrTooMuch, now.Files)
	}
	var listed []*github.CommitFile
	err = g.pages(ctx, doing, maxFiles/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.PullRequests.ListFiles(ctx, g.owner, g.name, r.Number, &o)
		listed = append(listed, page...)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	if len(listed) != now.Files {
		return nil, fmt.Errorf("forge: %s: %w: %d files of %d", doing, ErrIncomplete, len(listed), now.Files)
	}
	files, err := g.contents(ctx, doing, r.Head, listed)
	if err != nil {
		return nil, err
	}
	if after, err := g.Get(ctx, r.Number); err != nil {
		return nil, err
	} else if after.Head != r.Head || after.Files != now.Files {
		return nil, fmt.Errorf("forge: %s: %w", doing, ErrMoved)
	}
	return files, nil
}

// contents turns GitHub's list into files, with their contents as of head.
func (g *GitHub) contents(ctx context.Context, doing, head string, listed []*github.CommitFile) ([]File, error) {
	at, err := g.treeOf(ctx, head)
	if err != nil {
		return nil, err
	}
	var out []File
	removed := func(p string) { out = append(out, File{Source: registration.Source{Path: p}, Removed: true}) }
	total := int64(0)
	for _, l := range listed {
		switch l.GetStatus() {
		case "removed":
			removed(l.GetFilename())
			continue
		case "renamed":
			if l.GetPreviousFilename() == "" {
				return nil, fmt.Errorf("forge: %s: %w: %s was renamed from nowhere", doing, ErrIncomplete, printable(l.GetFilename(), 200))
			}
			removed(l.GetPreviousFilename())
		case "added", "modified", "copied", "changed":
		default:
			return nil, fmt.Errorf("forge: %s: %w: %s is %q", doing, ErrIncomplete, printable(l.GetFilename(), 200), printable(l.GetStatus(), 40))
		}
		f, err := at.file(ctx, l.GetFilename())
		if err != nil {
			return nil, err
		}
		if f.Blob != l.GetSHA() {
			return nil, fmt.Errorf("forge: %s: %w: list and tree differ at %s", doing, ErrIncomplete, printable(f.Path, 200))
		}
		if most := wanted(f.Path, f.Mode); most > 0 && f.Size <= most {
			if total += f.Size; total > maxContent {
				return nil, fmt.Errorf("forge: %s: %w: more than %d bytes", doing, ErrTooMuch, maxContent)
			}
			if f.Data, err = g.blob(ctx, f.Blob, f.Size); err != nil {
				return nil, err
			}
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return settle(doing, out)
}

// settle makes one entry of a path that was removed under its old name and
// written anew. Anything else that comes twice is a list that cannot be right.
func settle(doing string, files []File) ([]File, error) {
	var out []File
	for _, f := range files {
		if n := len(out); n > 0 && out[n-1].Path == f.Path {
			if out[n-1].Removed == f.Removed {
				return nil, fmt.Errorf("forge: %s: %w: %s is listed twice", doing, ErrIncomplete, printable(f.Path, 200))
			}
			if f.Removed {
				continue
			}
			out[n-1] = f
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

// A remoteTree looks paths up in one commit's tree and remembers the folders
// that it has seen.
type remoteTree struct {
	g       *GitHub
	folders map[string]map[string]*github.TreeEntry
	root    string
}

func (g *GitHub) treeOf(ctx context.Context, commit string) (*remoteTree, error) {
	c, err := g.commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	return &remoteTree{g: g, folders: map[string]map[string]*github.TreeEntry{}, root: c.GetTree().GetSHA()}, nil
}

// file is what stands at a path.
func (t *remoteTree) file(ctx context.Context, p string) (File, error) {
	dir, name := path.Split(p)
	folder, err := t.folder(ctx, strings.Trim(dir, "/"), 0)
	if err != nil {
		return File{}, err
	}
	e, ok := folder[name]
	if !ok || e.GetType() == "tree" {
		return File{}, fmt.Errorf("forge: reading %s: %w: it is listed, and not in the tree", printable(p, 200), ErrIncomplete)
	}
	return fileOf(p, e)
}

// fileOf is what an entry of a tree stands for, its content left out.
func fileOf(p string, e *github.TreeEntry) (File, error) {
	f := File{Source: registration.Source{Path: p, Mode: entryMode(e)}, Blob: e.GetSHA()}
	if !isCommit(f.Blob) {
		return f, fmt.Errorf("forge: reading %s: %w: no content", printable(p, 200), ErrIncomplete)
	}
	if f.Mode == registration.Regular {
		if e.Size == nil {
			return f, fmt.Errorf("forge: reading %s: %w: no size", printable(p, 200), ErrIncomplete)
		}
		f.Size = int64(*e.Size)
	}
	return f, nil
}

// entryMode is what an entry that is no folder is to the register.
func entryMode(e *github.TreeEntry) registration.Mode {
	switch e.GetMode() {
	case "100644", "100755", "100664":
		return registration.Regular
	case "120000":
		return registration.Symlink
	case "160000":
		return registration.Submodule
	}
	return registration.Other
}

// folder is what is in a folder, by name.
func (t *remoteTree) folder(ctx context.Context, dir string, depth int) (map[string]*github.TreeEntry, error) {
	if known, ok := t.folders[dir]; ok {
		return known, nil
	}
	hash := t.root
	if dir != "" {
		if depth > maxDepth {
			return nil, fmt.Errorf("forge: reading a tree: %w: more than %d folders above a file", ErrTooMuch, maxDepth)
		}
		above, name := path.Split(dir)
		parent, err := t.folder(ctx, strings.Trim(above, "/"), depth+1)
		if err != nil {
			return nil, err
		}
		e, ok := parent[name]
		if !ok || e.GetType() != "tree" {
			return nil, fmt.Errorf("forge: reading %s: %w: it is no folder", printable(dir, 200), ErrIncomplete)
		}
		hash = e.GetSHA()
	}
	return t.read(ctx, dir, hash)
}

// read reads the folder with a name of git's, and holds what comes against it:
// a list that was cut, or a name that JSON cannot carry, makes another name.
func (t *remoteTree) read(ctx context.Context, dir, hash string) (map[string]*github.TreeEntry, error) {
	if known, ok := t.folders[dir]; ok {
		return known, nil
	}
	var tree *github.Tree
	err := t.g.read(ctx, "reading a tree", func(ctx context.Context) (resp *github.Response, err error) {
		tree, resp, err = t.g.client.Git.GetTree(ctx, t.g.owner, t.g.name, hash, false)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string]*github.TreeEntry, len(tree.Entries))
	for _, e := range tree.Entries {
		found[e.GetPath()] = e
	}
	if tree.GetTruncated() || tree.GetSHA() != hash || len(found) != len(tree.Entries) || !held(tree.Entries, hash) {
		return nil, fmt.Errorf("forge: reading the folder %q: %w: it was cut, or holds a name that is not text", printable(dir, 200), ErrIncomplete)
	}
	t.folders[dir] = found
	return found, nil
}

// blob is a content; what was sent is held against its name.
func (g *GitHub) blob(ctx context.Context, hash string, size int64) ([]byte, error) {
	var blob *github.Blob
	err := g.read(ctx, "reading "+hash, func(ctx context.Context) (resp *github.Response, err error) {
		blob, resp, err = g.client.Git.GetBlob(ctx, g.owner, g.name, hash)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	data := []byte(blob.GetContent())
	if blob.GetEncoding() == "base64" {
		data, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(blob.GetContent(), "\n", ""))
	}
	if err != nil || int64(len(data)) != size || blobName(data) != hash {
		return nil, fmt.Errorf("forge: reading %s: %w: the content is not what its name says", hash, ErrIncomplete)
	}
	return data, nil
}

// blobName is git's name for a content.
func blobName(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
