package forge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/go-github/v60/github"
)

// Open makes a tree, a commit, a branch and the pull request, in this order.
// Until the branch is made nobody sees anything. The branch is named after
// the content, so the same proposal, made again after a failure, finds what is
// there already.
func (g *GitHub) Open(ctx context.Context, p Proposal) (Request, error) {
	if err := p.check(); err != nil {
		return Request{}, err
	}
	parent := p.Parent
	if parent == "" {
		var err error
		if parent, err = g.tip(ctx, p.Base); err != nil {
			return Request{}, err
		}
	}
	before, err := g.commit(ctx, parent)
	if err != nil {
		return Request{}, err
	}
	tree, err := g.makeTree(ctx, before.GetTree().GetSHA(), p.Changes)
	if err != nil {
		return Request{}, err
	}
	if tree == before.GetTree().GetSHA() {
		return Request{}, fmt.Errorf("forge: opening a request: %w: %s says all of this already", ErrInvalid, p.Base)
	}
	branch := "request/" + slug(p.Name) + "-" + tree[:8]
	head, err := g.makeBranch(ctx, branch, parent, tree, p)
	if err != nil {
		return Request{}, err
	}
	if r, ok, err := g.opened(ctx, branch, head); err != nil || ok {
		return r, err
	}
	var made *github.PullRequest
	err = g.write(ctx, "opening a pull request", func(ctx context.Context) (resp *github.Response, err error) {
		made, resp, err = g.client.PullRequests.Create(ctx, g.owner, g.name, &github.NewPullRequest{
			Title: &p.Title, Head: &branch, Base: &p.Base, Body: &p.Body, MaintainerCanModify: github.Bool(true),
		})
		return resp, err
	})
	if err != nil {
		return Request{}, err
	}
	return request(made)
}

// tip is the commit that a branch stands at.
func (g *GitHub) tip(ctx context.Context, branch string) (string, error) {
	var ref *github.Reference
	err := g.read(ctx, "reading branch "+branch, func(ctx context.Context) (resp *github.Response, err error) {
		ref, resp, err = g.client.Git.GetRef(ctx, g.owner, g.name, "heads/"+branch)
		return resp, err
	})
	if err != nil {
		return "", err
	}
	if !isCommit(ref.GetObject().GetSHA()) {
		return "", fmt.Errorf("forge: reading branch %s: %w", branch, ErrIncomplete)
	}
	return ref.GetObject().GetSHA(), nil
}

func (g *GitHub) commit(ctx context.Context, hash string) (*github.Commit, error) {
	var c *github.Commit
	err := g.read(ctx, "reading commit "+hash, func(ctx context.Context) (resp *github.Response, err error) {
		c, resp, err = g.client.Git.GetCommit(ctx, g.owner, g.name, hash)
		return resp, err
	})
	if err == nil && (c.GetSHA() != hash || !isCommit(c.GetTree().GetSHA())) {
		err = fmt.Errorf("forge: reading commit %s: %w", hash, ErrIncomplete)
	}
	return c, err
}

// makeTree uploads the changed files on top of a tree.
func (g *GitHub) makeTree(ctx context.Context, base string, changes []Change) (string, error) {
	entries := make([]*github.TreeEntry, len(changes))
	for i, c := range changes {
		e := &github.TreeEntry{Path: &c.Path, Mode: github.String("100644"), Type: github.String("blob")}
		switch {
		case c.Remove: // neither content nor hash: removed
		case utf8.Valid(c.Data):
			e.Content = github.String(string(c.Data))
		default:
			blob, err := g.makeBlob(ctx, c.Data)
			if err != nil {
				return "", err
			}
			e.SHA = &blob
		}
		entries[i] = e
	}
	var tree *github.Tree
	err := g.write(ctx, "uploading the files", func(ctx context.Context) (resp *github.Response, err error) {
		tree, resp, err = g.client.Git.CreateTree(ctx, g.owner, g.name, base, entries)
		return resp, err
	})
	if err == nil && !isCommit(tree.GetSHA()) {
		err = fmt.Errorf("forge: uploading the files: %w", ErrIncomplete)
	}
	return tree.GetSHA(), err
}

func (g *GitHub) makeBlob(ctx context.Context, data []byte) (string, error) {
	var blob *github.Blob
	err := g.write(ctx, "uploading a file", func(ctx context.Context) (resp *github.Response, err error) {
		blob, resp, err = g.client.Git.CreateBlob(ctx, g.owner, g.name, &github.Blob{
			Content: github.String(base64.StdEncoding.EncodeToString(data)), Encoding: github.String("base64"),
		})
		return resp, err
	})
	return blob.GetSHA(), err
}

// makeBranch commits the tree and makes a branch of it; a branch of that name
// with that very tree is taken as it is.
func (g *GitHub) makeBranch(ctx context.Context, branch, parent, tree string, p Proposal) (string, error) {
	if head, err := g.tip(ctx, branch); err == nil {
		return head, g.sameTree(ctx, branch, head, tree)
	} else if !errors.Is(err, ErrNotFound) {
		return "", err
	}
	c := &github.Commit{Message: github.String(p.message()), Tree: &github.Tree{SHA: &tree}, Parents: []*github.Commit{{SHA: &parent}}}
	if p.Author.Name != "" && p.Author.Email != "" {
		c.Author = &github.CommitAuthor{Name: &p.Author.Name, Email: &p.Author.Email}
		if !p.At.IsZero() {
			c.Author.Date = &github.Timestamp{Time: p.At.UTC().Truncate(time.Second)}
		}
	}
	var made *github.Commit
	err := g.write(ctx, "committing", func(ctx context.Context) (resp *github.Response, err error) {
		made, resp, err = g.client.Git.CreateCommit(ctx, g.owner, g.name, c, nil)
		return resp, err
	})
	if err != nil {
		return "", err
	}
	head := made.GetSHA()
	err = g.write(ctx, "making branch "+branch, func(ctx context.Context) (resp *github.Response, err error) {
		_, resp, err = g.client.Git.CreateRef(ctx, g.owner, g.name, &github.Reference{
			Ref: github.String("refs/heads/" + branch), Object: &github.GitObject{SHA: &head},
		})
		return resp, err
	})
	return head, err
}

func (g *GitHub) sameTree(ctx context.Context, branch, head, tree string) error {
	c, err := g.commit(ctx, head)
	if err == nil && c.GetTree().GetSHA() != tree {
		err = fmt.Errorf("forge: making branch %s: %w: it exists, and says something else", branch, ErrConflict)
	}
	return err
}

// opened finds the open pull request of a branch.
func (g *GitHub) opened(ctx context.Context, branch, head string) (Request, bool, error) {
	var list []*github.PullRequest
	err := g.read(ctx, "looking for the pull request of "+branch, func(ctx context.Context) (resp *github.Response, err error) {
		list, resp, err = g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{
			State: "open", Head: g.owner + ":" + branch, ListOptions: github.ListOptions{PerPage: perPage},
		})
		return resp, err
	})
	if err != nil {
		return Request{}, false, err
	}
	for _, pr := range list {
		if pr.GetHead().GetRef() == branch && pr.GetHead().GetSHA() == head && !foreign(pr) {
			r, err := request(pr)
			return r, err == nil, err
		}
	}
	return Request{}, false, nil
}
