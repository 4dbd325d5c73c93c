package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.edu/gatepost/internal/status"
)

// scratch is a folder on a disk that nobody else fills: in memory, where the
// system has such a place.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gatepost-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// free is how many octets the disk of a folder has left.
func free(t *testing.T, dir string) uint64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return s.Bavail * uint64(s.Bsize)
}

// TestDiskFull fills the disk down to the spool's reserve: clients are asked to
// come back, what was accepted is delivered all the same, and when there is
// room again mail is accepted.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := scratch(t)
	w.state = filepath.Join(dir, "state")
	w.extra = `queue: retry: ["1s"]`
	margin := min(256<<20, free(t, dir)/4)
	w.reserve = free(t, dir) - margin
	w.start()
	w.hop.answerTo("RCPT", "451 4.2.0 busy")
	w.accepted("127.0.0.1", "before")

	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	if err := syscall.Fallocate(int(ballast.Fd()), 0, 0, int64(margin+margin/2)); err != nil {
		t.Fatal(err)
	}
	w.refused("127.0.0.1", "452 4.3.1 ")
	w.eventually("the relay says that it is not ready", func() bool {
		code, text := w.page("/readyz")
		return code == 503 && strings.Contains(text, "no space")
	})
	w.hop.say(nil)
	w.arrives("before")
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
	w.stop() // a full disk is no reason not to end and to start
	w.configure()
	w.launch()
	w.eventually("the relay is up", func() bool { code, _ := w.page("/healthz"); return code == 200 })
	w.refused("127.0.0.1", "452 4.3.1 ")

	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	w.waitReady()
	w.accepted("127.0.0.1", "after")
	w.arrives("after")
}
