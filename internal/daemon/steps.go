package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
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

// start runs a loop in a goroutine of its own. At the end its context is
// cancelled and it is waited for. A loop that ends before is a failure of the
// daemon.
func (s *steps) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("it ended by itself")
			}
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
			err = nil // told already
		}
		done <- err
	}()
	s.later(name, func() error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

// unwind undoes every step. It may be called once.
func (s *steps) unwind() error {
	var all []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i].end(); err != nil {
			s.log.Error("did not end as it should", "event", "relay.stop", "part", s.undo[i].name, "err", err)
			all = append(all, fmt.Errorf("ending %s: %w", s.undo[i].name, err))
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

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }

// version is what the build says of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
