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

	"example.edu/gatepost/internal/lifecycle"
)

// TestTheEndIsBounded has one part of three never end, a step or a loop: what
// is younger is undone before, what is older is left to the kernel, and the log
// and the error say whose fault it is.
func TestTheEndIsBounded(t *testing.T) {
	for name, hang := range map[string]func(s *lifecycle.Steps, release <-chan struct{}){
		"spool": func(s *lifecycle.Steps, release <-chan struct{}) {
			s.Later("spool", func() error { <-release; return nil })
		},
		"queue, holds": func(s *lifecycle.Steps, release <-chan struct{}) {
			s.Start(
				lifecycle.Loop{Name: "queue", Run: func(context.Context) error { <-release; return nil }},
				lifecycle.Loop{Name: "holds", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
			)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				s := newSteps(slog.New(slog.NewTextHandler(&log, nil)))
				release := make(chan struct{})
				var undone []string
				s.Later("lock", func() error { undone = append(undone, "lock"); return nil })
				hang(s, release)
				s.Later("ports", func() error { undone = append(undone, "ports"); return errors.New("stuck") })
				began := time.Now()
				err := s.Unwind(endWithin(time.Minute))
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
