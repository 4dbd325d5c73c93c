package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"example.edu/gatepost/internal/lifecycle"
)

// newSteps makes what is undone at the end, and tells the log what did not end
// as it should.
func newSteps(log *slog.Logger) *lifecycle.Steps {
	return lifecycle.New(func(err error) {
		log.Error("did not end as it should", "event", "relay.stop_failed", "err", err)
	})
}

// endWithin is how long the daemon takes to end at most: drain for bodies under
// way, as long again for attempts, and what the rest takes on a slow disk.
// Systemd is told when it was systemd that asked.
func endWithin(drain time.Duration) time.Duration { return 2*drain + 30*time.Second }

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
