package daemon_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli"
	"example.edu/gatepost/internal/status"
)

// TestMessagesMove carries a queue from one relay to another: one way asked of
// running relays, one way with both of them stopped. Each message arrives once,
// what was held is held, and nothing is imported twice.
func TestMessagesMove(t *testing.T) {
	t.Parallel()
	from, to := newWorld(t), newWorld(t)
	for _, w := range []*world{from, to} {
		w.start()
		w.hop.answerTo("CONNECT", "421 4.3.2 later")
	}
	from.accepted("127.0.0.1", "to be held")
	held := string(from.queued()[0].ID)
	from.says(from.ok("queue", "hold", held, "--reason", "ticket 4711"), "held")
	const large = 3 << 20
	from.sendBody("127.0.0.1", "long", strings.Repeat("a line of sixty-four octets, which is what a line here has.....\r\n", large/66))
	for i := range 40 {
		from.accepted("127.0.0.1", fmt.Sprintf("number %d", i))
	}
	from.waitQueue(42)

	dir := filepath.Join(from.dir, "export")
	from.says(from.ok("queue", "export", "--all", dir), "42 messages exported to "+dir)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2*42+1 {
		t.Errorf("%d files, %v", len(files), err)
	}
	from.fails("is there, and not empty", "queue", "export", "--all", dir)
	to.says(to.ok("queue", "import", dir), "42 messages imported")
	to.says(to.ok("queue", "import", dir), "0 messages imported; 42 in the queue already")
	to.says(to.ok("queue", "show", held), "held", "ticket 4711", "registrations/lab/printer.cue")
	from.ok("queue", "delete", "--all", "--yes")
	to.hop.say(nil)
	to.gatepost("queue", "retry", "--all", "--yes") // but for the one that is held
	to.waitReport("all but one have left", func(r status.Report) bool { return r.Queue.Entries == 1 })
	to.arrivesOnce("number 7", "long")
	to.says(to.ok("queue", "import", dir), "0 messages imported; 1 in the queue already; 41 imported before (--again takes them)")

	// The other way, offline, through a pipe.
	from.stop()
	to.fails("it is in use already", "queue", "export", "--all", "--state", to.state, "-")
	to.stop()
	var stream, told bytes.Buffer
	offline := func(in *bytes.Buffer, args ...string) {
		t.Helper()
		o := cli.Options{Args: args, Stdin: in, Stdout: &stream, Stderr: &told, Now: time.Now}
		if code := cli.Main(t.Context(), o); code != 0 {
			t.Errorf("gatepost %v: %d\n%s", args, code, &told)
		}
	}
	offline(nil, "queue", "export", "--all", "--state", to.state, "-")
	in := bytes.NewBuffer(bytes.Clone(stream.Bytes()))
	stream.Reset()
	offline(in, "queue", "import", "--state", from.state, "-")
	from.says(stream.String(), "1 message imported")
	from.hop.say(nil)
	from.start()
	from.says(from.ok("queue", "release", held), "released")
	from.ok("queue", "retry", held) // its next attempt may be due later
	from.arrivesOnce("to be held")
}

// arrivesOnce waits for messages and looks whether there is one of each.
func (w *world) arrivesOnce(subjects ...string) {
	w.t.Helper()
	for _, subject := range subjects {
		w.arrives(subject)
		if n := len(w.hop.holding("Subject: " + subject + "\r\n")); n != 1 {
			w.t.Errorf("%q arrived %d times", subject, n)
		}
	}
}

// sendBody sends one message with a text.
func (w *world) sendBody(from, subject, text string) {
	w.t.Helper()
	c, greeting := w.dial(from)
	defer c.conn.Close()
	c.expect(greeting, "220 ")
	for _, command := range []string{"EHLO a.lab.example", "MAIL FROM:<device@lab.example>", "RCPT TO:<someone@example.org>"} {
		c.expect(c.say("%s", command), "250")
	}
	c.expect(c.say("DATA"), "354")
	c.expect(c.say("Subject: %s\r\n\r\n%s.", subject, text), "250")
}
