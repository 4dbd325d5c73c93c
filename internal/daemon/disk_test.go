package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

// TestTheEngineIsLost takes the engine's folder away under a relay at work. It
// goes on until it needs a new log; then every client is asked to come back, and
// the process ends by itself, says why, and exits with an error. The next one
// has all that was acknowledged.
func TestTheEngineIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]`
	w.start()
	w.hop.answerTo("RCPT", "451 4.2.0 busy")
	engine, away := filepath.Join(w.state, "spool", "engine"), filepath.Join(w.dir, "away")
	if err := os.Rename(engine, away); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 700)
	var clients sync.WaitGroup
	var mu sync.Mutex
	var accepted []string
	for n := range 4 {
		c, greeting := w.dial("127.0.0.1")
		c.expect(greeting, "220 ")
		c.expect(c.say("EHLO client.lab.example"), "250")
		clients.Go(func() {
			for i := range 100 { // 20 MB in all: more than one log
				subject := fmt.Sprintf("%d of client %d", i, n)
				reply := ""
				for _, line := range []string{"MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>", "DATA", "Subject: " + subject + "\r\n\r\n" + body + "."} {
					if reply = c.say("%s", line); reply == "" || reply[0] > '3' {
						break
					}
				}
				if !strings.HasPrefix(reply, "250 ") {
					if reply != "" && reply[0] != '4' { // "": the end of the session
						t.Errorf("a client is told %q", reply)
					}
					return
				}
				mu.Lock()
				accepted = append(accepted, subject)
				mu.Unlock()
			}
			t.Error("a client was never asked to come back")
		})
	}
	clients.Wait()
	err := w.ended()
	if exit := (&exec.ExitError{}); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the daemon ended with %v", err)
	}
	for _, want := range []string{"event=spool.failed", "daemon: the spool has failed, so nothing more can be accepted: "} {
		if n := strings.Count(w.log.tail(1000), want); n != 1 {
			t.Errorf("the log has %d times %q", n, want)
		}
	}
	if err := os.Rename(away, engine); err != nil {
		t.Fatal(err)
	}
	w.hop.say(nil)
	w.start()
	for _, subject := range accepted {
		w.arrives(subject)
	}
}
