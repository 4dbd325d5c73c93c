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
	"strings"
	"sync"
	"time"
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
	says bool // its errors say what they are of
}

func newSteps(log *slog.Logger) *steps {
	return &steps{log: log, failed: make(chan error, 1)}
}

// later has f called at the end.
func (s *steps) later(name string, f func() error) {
	s.undo = append(s.undo, step{name: name, end: f})
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
	var names []string
	for _, l := range loops {
		names = append(names, l.name)
	}
	s.undo = append(s.undo, step{name: strings.Join(names, ", "), says: true, end: func() error {
		cancel()
		running.Wait()
		return errors.Join(ended...)
	}})
}

// endWithin is how long the daemon takes to end at most: drain for bodies under
// way, as long again for attempts, and what the rest takes on a slow disk.
// Systemd is told when it was systemd that asked.
func endWithin(drain time.Duration) time.Duration { return 2*drain + 30*time.Second }

// unwind undoes every step. One that has not ended after limit, counted over
// all of them, is left behind with those that would follow: the process ends
// then as in a crash, which costs nothing that was acknowledged. It may be
// called once.
func (s *steps) unwind(limit time.Duration) error {
	var all []error
	late := time.NewTimer(limit)
	defer late.Stop()
	for hung := false; len(s.undo) > 0 && !hung; s.undo = s.undo[:len(s.undo)-1] {
		last := s.undo[len(s.undo)-1]
		ended := make(chan error, 1)
		go func() { ended <- last.end() }()
		var err error
		select {
		case err = <-ended:
			if err != nil && !last.says {
				err = fmt.Errorf("ending %s: %w", last.name, err)
			}
		case <-late.C:
			hung = true
			err = fmt.Errorf("ending %s: it still runs %v after the end began, and is left behind", last.name, limit)
		}
		if err != nil {
			s.log.Error("did not end as it should", "event", "relay.stop_failed", "err", err)
			all = append(all, err)
		}
	}
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
