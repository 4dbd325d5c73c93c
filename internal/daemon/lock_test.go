package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLockState has another relay hold the state, for as long as it likes.
func TestLockState(t *testing.T) {
	dir := t.TempDir()
	s := newSteps(slog.New(slog.DiscardHandler))
	waited := 0
	waiting := func() { waited++ }
	if err := lockState(t.Context(), dir, time.Minute, s, waiting); err != nil || waited > 0 {
		t.Fatalf("a free one: %v, waited %d times", err, waited)
	}
	other := newSteps(slog.New(slog.DiscardHandler))
	holder := fmt.Sprintf("another relay uses it (process %d)", os.Getpid())
	if err := lockState(t.Context(), dir, 0, other, waiting); err == nil || !strings.HasSuffix(err.Error(), holder) || waited > 0 {
		t.Errorf("without patience: %v, waited %d times", err, waited)
	}
	if err := lockState(t.Context(), dir, 120*time.Millisecond, other, waiting); err == nil || !strings.HasSuffix(err.Error(), holder+", and did not end within 120ms") || waited != 1 {
		t.Errorf("with patience: %v, waited %d times", err, waited)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := lockState(ctx, dir, time.Minute, other, cancel); !errors.Is(err, context.Canceled) || errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("asked to end meanwhile: %v", err)
	}
	err := lockState(t.Context(), dir, time.Minute, other, func() {
		if err := s.Unwind(time.Minute); err != nil { // the other one ends
			t.Error(err)
		}
	})
	if err != nil {
		t.Errorf("one that ends: %v", err)
	}
	if err := other.Unwind(time.Minute); err != nil {
		t.Error(err)
	}
}
