package cli

import (
	"bytes"
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"example.edu/gatepost/internal/register/registration"
)

// parseAll parses every source under the site's rules, on all cores: a parser
// is not safe for concurrent use, so each worker has one. The order of the
// files is that of the sources.
func parseAll(ctx context.Context, site []byte, sources []source, p *progress) ([]*registration.File, error) {
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
				files[i] = parser.ParseOdd(sources[i].Source, sources[i].odd, sources[i].unusable)
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

// parseChange parses two trees under the rules of the first. What is the same
// in both is parsed once, and is one and the same File.
func parseChange(ctx context.Context, base, head *tree, p *progress) (before, after []*registration.File, err error) {
	if before, err = parseAll(ctx, base.site, base.sources, p); err != nil {
		return nil, nil, err
	}
	known := make(map[string]int, len(base.sources))
	for i := range base.sources {
		known[base.sources[i].Path] = i
	}
	after = make([]*registration.File, len(head.sources))
	var changed []source
	var places []int // of changed in after
	for i, s := range head.sources {
		if j, ok := known[s.Path]; ok && s.same(base.sources[j]) {
			after[i] = before[j]
			continue
		}
		changed, places = append(changed, s), append(places, i)
	}
	parsed, err := parseAll(ctx, base.site, changed, p)
	for i, f := range parsed {
		after[places[i]] = f
	}
	return before, after, err
}

// same reports whether two sources of one path parse alike.
func (s source) same(o source) bool {
	return s.Mode == o.Mode && s.odd == o.odd && s.unusable == o.unusable && s.Size == o.Size && bytes.Equal(s.Data, o.Data)
}
