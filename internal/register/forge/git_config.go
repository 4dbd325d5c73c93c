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
		out = personOf(cfg)
		return nil
	})
	return out, err
}

// UsualPerson is who git says that commits are by where there is no repository
// yet, from the user's own configuration and the system's; empty where neither
// says.
func UsualPerson() (Person, error) {
	var out Person
	for _, scope := range []config.Scope{config.GlobalScope, config.SystemScope} {
		cfg, err := config.LoadConfig(scope)
		if err != nil {
			return out, fmt.Errorf("forge: reading git's configuration: %w", err)
		}
		said := personOf(cfg)
		if out.Name == "" {
			out.Name = said.Name
		}
		if out.Email == "" {
			out.Email = said.Email
		}
	}
	return out, nil
}

func personOf(cfg *config.Config) Person {
	p := Person{Name: cfg.User.Name, Email: cfg.User.Email}
	if cfg.Author.Name != "" {
		p.Name = cfg.Author.Name
	}
	if cfg.Author.Email != "" {
		p.Email = cfg.Author.Email
	}
	return p
}
