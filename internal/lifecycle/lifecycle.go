// Package lifecycle is how a daemon comes to its end: what it opened is closed,
// and what it started is waited for, in the reverse order.
//
// It owns no more than the order and the patience. What has not ended when that
// is used up is left behind, as in a crash.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Steps is what has to be undone at the end, last in, first out. Its methods
// are called from one goroutine.
type Steps struct {
	report func(error)
	undo   []step
	failed chan error
}

type step struct {
	name string
	end  func() error
	says bool // its errors say what they are of
}

// New makes Steps. report is told of each step that did not end as it should,
// when that happens.
func New(report func(error)) *Steps {
	return &Steps{report: report, failed: make(chan error, 1)}
}

// Failed tells of the first loop that ended by itself.
func (s *Steps) Failed() <-chan error { return s.failed }

// Later has f called at the end.
func (s *Steps) Later(name string, f func() error) {
	s.undo = append(s.undo, step{name: name, end: f})
}

// A Loop runs until its context ends; then it finishes what is under way and
// returns.
type Loop struct {
	Name string
	Run  func(context.Context) error
}

// Start runs loops, each in a goroutine of its own. At the end the context of
// all of them is cancelled, and they are waited for. A loop that ends before is
// a failure of the daemon, which Failed tells.
func (s *Steps) Start(loops ...Loop) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make([]error, len(loops))
	var running sync.WaitGroup
	for i, l := range loops {
		running.Go(func() {
			err := l.Run(ctx)
			switch {
			case ctx.Err() == nil:
				if err == nil {
					err = errors.New("it ended by itself")
				}
				select {
				case s.failed <- fmt.Errorf("%s: %w", l.Name, err):
				default:
				}
			case err != nil && !errors.Is(err, context.Canceled):
				ended[i] = fmt.Errorf("ending %s: %w", l.Name, err)
			}
		})
	}
	var names []string
	for _, l := range loops {
		names = append(names, l.Name)
	}
	s.undo = append(s.undo, step{name: strings.Join(names, ", "), says: true, end: func() error {
		cancel()
		running.Wait()
		return errors.Join(ended...)
	}})
}

// Unwind undoes every step. One that has not ended after limit, counted over
// all of them, is left behind with those that would follow: the process ends
// then as in a crash. It may be called once.
func (s *Steps) Unwind(limit time.Duration) error {
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
			s.report(err)
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
