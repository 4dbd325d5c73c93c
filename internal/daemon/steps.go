package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
)

// steps is what has to be undone at the end, last in, first out. Its methods
// are called from one goroutine.
type steps struct {
	log    *slog.Logger
	undo   []step
	failed chan error // the first run that ended by itself
}

type step struct {
	name string
	end  func() error
}

func newSteps(log *slog.Logger) *steps {
	return &steps{log: log, failed: make(chan error, 1)}
}

// later has f called at the end.
func (s *steps) later(name string, f func() error) {
	s.undo = append(s.undo, step{name, f})
}

// A loop runs until its context ends; then it finishes what is under way and
// returns.
type loop struct {
	name string
	run  func(context.Context) error
}

// start runs loops, each in a goroutine of its own. At the end the context of
// all of them is cancelled, and they are waited for. A loop that ends before is
// a failure of the daemon.
func (s *steps) start(loops ...loop) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make([]error, len(loops))
	var running sync.WaitGroup
	for i, l := range loops {
		running.Go(func() {
			err := l.run(ctx)
			switch {
			case ctx.Err() == nil:
				if err == nil {
					err = errors.New("it ended by itself")
				}
				select {
				case s.failed <- fmt.Errorf("%s: %w", l.name, err):
				default:
				}
			case err != nil && !errors.Is(err, context.Canceled):
				ended[i] = fmt.Errorf("ending %s: %w", l.name, err)
			}
		})
	}
	s.later("", func() error {
		cancel()
		running.Wait()
		return errors.Join(ended...)
	})
}

// unwind undoes every step. It may be called once.
func (s *steps) unwind() error {
	var all []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i].end(); err != nil {
			if s.undo[i].name != "" { // else the error says it
				err = fmt.Errorf("ending %s: %w", s.undo[i].name, err)
			}
			s.log.Error("did not end as it should", "event", "relay.stop_failed", "err", err)
			all = append(all, err)
		}
	}
	s.undo = nil
	return errors.Join(all...)
}

// makeDir makes a folder that only the relay may read.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	return nil
}

// firstPort is the port of the first of some listen addresses; 0 without one.
func firstPort(addrs []string) int {
	if len(addrs) == 0 {
		return 0
	}
	_, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port) // the configuration was checked
	return n
}

// Version is what the build says of itself: the module's version, which for a
// build from a checkout tells the commit, and whether it was changed.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
