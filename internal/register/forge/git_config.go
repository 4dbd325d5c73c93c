package forge

import (
	"context"
	"errors"
	"fmt"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
)

// Remote is where a remote of the repository is, as its configuration says, or
// "" if there is none of that name. It may hold credentials: it is not for
// display.
func (g *Git) Remote(ctx context.Context, name string) (string, error) {
	out := ""
	err := g.with(ctx, "reading the configuration", func(_ context.Context, repo *git.Repository) error {
		remote, err := repo.Remote(name)
		if errors.Is(err, git.ErrRemoteNotFound) {
			return nil
		}
		if err != nil {
			return errors.New("it cannot be read") // git's own words may repeat the URL
		}
		if urls := remote.Config().URLs; len(urls) > 0 {
			out = urls[0]
		}
		return nil
	})
	return out, err
}

// Person is who git says that commits are by, from the repository's
// configuration and the user's own; empty where neither says.
func (g *Git) Person(ctx context.Context) (Person, error) {
	var out Person
	err := g.with(ctx, "reading the configuration", func(_ context.Context, repo *git.Repository) error {
		cfg, err := repo.ConfigScoped(config.SystemScope)
		if err != nil {
			return fmt.Errorf("reading git's configuration: %w", err)
		}
		out = Person{Name: cfg.User.Name, Email: cfg.User.Email}
		if cfg.Author.Name != "" {
			out.Name = cfg.Author.Name
		}
		if cfg.Author.Email != "" {
			out.Email = cfg.Author.Email
		}
		return nil
	})
	return out, err
}
