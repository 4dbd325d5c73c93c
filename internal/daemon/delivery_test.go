package daemon_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/status"
)

// TestNextHopRefuses has the next hop say no for good, at each step where it
// can. The sender is told, once, and nothing stays in the queue.
func TestNextHopRefuses(t *testing.T) {
	for _, tt := range []struct{ verb, reply, status string }{
		{"MAIL", "550 5.1.8 this sender is unknown", "5.1.8"},
		{"RCPT", "550 5.1.1 no such person", "5.1.1"},
		{"DATA", "554 5.7.1 not from you", "5.7.1"},
		{"DOT", "554 5.6.0 what is that?", "5.6.0"},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start()
			told := make(chan struct{})
			w.hop.say(func(command string) string {
				select {
				case <-told: // the DSN itself is taken
					return ""
				default:
				}
				if strings.HasPrefix(command, tt.verb) {
					close(told)
					return tt.reply
				}
				return ""
			})
			w.accepted("127.0.0.1", "to nobody")
			w.eventually("the sender is told", func() bool { return len(w.hop.received()) > 0 })
			dsn := w.hop.received()[0]
			for _, want := range []string{"MAIL FROM:<>", "RCPT TO:<device@lab.example>", "multipart/report", "Action: failed",
				"Status: " + tt.status, "Final-Recipient: rfc822; someone@example.org", tt.reply[10:], "Subject: to nobody"} {
				if !strings.Contains(dsn, want) {
					t.Errorf("the DSN lacks %q:\n%s", want, dsn)
				}
			}
			w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
			if n := len(w.hop.received()); n != 1 {
				t.Errorf("%d messages came and not one", n)
			}
		})
	}
}

// TestNextHopDefers has the next hop say "later" to a message, at each step
// where it can. The message is tried again, and the next hop does not count as
// failing.
func TestNextHopDefers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]`
	w.start()
	for _, tt := range []struct{ verb, reply string }{
		{"MAIL", "451 4.3.0 later"},
		{"RCPT", "450 4.2.1 greylisted"},
		{"DATA", "451 4.3.2 later"},
		{"DOT", "452 4.3.1 disk full"},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			defer w.on(t)()
			w.hop.answerTo(tt.verb, tt.reply)
			subject := "later after " + tt.verb
			w.accepted("127.0.0.1", subject)
			w.eventually("it is deferred", func() bool {
				_, out := w.gatepost("queue", "list", "--format", "json")
				return strings.Contains(out, tt.reply[10:])
			})
			if failing(w.report()) {
				t.Error("the next hop counts as failing")
			}
			w.hop.say(nil)
			w.arrives(subject)
		})
	}
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
	if n := len(w.hop.received()); n != 4 {
		t.Errorf("%d messages came and not 4", n)
	}
}

func failing(r status.Report) bool {
	return slices.ContainsFunc(r.Queue.Destinations, func(d status.Destination) bool { return d.Failures > 0 })
}

// TestNextHopFails has the next hop itself be in trouble, in each way. The
// message stays, the next hop is left alone for a while, and after a kill the
// message arrives once.
func TestNextHopFails(t *testing.T) {
	for _, tt := range []struct{ name, verb, reply string }{
		{"greeting 421", "CONNECT", "421 4.3.2 busy"},
		{"no greeting", "CONNECT", stall},
		{"hangs up at once", "CONNECT", hangUp},
		{"stalls at DATA", "DATA", stall},
		{"hangs up in the message", "BODY", hangUp},
		{"hangs up after the message", "DOT", hangUp},
		{"stalls after the message", "DOT", stall},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.extra = `queue: retry: ["1s"]
deliver: timeouts: {connect: "1s", command: "1s", data: "1s", dot: "1s"}
`
			w.start()
			w.hop.answerTo(tt.verb, tt.reply)
			w.accepted("127.0.0.1", "patience")
			w.waitReport("the next hop is left alone", func(r status.Report) bool {
				return r.Queue.Entries == 1 && r.Queue.Depth["running"] == 0 && len(r.Queue.Destinations) == 1 &&
					!r.Queue.Destinations[0].BlockedUntil.IsZero() && failing(r) == (tt.reply != "421 4.3.2 busy")
			})
			w.kill()
			w.hop.say(nil)
			w.start()
			w.arrives("patience")
			w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
			if n := len(w.hop.received()); n != 1 {
				t.Errorf("%d messages came and not one", n)
			}
		})
	}
}

// TestNextHopIsGone has nobody listen where mail should go.
func TestNextHopIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]`
	there := w.hop.addr
	w.hop.addr = freeAddr(t)
	w.start()
	for range 20 {
		w.accepted("127.0.0.1", "nobody there")
	}
	w.waitReport("the next hop is missed", func(r status.Report) bool {
		return r.Queue.Entries == 20 && len(r.Queue.Destinations) == 1 && r.Queue.Destinations[0].Failures > 0 && !r.Queue.Destinations[0].BlockedUntil.IsZero()
	})
	w.stop()
	w.hop.addr = there // another one in the configuration
	w.start()
	w.eventually("all arrive", func() bool { return len(w.hop.holding("Subject: nobody there")) == 20 })
}

// TestNullSender has a message without a sender refused: the postmaster is
// told in its place, and when that is refused too, nobody.
func TestNullSender(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		refuse string
		told   int
	}{
		{"the recipient is refused", "RCPT TO:<someone", 1},
		{"everybody is refused", "RCPT TO:<", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start()
			w.hop.answerTo(strings.ToUpper(tt.refuse), "550 5.1.1 no such person")
			if reply := w.sendAs("127.0.0.1", "", "a bounce"); !strings.HasPrefix(reply, "250") {
				t.Fatalf("the null sender got %q", reply)
			}
			w.eventually("it is refused", func() bool { return strings.Contains(w.log.tail(1000), "no such person") })
			w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
			got := w.hop.received()
			if len(got) != tt.told || len(w.hop.holding("MAIL FROM:<>", "RCPT TO:<postmaster@lab.example>")) != tt.told {
				t.Errorf("%d were told, not %d:\n%s", len(got), tt.told, strings.Join(got, "\n"))
			}
		})
	}
}

// TestTheContactIsTold has a registration ask for it: when mail fails and the
// sender does not take the report of it, the contact gets that, and no more
// follows.
func TestTheContactIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(w.checkout, "registrations", "lab", "printer.cue")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.write("registrations/lab/printer.cue", string(text)+"bounces: \"contact\"\n")
	w.commit("the contact is told")
	w.push()
	w.start()
	w.hop.say(func(command string) string {
		if strings.HasPrefix(command, "RCPT TO:<someone") || strings.HasPrefix(command, "RCPT TO:<device") {
			return "550 5.1.1 no such person"
		}
		return ""
	})
	w.accepted("127.0.0.1", "a scan")
	told := []string{"MAIL FROM:<>", "RCPT TO:<it@lab.example>", "Subject: A report of failed mail",
		"To: <device@lab.example>", "Subject: a scan"} // of the report, which is attached, and of what that is about
	w.eventually("the contact is told", func() bool { return len(w.hop.holding(told...)) == 1 })
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
	if n := len(w.hop.received()); n != 1 {
		t.Errorf("%d messages came and not one", n)
	}
}

// TestPartlyRefused has one of two recipients refused: the other one gets the
// message, and the sender hears of the one.
func TestPartlyRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.hop.say(func(command string) string {
		if strings.HasPrefix(command, "RCPT TO:<nobody@") {
			return "550 5.1.1 no such person"
		}
		return ""
	})
	c, greeting := w.dial("127.0.0.1")
	c.expect(greeting, "220 ")
	for _, command := range []string{"EHLO a.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>", "RCPT TO:<nobody@example.org>"} {
		c.expect(c.say("%s", command), "250")
	}
	c.expect(c.say("DATA"), "354")
	c.expect(c.say("Subject: to two\r\n\r\nScanned.\r\n."), "250")
	w.eventually("one arrives and the sender is told", func() bool {
		return len(w.hop.holding("RCPT TO:<someone@example.org>", "Subject: to two")) == 1 &&
			len(w.hop.holding("MAIL FROM:<>", "RCPT TO:<device@lab.example>", "nobody@example.org", "5.1.1")) == 1
	})
	w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
}

// TestTLSPolicyIsKept demands TLS of a next hop that has none: the message
// waits, and the operator is told why. RFC 3207 §4.
func TestTLSPolicyIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `deliver: tlsPolicy: "127.0.0.1": tls: "encrypt"`
	w.start()
	w.accepted("127.0.0.1", "not in clear text")
	w.eventually("it is deferred", func() bool {
		_, out := w.gatepost("queue", "list")
		return strings.Contains(out, `no mail goes there, as deliver.tlsPolicy "127.0.0.1" demands`)
	})
	if n := len(w.hop.received()); n != 0 {
		t.Errorf("%d messages came in clear text", n)
	}
}
