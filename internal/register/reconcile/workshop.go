package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// A workshop has the parsers, one for each worker, for one set of site rules,
// and keeps what was parsed last and is not in force. Whoever has the
// Reconciler's turn owns it.
type workshop struct {
	site    []byte
	begun   bool // site counts
	parsers []*registration.Parser
	recent  map[key]*source // of the last load
}

// use changes to other site rules, and forgets everything if they are others.
// Rules that are broken change nothing.
func (w *workshop) use(site []byte) error {
	if w.begun && bytes.Equal(w.site, site) {
		return nil
	}
	p, err := registration.NewParser(site)
	if err != nil {
		return err
	}
	*w = workshop{site: site, begun: true, parsers: []*registration.Parser{p}}
	return nil
}

// adopt takes over site rules under which files were parsed before, by the same
// program: a parser can wait until there is something to parse.
func (w *workshop) adopt(site []byte) { *w = workshop{site: site, begun: true} }

// parse fills in what each source means; content is what it says. It takes as
// many workers as there are cores when there is much to do, and tells how far it
// has come now and then.
func (w *workshop) parse(ctx context.Context, site []byte, sources []*source, content func(*source) []byte, tell func(done int)) error {
	if err := w.use(site); err != nil {
		return fmt.Errorf("the site rules: %w", err)
	}
	const worthwhile = 64 // files for one more worker
	workers := min(runtime.GOMAXPROCS(0), (len(sources)+worthwhile-1)/worthwhile)
	for len(w.parsers) < workers {
		p, err := registration.NewParser(site)
		if err != nil {
			return fmt.Errorf("the site rules: %w", err)
		}
		w.parsers = append(w.parsers, p)
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			var pool registration.Pool
			last := time.Now()
			for n := i; n < len(sources) && ctx.Err() == nil; n += workers {
				sources[n].File = parse(w.parsers[i], sources[n], content(sources[n]))
				pool.Share(sources[n].File)
				so := done.Add(1)
				if i == 0 && tell != nil && so%256 < int64(workers) && time.Since(last) > 2*time.Second {
					last = time.Now()
					tell(int(so))
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// parse parses one file, names that are odd included.
func parse(p *registration.Parser, s *source, content []byte) *registration.File {
	return p.ParseOdd(registration.Source{Path: s.Path, Mode: s.Mode, Size: s.Size, Data: content}, s.Odd, s.Unusable)
}

// keep remembers what was parsed for a load, and forgets the one before.
func (w *workshop) keep(parsed map[string]*source) {
	w.recent = make(map[key]*source, len(parsed))
	for _, s := range parsed {
		if s != nil {
			w.recent[s.key()] = s
		}
	}
}

// modest holds the garbage of reading very many files down until the function
// that it returns is called: they leave a quarter of a megabyte each, and with
// them a heap twice as large as what is kept. It sets the process's soft limit,
// to no more than there was; and what was freed goes back to the system, before
// the next rounds grow the heap beside it.
func modest(files int) (enough func()) {
	const (
		veryMany = 10_000
		each     = 4_600    // bytes: what is kept of a file and as much again
		besides  = 32 << 20 // bytes: the rest of the process
	)
	if files < veryMany {
		return func() {}
	}
	before := debug.SetMemoryLimit(-1) // asks
	debug.SetMemoryLimit(min(before, int64(files)*each+besides))
	return func() {
		debug.SetMemoryLimit(before)
		debug.FreeOSMemory()
	}
}
