package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheEndIsBounded has one part of three never end, a step or a loop: what
// is younger is undone before, what is older is left to the kernel, and the log
// and the error say whose fault it is.
func TestTheEndIsBounded(t *testing.T) {
	for name, hang := range map[string]func(s *steps, release <-chan struct{}){
		"spool": func(s *steps, release <-chan struct{}) { s.later("spool", func() error { <-release; return nil }) },
		"queue, holds": func(s *steps, release <-chan struct{}) {
			s.start(
				loop{"queue", func(context.Context) error { <-release; return nil }},
				loop{"holds", func(ctx context.Context) error { <-ctx.Done(); return nil }},
			)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				s := newSteps(slog.New(slog.NewTextHandler(&log, nil)))
				release := make(chan struct{})
				var undone []string
				s.later("lock", func() error { undone = append(undone, "lock"); return nil })
				hang(s, release)
				s.later("ports", func() error { undone = append(undone, "ports"); return errors.New("stuck") })
				began := time.Now()
				err := s.unwind(endWithin(time.Minute))
				if took := time.Since(began); took != endWithin(time.Minute) {
					t.Errorf("it took %v", took)
				}
				want := "ending ports: stuck\nending " + name + ": it still runs 2m30s after the end began, and is left behind"
				if err == nil || err.Error() != want {
					t.Errorf("unwind: %v", err)
				}
				if !slices.Equal(undone, []string{"ports"}) {
					t.Errorf("undone: %v", undone)
				}
				if n := strings.Count(log.String(), "event=relay.stop_failed"); n != 2 {
					t.Errorf("the log has %d lines of it:\n%s", n, &log)
				}
				close(release)
			})
		})
	}
}
