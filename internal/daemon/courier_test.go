package daemon_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/status"
)

// TestSourceAddress: mail leaves from the address that the configuration
// names; one that this machine does not have is told.
func TestSourceAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `deliver: source: ["127.0.0.9", "2001:db8::1"]`
	w.start()
	w.accepted("127.0.0.1", "from elsewhere")
	w.arrives("from elsewhere")
	w.hop.mu.Lock()
	for conn := range w.hop.conns { // kept for the next message
		if from, _, _ := net.SplitHostPort(conn.RemoteAddr().String()); from != "127.0.0.9" {
			t.Errorf("it came from %s", from)
		}
	}
	w.hop.mu.Unlock()
	var out, problems strings.Builder
	if code := daemon.Check(w.config, &out, &problems); code != 0 || !strings.Contains(problems.String(), "deliver.source[1]: 2001:db8::1 cannot be used") || strings.Contains(problems.String(), "source[0]") {
		t.Errorf("--check gives %d:\n%s", code, &problems)
	}
}

// TestTenThousandRecipients: a message to 10,000 goes out in transactions of a
// hundred, and each of them gets it once.
func TestTenThousandRecipients(t *testing.T) {
	t.Parallel()
	const all = 10_000
	w := newWorld(t)
	w.extra = `limits: {recipients: 10000, memoryBytes: 64Mi}
brake: furthest: "off"
`
	w.start()
	c, _ := w.dial("127.0.0.1")
	c.expect(c.say("EHLO device.lab.example"), "250")
	c.expect(c.say("MAIL FROM:<device@lab.example>"), "250")
	for i := range all {
		c.expect(c.say("RCPT TO:<someone%d@example.org>", i), "250")
	}
	c.expect(c.say("DATA"), "354")
	c.expect(c.say("From: device@lab.example\r\nSubject: to all\r\n\r\nScanned.\r\n."), "250")
	got := map[string]int{}
	messages := 0
	for some := all / 10; some <= all; some += all / 10 { // each tenth has its own 30 s
		w.eventually(fmt.Sprintf("%d have it", some), func() bool {
			clear(got)
			messages = 0
			for _, mail := range w.hop.holding("Subject: to all") {
				messages++
				envelope, _, _ := strings.Cut(mail, "Subject:")
				if n := strings.Count(envelope, "RCPT TO:"); n > 100 {
					t.Fatalf("%d recipients in one transaction", n)
				}
				for line := range strings.SplitSeq(envelope, "\r\n") {
					if to, ok := strings.CutPrefix(line, "RCPT TO:"); ok {
						got[to]++
					}
				}
			}
			return len(got) >= some
		})
	}
	for to, n := range got {
		if n != 1 {
			t.Fatalf("%s has it %d times", to, n)
		}
	}
	if messages != all/100 {
		t.Errorf("it went in %d transactions", messages)
	}
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
}
