package daemon_test

import (
	"fmt"
	"strings"
	"testing"

	"example.edu/gatepost/internal/status"
)

// TestBrake is the whole story of a machine that sends one text to many: slowed
// down, held, blocked, over a restart, and released by one command.
func TestBrake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.extra = `brake: {sameBody: 3, holdAt: 1, blockAt: 1, stepAfter: "1s", slowEvery: "1s", blockFor: "1h"}`
	w.hop.say(func(command string) string {
		if strings.HasPrefix(strings.ToUpper(command), "RCPT") && strings.Contains(command, "@example.org") {
			return "450 4.2.0 later"
		}
		return ""
	})
	w.start()
	sent := 0
	send := func() string { // the same text to somebody else
		sent++
		c, reply := w.dial("127.0.0.2")
		defer c.conn.Close()
		if !strings.HasPrefix(reply, "220") {
			return reply
		}
		for _, command := range []string{"EHLO scanner.lab.example", "MAIL FROM:<device@lab.example>", fmt.Sprintf("RCPT TO:<user%d@example.org>", sent), "DATA"} {
			if reply = c.say("%s", command); reply == "" || reply[0] > '3' {
				return reply
			}
		}
		return c.say("Subject: %d\r\n\r\nBuy this.\r\n.", sent)
	}
	until := func(what, begins string) {
		t.Helper()
		last := ""
		w.eventually(what, func() bool { last = send(); return strings.HasPrefix(last, begins) })
		if !strings.HasPrefix(last, begins) {
			t.Fatalf("%s: the last reply is %q", what, last)
		}
	}
	const file = "registrations/lab/scanner.cue"
	list := func(args ...string) string {
		_, out := w.gatepost(args...)
		return out
	}

	for range 4 {
		if reply := send(); !strings.HasPrefix(reply, "250") {
			t.Fatal(reply)
		}
	}
	until("it is slowed down", "451 4.7.1 127.0.0.2 may send one message in 1s until ")
	until("its mail is held", "451 4.7.1 the mail of "+file+" waits until somebody has looked at it: the same text went to ")
	w.eventually("the contact and the postmaster are told", func() bool {
		return len(w.hop.holding("Subject: relay.lab.example: mail of "+file+" is held", "it@lab.example", "postmaster@lab.example")) == 1
	})
	w.eventually("queued mail is held", func() bool { return strings.Contains(list("queue", "list", "--status", "held"), file) })

	until("its machine is blocked", "554 5.7.1 127.0.0.2 is blocked")
	w.accepted("127.0.0.1", "others are served")
	w.stop()
	w.start()
	until("and over a restart", "554 5.7.1 127.0.0.2 is blocked")
	w.eventually("people are told of the block", func() bool {
		return len(w.hop.holding("Subject: relay.lab.example: machines of "+file+" are blocked", "it@lab.example")) == 1
	})
	if out := list("brake", "list"); !strings.Contains(out, file+"\n  held, its machines are blocked until ") || !strings.Contains(out, "from 127.0.0.2") {
		t.Errorf("gatepost brake list says\n%s", out)
	}
	if out := list("status"); !strings.Contains(out, "the abuse brake has "+file) || strings.Contains(out, "is blocked here") || !strings.Contains(out, "127.0.0.2, here only, until ") {
		t.Errorf("gatepost status says\n%s", out)
	}
	if out := list("status", "127.0.0.2"); !strings.Contains(out, "brake     held, its machines are blocked until ") {
		t.Errorf("gatepost status IP says\n%s", out)
	}

	if code, out := w.gatepost("brake", "release", "127.0.0.2", "--reason", "it was a drill"); code != 0 || !strings.Contains(out, file+" is released; it was at the step block") {
		t.Fatalf("gatepost brake release says\n%s", out)
	}
	if reply := send(); !strings.HasPrefix(reply, "250") {
		t.Errorf("released, it hears %q", reply)
	}
	w.eventually("its mail goes on", func() bool { return !strings.Contains(list("queue", "list", "--status", "held"), file) })
	if code, out := w.gatepost("brake", "release", file, "--reason", "again"); code == 0 || !strings.Contains(out, "is not braked") {
		t.Errorf("released twice, it says\n%s", out)
	}
	if got := w.hop.holding("Subject: relay.lab.example: mail of " + file + " is held"); len(got) != 1 {
		t.Errorf("%d notices that its mail is held", len(got))
	}
}

// TestBrakeHearsNextHops: what is refused as spam on the way out slows down who
// sent it.
func TestBrakeHearsNextHops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `brake: spam: {least: 3, part: 0.5}`
	w.hop.answerTo("DOT", "554 5.7.1 this looks like spam")
	w.start()
	for i := range 4 {
		w.accepted("127.0.0.1", fmt.Sprint("offer ", i))
	}
	w.waitReport("it is slowed down", func(r status.Report) bool {
		return len(r.Brake) == 1 && r.Brake[0].Step == status.BrakeSlow && r.Brake[0].Why[0] == "next hops refused 4 of 4 recipients in a day as spam"
	})
	if a := w.about("127.0.0.1"); a.Brake == nil || a.Brake.Counts.Spam != 4 {
		t.Errorf("of the address it says %+v", a.Brake)
	}
}
