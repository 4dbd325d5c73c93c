package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/status"
)

// queued is what gatepost queue list has.
func (w *world) queued(args ...string) (rows []queue.Row) {
	w.t.Helper()
	out := w.ok(append([]string{"queue", "list", "--format", "json"}, args...)...)
	for line := range strings.Lines(out) {
		row := queue.Row{Entry: &spool.Entry{}}
		if !strings.HasPrefix(line, "{") {
			continue // the count, on stderr
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			w.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

// waitQueue waits until the queue has n messages and nothing is under way.
func (w *world) waitQueue(n int) {
	w.t.Helper()
	w.waitReport(fmt.Sprintf("%d messages are queued", n), func(r status.Report) bool {
		return r.Queue.Entries == n && r.Queue.Depth["running"] == 0 && !r.Queue.Loading
	})
}

// TestOperatorsOrders is each of them at a relay with a next hop that puts
// everything off.
func TestOperatorsOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.start()
	w.hop.answerTo("RCPT", "450 4.2.1 later")
	for range 3 {
		w.accepted("127.0.0.1", "of the printer")
		w.accepted("127.0.0.2", "of the scanner")
	}
	w.waitReport("all are put off", func(r status.Report) bool { return r.Queue.Depth["waiting"] == 6 })

	out := w.ok("queue", "hold", "--client", "127.0.0.2", "--reason", "looks odd, ticket 4711", "--yes")
	w.says(out, "it would hold 3 messages", "registrations/lab/scanner.cue: 3", "held 3 messages")
	w.eventually("the log has it", func() bool { // its lines are written a moment later
		return strings.Contains(w.log.tail(1000), `reason="looks odd, ticket 4711"`) && strings.Contains(w.log.tail(1000), "event=queue.held")
	})
	w.kill()
	w.start()
	w.waitQueue(6)
	held := w.queued("--status", "held")
	if len(held) != 3 || held[0].Hold != "looks odd, ticket 4711" || held[0].Envelope.Client.String() != "127.0.0.2" {
		t.Fatalf("after a kill %d are held: %+v", len(held), held)
	}

	// A block over the hold: releasing does not lift it.
	w.ok("block", "127.0.0.2", "--reason", "a worm")
	id := string(held[0].ID)
	w.says(w.ok("queue", "show", id), "by an operator: looks odd, ticket 4711", "and also", "127.0.0.2 is blocked: a worm")
	w.says(w.ok("queue", "release", id), id+"  released: it stays held: 127.0.0.2 is blocked: a worm")
	code, out := w.gatepost("queue", "retry", id)
	if code != 1 {
		t.Errorf("a retry of what is blocked: %d", code)
	}
	w.says(out, id+"  not tried now: it is held: 127.0.0.2 is blocked: a worm")

	// Nobody hears of what is deleted.
	out = w.ok("queue", "delete", "--client", "127.0.0.2", "--reason", "a worm", "--yes")
	w.says(out, "nobody is told", "deleted 3 messages")
	w.says(w.log.tail(1000), "event=queue.deleted id="+id, "client=127.0.0.2", "to=someone@example.org", `reason="a worm"`)
	w.waitQueue(3)
	w.ok("unblock", "127.0.0.2")

	// A sender hears of what is returned, with the reason.
	rows := w.queued()
	w.hop.answerTo("RCPT TO:<SOMEONE", "450 4.2.1 later")
	w.says(w.ok("queue", "bounce", string(rows[0].ID), "--reason", "the mailbox is closed for good"), "returned")
	w.eventually("the sender is told", func() bool {
		return len(w.hop.holding("MAIL FROM:<>", "RCPT TO:<device@lab.example>", "the mailbox is closed for good")) == 1
	})

	// Now, and not in five minutes.
	w.hop.say(nil)
	w.says(w.ok("queue", "retry", "--to", "@example.org", "--yes"), "tried now 2 messages")
	w.waitQueue(0)
	if n := len(w.hop.holding("Subject: of the printer", "RCPT TO:<someone@example.org>")); n != 2 {
		t.Errorf("%d messages arrived", n)
	}
	if n := len(w.hop.holding("MAIL FROM:<>")); n != 1 {
		t.Errorf("%d DSNs", n)
	}
}

// TestTrace follows messages through the queue and beyond it, over a kill.
func TestTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.hop.answerTo("RCPT", "450 4.2.1 busy")
	reply := w.send("127.0.0.1", "followed")
	id := reply[strings.LastIndexByte(reply, ' ')+1:]
	w.waitReport("it is put off", func(r status.Report) bool { return r.Queue.Depth["waiting"] == 1 })
	w.says(w.ok("trace", id), "message "+id+", waiting", "client        127.0.0.1 client.lab.example", "registration  registrations/lab/printer.cue",
		"someone@example.org, deferred", "said: 450 4.2.1 busy")
	w.hop.say(func(command string) string {
		if strings.HasPrefix(command, "RCPT TO:<someone@") {
			return "550 5.1.1 nobody here"
		}
		return ""
	})
	w.ok("queue", "retry", id)
	w.waitQueue(0)
	out := w.ok("trace", id)
	w.says(out, "message "+id+", failed", "attempts      2", "said: 550 5.1.1 nobody here", "of a failure: gatepost trace ")
	dsn := strings.Fields(out[strings.LastIndex(out, "gatepost trace ")+len("gatepost trace "):])[0]
	w.says(w.ok("trace", dsn), dsn+" is the notice of a failure about another message: gatepost trace "+id, "message "+dsn+", delivered", "device@lab.example, delivered")

	w.eventually("it is written", func() bool {
		files, err := os.ReadDir(filepath.Join(w.state, "trace"))
		if err != nil || len(files) != 1 {
			return false
		}
		data, err := os.ReadFile(filepath.Join(w.state, "trace", files[0].Name()))
		return err == nil && strings.Count(string(data), `"how":"finished"`) == 2
	})
	w.kill()
	w.start()
	w.says(w.ok("trace", id), "message "+id+", failed")
	w.hop.answerTo("RCPT", "450 4.2.1 busy")
	reply = w.send("127.0.0.1", "deleted")
	other := reply[strings.LastIndexByte(reply, ' ')+1:]
	w.eventually("it is deleted", func() bool {
		code, _ := w.gatepost("queue", "delete", other, "--reason", "a mistake")
		return code == 0
	})
	w.stop()
	w.start()
	w.says(w.ok("trace", other), "message "+other+", deleted", ": a mistake")
	w.fails("no message of this relay has such an id", "trace", "zzz")
	w.fails("nothing is known any more of that message, of 19", "trace", "0"+id[1:])
}

// TestOrdersWhileAMessageIsDelivered: the attempt under way decides.
func TestOrdersWhileAMessageIsDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.hop.answerTo("DOT", stall)
	w.accepted("127.0.0.1", "on its way")
	w.waitReport("it is being delivered", func(r status.Report) bool { return r.Queue.Depth["running"] == 1 })
	id := string(w.queued()[0].ID)
	for _, verb := range []string{"bounce", "delete"} {
		code, out := w.gatepost("queue", verb, id)
		if code != 1 {
			t.Errorf("%s: %d", verb, code)
		}
		w.says(out, "an attempt is under way, so nothing was done")
	}
	w.says(w.ok("queue", "hold", id), "held: an attempt is under way and goes on; what it does not deliver is held")
	w.hop.cut()
	w.waitQueue(1)
	w.says(w.ok("queue", "show", id), "message "+id+", held", "attempts      1")
	w.says(w.ok("queue", "delete", id), "deleted")
	w.waitQueue(0)
	if n := len(w.hop.received()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestAnOrderThatWasToldOutlivesAKill: at whatever moment the relay is killed,
// what an operator was told is so.
func TestAnOrderThatWasToldOutlivesAKill(t *testing.T) {
	t.Parallel()
	for verb, after := range map[string]func(w *world, row *queue.Row) bool{ // what is so of one that was told; nil: it is gone
		"hold":   func(_ *world, row *queue.Row) bool { return row != nil && row.Hold == "a storm" },
		"delete": func(_ *world, row *queue.Row) bool { return row == nil },
		"bounce": func(w *world, row *queue.Row) bool { return row == nil },
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			const messages = 600
			w := newWorld(t)
			w.start()
			w.hop.answerTo("CONNECT", "421 4.3.2 later")
			for range messages / 50 {
				c, greeting := w.dial("127.0.0.1")
				c.expect(greeting, "220 ")
				c.expect(c.say("EHLO a.lab.example"), "250")
				for range 50 {
					c.expect(c.say("MAIL FROM:<device@lab.example>"), "250")
					c.expect(c.say("RCPT TO:<someone@example.org>"), "250")
					c.expect(c.say("DATA"), "354")
					c.expect(c.say("Subject: storm\r\n\r\nScanned.\r\n."), "250")
				}
				c.conn.Close()
			}
			w.waitQueue(messages)
			told := &answers{at: rand.IntN(messages), kill: make(chan struct{})}
			var ended sync.WaitGroup
			ended.Go(func() {
				cli.Main(t.Context(), cli.Options{
					Args:   []string{"queue", verb, "--from", "device@lab.example", "--reason", "a storm", "--yes", "--format", "json", "--socket", w.socket},
					Stdout: told, Stderr: told, Now: time.Now,
				})
				told.once.Do(func() { close(told.kill) })
			})
			<-told.kill
			w.kill()
			ended.Wait()
			w.start()
			w.waitReport("the spool is read", func(r status.Report) bool { return !r.Queue.Loading })
			rows := map[spool.ID]*queue.Row{}
			dsns := 0
			for _, row := range w.queued() {
				rows[row.ID] = &row
				if row.Envelope.From.IsNull() {
					dsns++
				}
			}
			ids := told.done()
			for _, id := range ids {
				if !after(w, rows[id]) {
					t.Errorf("%s of %s was told, and after a kill it is %+v", verb, id, rows[id])
				}
			}
			if verb == "bounce" && (dsns < len(ids) || len(rows) != messages) {
				t.Errorf("%d were told to be returned: there are %d DSNs and %d messages in all", len(ids), dsns, len(rows))
			}
			if len(ids) == 0 {
				t.Error("nothing was told before the kill")
			}
			t.Logf("killed after %d of %d", len(ids), messages)
		})
	}
}

// answers is where a command writes; it closes kill when it has had a number
// of lines.
type answers struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	at   int
	kill chan struct{}
	once sync.Once
}

func (a *answers) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf.Write(p)
	if bytes.Count(a.buf.Bytes(), []byte(`"fate":"done"`)) > a.at {
		a.once.Do(func() { close(a.kill) })
	}
	return len(p), nil
}

// done are the messages that were told to be done.
func (a *answers) done() (ids []spool.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(a.buf.String()) {
		var d queue.Did
		if json.Unmarshal([]byte(line), &d) == nil && d.Fate == queue.Done {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// TestOrdersThatAreNone: the socket takes no order that does not say, word for
// word, what it is about.
func TestOrdersThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.hop.answerTo("RCPT", "450 4.2.1 later")
	w.accepted("127.0.0.1", "it stays")
	many := strings.Repeat(`"0",`, queue.MaxIDs) + `"0"`
	for _, test := range []struct {
		path, body string
		code       int
		says       string
	}{
		{"orders", `{"verb":"delete"}`, 400, "does not say up to which message"},
		{"orders", `{"verb":"delete","filter":{"status":"waiting"}}`, 400, "does not say up to which message"},
		{"orders", `{"verb":"shred","ids":["0"]}`, 400, "no verb"},
		{"orders", `{"verb":"delete","ids":["0"],"upTo":"v"}`, 400, "names messages and chooses"},
		{"orders", `{"verb":"delete","ids":["0"],"filter":{"to":"a@b"}}`, 400, "names messages and chooses"},
		{"orders", `{"verb":"delete","ids":[` + many + `]}`, 400, "too many"},
		{"orders", `{"verb":"bounce","ids":["0"],"reason":"two\nlines"}`, 400, "the reason"},
		{"orders", `{"verb":"bounce","ids":["0"],"operator":"` + strings.Repeat("x", 65) + `"}`, 400, "the operator"},
		{"orders", `{"verb":"delete","id":"0"}`, 400, "not understood"},
		{"orders", `{"verb":"delete","upTo":"v","filter":{"client":"somewhere"}}`, 400, "not understood"},
		{"orders", `{"verb":"delete","ids":["` + strings.Repeat("x", 70_000) + `"]}`, 400, "too large"},
		{"choice", `{"too":"a@b"}`, 400, "not understood"},
		{"orders", `{"verb":"delete","ids":["../../etc/passwd"]}`, 200, `"fate":"gone"`},
		{"orders", `{"verb":"delete","upTo":"0"}`, 200, `{"end":true}`},
	} {
		code, text := w.post("/v1/queue/"+test.path, test.body)
		if code != test.code || !strings.Contains(text, test.says) {
			t.Errorf("%s %.60s: %d %s, and not %d with %q", test.path, test.body, code, text, test.code, test.says)
		}
	}
	if n := w.report().Queue.Entries; n != 1 {
		t.Errorf("%d messages are left", n)
	}
}

// post sends something to the operators' socket.
func (w *world) post(path, body string) (code int, text string) {
	w.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.socket)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post("http://gatepostd"+path, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}
