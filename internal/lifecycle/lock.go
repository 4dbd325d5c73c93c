package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"example.edu/gatepost/internal/durable"
)

// LockState makes the state folder and takes it for this process alone, before
// anything in it is touched. The lock is the kernel's: it goes with the
// process, however that ends, and the file that stays behind means nothing.
// Another process that has it is waited for until patience ends; 0: not at all;
// waiting is called once if it has to wait.
func LockState(ctx context.Context, dir string, patience time.Duration, s *Steps, waiting func()) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("locking the state folder: %w", err)
	}
	if err := flock(ctx, f, patience, waiting); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			holder, _ := durable.ReadFile(path, 32) // only to say more
			err = fmt.Errorf("it is in use already (by process %s)", holder)
			if patience > 0 {
				err = fmt.Errorf("%w, and did not end within %v", err, patience)
			}
		}
		return errors.Join(fmt.Errorf("locking the state folder %s: %w", dir, err), f.Close())
	}
	s.Later("the state folder's lock", f.Close)
	// For people; that it cannot be written, on a full disk, hurts nobody.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d", os.Getpid())
	}
	return nil
}

// lockEvery is how often a lock that is held is asked for again: the kernel's
// own waiting could not be ended.
const lockEvery = 50 * time.Millisecond

// flock takes the kernel's lock on f: EWOULDBLOCK if another process has it and
// keeps it for so long. waiting is called once if it has to wait.
func flock(ctx context.Context, f *os.File, patience time.Duration, waiting func()) error {
	try := func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	err := try()
	if patience == 0 || !errors.Is(err, syscall.EWOULDBLOCK) {
		return err
	}
	waiting()
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for errors.Is(err, syscall.EWOULDBLOCK) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return err
		case <-tick.C:
			err = try()
		}
	}
	return err
}
