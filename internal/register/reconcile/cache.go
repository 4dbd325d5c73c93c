package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// A key names what a parsed file depends on, but for the site rules.
type key struct {
	path string
	blob gitsync.Hash
	mode registration.Mode
	odd  string
}

func (s *source) key() key { return key{s.Path, s.Blob, s.Mode, s.Odd} }

// A cache keeps the parsed form of files for one set of site rules, and the
// parsers, one for each worker. Whoever has the Reconciler's turn owns it.
type cache struct {
	site    []byte
	parsers []*registration.Parser
	parsed  map[key]entry
}

type entry struct {
	source source
	file   *registration.File
}

// source finds the content of a file that was parsed before.
func (c *cache) source(k key) (source, bool) {
	e, ok := c.parsed[k]
	return e.source, ok
}

// use changes to other site rules, and forgets everything if they are others.
// Rules that are broken change nothing.
func (c *cache) use(site []byte) error {
	if c.parsed != nil && bytes.Equal(c.site, site) {
		return nil
	}
	p, err := registration.NewParser(site)
	if err != nil {
		return err
	}
	c.site, c.parsers, c.parsed = site, []*registration.Parser{p}, make(map[key]entry)
	return nil
}

// parse gives the parsed form of each source. What is not known is parsed, by
// as many workers as there are cores when it is much.
func (c *cache) parse(ctx context.Context, site []byte, sources []source) ([]*registration.File, error) {
	if err := c.use(site); err != nil {
		return nil, fmt.Errorf("the site rules: %w", err)
	}
	files := make([]*registration.File, len(sources))
	var missing []int
	for i := range sources {
		if e, ok := c.parsed[sources[i].key()]; ok {
			files[i] = e.file
		} else {
			missing = append(missing, i)
		}
	}
	const worthwhile = 64 // files for one more worker
	workers := min(runtime.GOMAXPROCS(0), (len(missing)+worthwhile-1)/worthwhile)
	for len(c.parsers) < workers {
		p, err := registration.NewParser(site)
		if err != nil {
			return nil, fmt.Errorf("the site rules: %w", err)
		}
		c.parsers = append(c.parsers, p)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := w; n < len(missing) && ctx.Err() == nil; n += workers {
				files[missing[n]] = parse(c.parsers[w], &sources[missing[n]])
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, i := range missing {
		c.parsed[sources[i].key()] = entry{sources[i], files[i]}
	}
	return files, nil
}

// adopt takes the parsed files out of sources, and over if they are of the same
// program.
func (c *cache) adopt(site []byte, sources []source, same bool) {
	if same { // and with it the site's rules: a parser can wait until there is something to parse
		c.site, c.parsers, c.parsed = site, nil, make(map[key]entry, len(sources))
	}
	for i := range sources {
		s, file := &sources[i], sources[i].File
		s.File = nil
		if same && file != nil {
			c.parsed[s.key()] = entry{*s, file}
		}
	}
}

// one is parse for a single file, under rules that parse has taken already.
func (c *cache) one(site []byte, s source) *registration.File {
	files, err := c.parse(context.Background(), site, []source{s})
	if err != nil { // cannot be: the parser exists
		return &registration.File{Path: s.Path, Problems: []registration.Problem{wholeFile(s.Path, registration.RuleSchema, registration.Error, err.Error(), "mend "+siteFile)}}
	}
	return files[0]
}

// keep forgets what neither the given files nor the last load used.
func (c *cache) keep(files []source) {
	used := make(map[key]entry, len(files))
	for i := range files {
		k := files[i].key()
		if e, ok := c.parsed[k]; ok {
			used[k] = e
		}
	}
	c.parsed = used
}

// parse parses one file, names that are odd included.
func parse(p *registration.Parser, s *source) *registration.File {
	return p.ParseOdd(registration.Source{Path: s.Path, Mode: s.Mode, Size: s.Size, Data: s.Data}, s.Odd, s.Unusable)
}

func wholeFile(path string, rule registration.Rule, severity registration.Severity, message, hint string) registration.Problem {
	return registration.Problem{File: path, Rule: rule, Severity: severity, Message: message, Hint: hint}
}
