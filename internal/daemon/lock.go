package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"example.edu/gatepost/internal/durable"
)

// lockState makes the state folder and takes it for this process alone, before
// anything in it is touched. The lock is the kernel's: it goes with the
// process, however that ends, and the file that stays behind means nothing.
func lockState(dir string, s *steps) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("locking the state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			holder, _ := durable.ReadFile(path, 32) // only to say more
			err = fmt.Errorf("another relay uses it (process %s)", holder)
		}
		return errors.Join(fmt.Errorf("locking the state folder %s: %w", dir, err), f.Close())
	}
	s.later("the state folder's lock", f.Close)
	// For people; that it cannot be written, on a full disk, hurts nobody.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d", os.Getpid())
	}
	return nil
}
