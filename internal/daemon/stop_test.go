package daemon_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ended waits for the daemon's end and tells how it was.
func (w *world) ended() error {
	w.t.Helper()
	late := time.AfterFunc(30*time.Second, func() {
		w.t.Error("the daemon did not end within 30 s")
		w.proc.Process.Signal(syscall.SIGQUIT) // its goroutines into the log
	})
	defer late.Stop()
	err := w.proc.Wait()
	w.proc = nil
	return err
}

// TestTermDrains asks the relay to end while one session is idle and another
// is in the middle of a message.
func TestTermDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	idle, greeting := w.dial("127.0.0.1")
	idle.expect(greeting, "220 ")
	sending, _ := w.dial("127.0.0.1")
	for _, command := range []string{"EHLO a.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>"} {
		sending.expect(sending.say("%s", command), "250")
	}
	sending.expect(sending.say("DATA"), "354")
	fmt.Fprint(sending.conn, "Subject: under way\r\n\r\nfirst half,\r\n")

	w.term()
	idle.expect(idle.reply(), "421 4.3.2 ")
	idle.conn.Close()
	w.eventually("nobody new is let in", func() bool {
		conn, err := net.Dial("tcp", w.relay)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if code, _ := w.page("/healthz"); code != 200 {
		t.Errorf("/healthz answers %d while it drains", code)
	}
	if code, text := w.page("/readyz"); code != 503 || !strings.Contains(text, "asked to end") {
		t.Errorf("/readyz answers %d while it drains: %s", code, text)
	}
	sending.expect(sending.say("second half.\r\n."), "250 2.0.0 accepted as ")
	sending.expect(sending.reply(), "421 4.3.2 ")
	sending.conn.Close()
	w.waitEnd()
	w.start()
	w.arrives("under way")
}

// TestBothPortsDrainTogether has one port wait for a message under way; the
// other must not go on taking mail meanwhile.
func TestBothPortsDrainTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	tlsSession, _ := w.startTLS()
	if err := tlsSession.Mail("device@lab.example"); err != nil {
		t.Fatal(err)
	}
	if err := tlsSession.Rcpt("someone@example.org"); err != nil {
		t.Fatal(err)
	}
	body, err := tlsSession.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(body, "Subject: over TLS\r\n\r\nScanned.\r\n")
	idle, greeting := w.dial("127.0.0.1")
	idle.expect(greeting, "220 ")

	w.term()
	idle.expect(idle.reply(), "421 4.3.2 ")
	idle.conn.Close()
	if err := body.Close(); err != nil {
		t.Errorf("the message under way: %v", err)
	}
	tlsSession.Close()
	w.waitEnd()
	w.start()
	w.arrives("over TLS")
}

// TestSecondDaemon starts another relay on the same state; it refuses, says
// why, and does the first one no harm.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	second := exec.CommandContext(t.Context(), self)
	second.Env = append(os.Environ(), "GATEPOST_TEST_DAEMON="+w.config)
	out, err := second.CombinedOutput()
	if want := fmt.Sprintf("it is in use already (by process %d)", w.proc.Process.Pid); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("the second relay ended with %v and without %q:\n%s", err, want, out)
	}
	w.accepted("127.0.0.1", "the first goes on")
	w.arrives("the first goes on")
	if code, out := w.gatepost("status"); code != 0 {
		t.Errorf("gatepost status (exit %d):\n%s", code, out)
	}
}
