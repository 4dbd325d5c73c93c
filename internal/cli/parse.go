package cli

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"example.edu/gatepost/internal/register/registration"
)

// parseAll parses every source under the site's rules, on all cores: a parser
// is not safe for concurrent use, so each worker has one. The order of the
// files is that of the sources.
func parseAll(ctx context.Context, site []byte, sources []registration.Source, p *progress) ([]*registration.File, error) {
	p.total.Add(int64(len(sources)))
	files := make([]*registration.File, len(sources))
	workers := min(runtime.GOMAXPROCS(0), max(1, len(sources)/8))
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			parser, err := registration.NewParser(site)
			if err != nil {
				return hinted(err, "the site's rules are in schema/site.cue; they can only narrow the built-in definitions")
			}
			for i := w; i < len(sources); i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				files[i] = parser.Parse(sources[i])
				p.done.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return files, nil
}
