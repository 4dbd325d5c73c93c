package gitsync

import (
	"context"
	"errors"
	"fmt"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
)

// FetchRequest brings the commit that a pull request of GitHub's stood at here,
// which the branch does not have where the request was squashed. It is an
// ErrNoCommit if the host shows another one for the request. Nothing refers to
// the commit here: a clone that is made anew lacks it.
func (m *Mirror) FetchRequest(ctx context.Context, number int, head Hash) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	missing := m.use(ctx, "looking for "+head.String(), func(_ context.Context, g *git.Repository) error {
		_, err := commit(g, head)
		return err
	})
	if !errors.Is(missing, ErrNoCommit) || m.remote == nil {
		return missing
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	got, news, err := m.remote.fetch(ctx, m.dir, plumbing.ReferenceName(fmt.Sprintf("refs/pull/%d/head", number)), "")
	if news {
		m.stale.Store(true)
	}
	if err == nil && got != head {
		return fmt.Errorf("gitsync: fetching request %d: %w: its head is %s, not %s", number, ErrNoCommit, got, head)
	}
	return err
}
