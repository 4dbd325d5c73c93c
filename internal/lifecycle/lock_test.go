package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLockState has another process hold the state, for as long as it likes.
func TestLockState(t *testing.T) {
	dir := t.TempDir()
	s := New(func(error) {})
	waited := 0
	waiting := func() { waited++ }
	if err := LockState(t.Context(), dir, time.Minute, s, waiting); err != nil || waited > 0 {
		t.Fatalf("a free one: %v, waited %d times", err, waited)
	}
	other := New(func(error) {})
	holder := fmt.Sprintf("it is in use already (by process %d)", os.Getpid())
	if err := LockState(t.Context(), dir, 0, other, waiting); err == nil || !strings.HasSuffix(err.Error(), holder) || waited > 0 {
		t.Errorf("without patience: %v, waited %d times", err, waited)
	}
	if err := LockState(t.Context(), dir, 120*time.Millisecond, other, waiting); err == nil || !strings.HasSuffix(err.Error(), holder+", and did not end within 120ms") || waited != 1 {
		t.Errorf("with patience: %v, waited %d times", err, waited)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := LockState(ctx, dir, time.Minute, other, cancel); !errors.Is(err, context.Canceled) || errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("asked to end meanwhile: %v", err)
	}
	err := LockState(t.Context(), dir, time.Minute, other, func() {
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
