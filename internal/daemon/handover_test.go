package daemon_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

// posted is the subject of what smtp-source sends.
const posted = "posted by smtp-source"

// hold opens the ports and the operators' socket in the test's process, as a
// service manager does, for every daemon that is started after it.
func (w *world) hold() {
	w.t.Helper()
	for _, at := range [][2]string{{"tcp", w.relay}, {"tcp", w.submission}, {"tcp", w.status}, {"unix", w.socket}} {
		ln, err := net.Listen(at[0], at[1])
		if err != nil {
			w.t.Fatal(err)
		}
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			w.t.Fatal(err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		ln.Close()
		w.t.Cleanup(func() { f.Close() })
		w.passed = append(w.passed, f)
	}
}

// smtpSource posts one message after the other until it is told to end, and
// says how many got a 250 and what went wrong on the way. It ends with the first
// session that is sent away, and is begun again.
func (w *world) smtpSource(end <-chan struct{}) (accepted int, complaints string) {
	for {
		select {
		case <-end:
			return accepted, complaints
		default:
		}
		cmd := exec.Command("smtp-source", "-c", "-s", "3", "-m", "200", "-S", posted, "-f", "device@lab.example", "-t", "someone@example.org", w.relay)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if cmd.Run() != nil {
			complaints += stderr.String()
		}
		counts := strings.Fields(stdout.String())
		if len(counts) > 0 {
			n, _ := strconv.Atoi(counts[len(counts)-1])
			accepted += n
		}
	}
}

// TestNoConnectionIsRefused replaces the relay again and again while mail comes
// in, by smtp-source and by clients that keep their sessions: the new one is
// started before the old one ends, or after. The ports are a service manager's.
// Nobody is refused a connection, what got a 250 is delivered, and once only.
func TestNoConnectionIsRefused(t *testing.T) {
	t.Parallel()
	needs(t, "smtp-source")
	w := newWorld(t)
	w.extra = "drain: \"20s\"\nqueue: retry: [\"1s\"]\nlimits: sessionsPerAddress: 100\n"
	l := newLoad(w)
	w.hold()
	w.start()

	end := make(chan struct{})
	var sources sync.WaitGroup
	var source int
	var complaints string
	sources.Go(func() { source, complaints = w.smtpSource(end) })
	stop := l.run(0)
	for round := range 4 {
		before := l.count()
		w.eventually("mail comes in", func() bool { return l.count() > before+20 })
		old := w.proc
		overlap := round%2 == 0
		if overlap {
			w.launch() // it waits for the lock
		}
		if err := old.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := old.Wait(); err != nil {
			t.Errorf("the relay before ended with %v", err)
		}
		if !overlap {
			w.launch()
		}
		w.waitReady()
	}
	close(end)
	sources.Wait()
	stop()
	l.waitAll()
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 && !r.Queue.Loading })
	l.judge(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.refused {
		t.Errorf("a client was refused: %v", err)
	}
	for line := range strings.Lines(complaints) { // a session may be sent away, and its connection end
		if !strings.Contains(line, " 421 4.3.2 ") && !strings.Contains(line, "lost connection") {
			t.Errorf("smtp-source was refused: %s", line)
		}
	}
	if n := len(l.arrived[posted]); source == 0 || n < source {
		t.Errorf("smtp-source got %d times a 250, and %d messages arrived", source, n)
	}
	t.Logf("4 relays in turn: %d sessions' messages and %d of smtp-source; what smtp-source said:\n%s", len(l.accepted), source, complaints)
}

// count is how many messages got a 250.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// TestASecondTermEndsAtOnce has a body hang that the first one would wait for.
func TestASecondTermEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = "drain: \"10m\"\n"
	w.start()
	c, _ := w.dial("127.0.0.1")
	for _, command := range []string{"EHLO a.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>"} {
		c.expect(c.say("%s", command), "250")
	}
	c.expect(c.say("DATA"), "354")
	w.term()
	w.eventually("it is not ready any more", func() bool { code, _ := w.page("/readyz"); return code == 503 })
	w.term()
	if err := w.ended(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("it ended with %v", err)
	}
}

// TestDrainHasATime: a client that does not end its message is cut off after
// the configured time, and the relay ends in order.
func TestDrainHasATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = "drain: \"1s\"\n"
	w.start()
	c, _ := w.dial("127.0.0.1")
	for _, command := range []string{"EHLO a.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>"} {
		c.expect(c.say("%s", command), "250")
	}
	c.expect(c.say("DATA"), "354")
	asked := time.Now()
	w.term()
	w.waitEnd()
	if took := time.Since(asked); took < time.Second || took > 15*time.Second {
		t.Errorf("with drain: 1s it took %v", took)
	}
}

// TestTheServiceManagerIsTold follows sd_notify(3) from the start to the end.
func TestTheServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said := func(want string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 4096)
		n, err := conn.Read(text)
		if err != nil || !strings.HasPrefix(string(text[:n]), want) {
			t.Errorf("it says %q (%v), want %q", text[:n], err, want)
		}
	}
	w.env = []string{"NOTIFY_SOCKET=" + path}
	w.start()
	said("READY=1\n")
	w.extra = "drain: \"2s\"\n"
	w.configure() // which is read again
	said("RELOADING=1\nMONOTONIC_USEC=")
	said("READY=1\n")
	first := w.proc
	w.env = append(w.env, "GATEPOST_TEST_WAIT=yes")
	w.launch() // another one, by hand
	said("STATUS=waiting for the relay before")
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said("STOPPING=1\nSTATUS=finishing what is under way\nEXTEND_TIMEOUT_USEC=95000000")
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	said("READY=1\n")
	w.stop()
	said("STOPPING=1\n")
}

// TestSystemdPassesTheSockets has systemd's own tool open the port and start the
// relay at the first connection.
func TestSystemdPassesTheSockets(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-socket-activate")
	w := newWorld(t)
	w.configure()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The tool says nothing of when it listens, so clients come until it does.
	w.proc = exec.Command("systemd-socket-activate", "-l", w.relay, "-l", w.submission, "--fdname=relay:submission",
		"-E", "GATEPOST_TEST_DAEMON="+w.config, self)
	w.proc.Stdout, w.proc.Stderr = w.log, w.log
	if err := w.proc.Start(); err != nil {
		t.Fatal(err)
	}
	w.eventually("the first client is heard", func() bool {
		conn, err := net.Dial("tcp", w.relay)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	w.waitReady()
	w.accepted("127.0.0.1", "through systemd's socket")
	w.arrives("through systemd's socket")
	if log := w.log.tail(1000); strings.Count(log, "passed=true") != 2 {
		t.Errorf("not both ports were passed:\n%s", log)
	}
}

// TestASocketThatNobodyWants: clients there would wait for ever, so it is an
// error at the start.
func TestASocketThatNobodyWants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hold()
	w.relay = freeAddr(t) // the configuration says otherwise than the unit
	w.configure()
	w.launch()
	if err := w.ended(); err == nil {
		t.Error("it started")
	}
	if want := "the configuration has no such address under listen"; !strings.Contains(w.log.tail(100), want) {
		t.Errorf("it does not say %q:\n%s", want, w.log.tail(20))
	}
}
