package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ends are what some server or other takes for the end of a message, and this
// relay never does.
var ends = []string{
	"\n.\n", "\r.\r", "\r.\n", "\n.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\r\n.\r\n",
}

// TestNoEndIsSmuggledThrough: each of them in the middle of a message, by DATA
// and by BDAT, from a machine that is held to CRLF and from one whose line feeds
// are repaired. The message is refused, or the next hop gets it without anything
// that any server could take for an end before the end.
func TestNoEndIsSmuggledThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.registered("fixed", "127.0.0.3")
	file := filepath.Join(w.checkout, "registrations/lab/fixed.cue")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.write("registrations/lab/fixed.cue", strings.Replace(string(text), `kind: "printer"}`, `kind: "printer", device: {bareLF: "fix"}}`, 1))
	w.commit("A scanner with bare line feeds")
	w.push()
	w.start()
	w.waitCommit()
	const evil = "MAIL FROM:<evil@lab.example>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n"
	want := map[string]string{} // what is to arrive, by subject: the lines between "before" and "MAIL FROM"
	for i, end := range ends {
		for _, from := range []string{"127.0.0.1", "127.0.0.3"} {
			for _, how := range []string{"DATA", "BDAT"} {
				c, greeting := w.dial(from)
				c.expect(greeting, "220")
				for _, command := range []string{"EHLO client.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>"} {
					c.expect(c.say("%s", command), "250")
				}
				name := fmt.Sprintf("%s-%s-%d", how, from, i)
				text := "Subject: " + name + "\r\n\r\nbefore" + end + evil
				var reply string
				if how == "DATA" {
					c.expect(c.say("DATA"), "354")
					reply = c.say("%s.", text)
				} else {
					fmt.Fprintf(c.conn, "BDAT %d LAST\r\n%s", len(text), text)
					reply = c.reply()
				}
				begins := "550 5.6.0 "
				// In a chunk nothing is an end, so a repaired line feed is no danger.
				if lines := strings.ReplaceAll(end, "\r\n", "\n"); how == "BDAT" && from == "127.0.0.3" && !strings.ContainsAny(lines, "\r\x00") {
					begins, want[name] = "250 2.0.0 accepted", "\r\n..\r\n"
				}
				if !strings.HasPrefix(reply, begins) {
					t.Errorf("%s, %q: %q and not %q", name, end, reply, begins)
				}
				if begins[0] == '5' {
					if after := c.reply(); after != "" {
						t.Errorf("%s, %q: the session goes on: %q", name, end, after)
					}
				}
				c.conn.Close()
			}
		}
	}
	if len(want) != 3 {
		t.Errorf("%d of the variants hold nothing but line feeds", len(want))
	}
	for name := range want {
		w.arrives(name)
	}
	w.accepted("127.0.0.1", "the last one")
	w.arrives("the last one")
	w.hop.mu.Lock()
	defer w.hop.mu.Unlock()
	if len(w.hop.wires) != len(want)+1 {
		t.Errorf("%d messages arrived, want %d", len(w.hop.wires), len(want)+1)
	}
	for i, wire := range w.hop.wires {
		if strings.ContainsAny(strings.ReplaceAll(wire, "\r\n", ""), "\r\n\x00") || strings.Contains("\r\n"+wire, "\r\n.\r\n") {
			t.Errorf("the next hop got %q", wire)
		}
		for name, lines := range want {
			if strings.Contains(wire, name) && !strings.Contains(wire, "before"+lines+"MAIL FROM:<evil@lab.example>\r\n") {
				t.Errorf("%s became %q", name, wire)
			}
		}
		if strings.Contains(w.hop.mails[i], "RCPT TO:<victim@example.org>\r\nReceived:") {
			t.Errorf("it was smuggled: %q", w.hop.mails[i])
		}
	}
}
