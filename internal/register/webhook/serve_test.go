package webhook_test

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/webhook"
)

// dial opens a connection to the server.
func (d *desk) dial(addr string) net.Conn {
	d.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return conn
}

// head is the beginning of a delivery as it goes over the wire.
func head(body, signed string, length string) string {
	return "POST /webhook HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n" +
		"X-Hub-Signature-256: sha256=" + sign(sha256.New, secret, []byte(signed)) + "\r\n" + length + "\r\n\r\n" + body
}

// answer reads the status of an answer; 0 if the connection ends without one.
func answer(t *testing.T, conn net.Conn) int {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("no answer, and no end")
	}
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// wait waits for a state that nothing tells of.
func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestOverTheWire: bodies whole, cut, too large, in pieces.
func TestOverTheWire(t *testing.T) {
	d := newDesk(t)
	addr := d.listen()
	body := push("main", 1)
	chunked := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	huge := strings.Repeat(" ", 25<<20+1)
	for _, test := range []struct {
		name, text string
		code       int
		result     string
	}{
		{"whole", head(body, body, fmt.Sprintf("Content-Length: %d", len(body))), 202, "woke"},
		{"in pieces", head(chunked(push("main", 2)), push("main", 2), "Transfer-Encoding: chunked"), 202, "woke"},
		{"says it is larger than 25 MiB", head("", body, fmt.Sprintf("Content-Length: %d", 25<<20+1)), 413, "malformed"},
		{"is larger than 25 MiB", head(chunked(huge), huge, "Transfer-Encoding: chunked"), 413, "malformed"},
		{"a piece that is none", head("zz\r\n", body, "Transfer-Encoding: chunked"), 400, "malformed"},
		{"no HTTP", "\x16\x03\x01\x02\x00\r\n\r\n", 400, ""},
		{"a header without end", "POST /webhook HTTP/1.1\r\nHost: relay\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431, ""},
	} {
		before := 0
		if test.result != "" {
			before = d.count(test.result)
		}
		conn := d.dial(addr)
		go io.WriteString(conn, test.text) // the server need not read it all
		if code := answer(t, conn); code != test.code && code != 0 || code == 0 && test.code < 400 {
			t.Errorf("%s: %d", test.name, code)
		}
		if test.result != "" && d.count(test.result) != before+1 {
			t.Errorf("%s: not counted as %s", test.name, test.result)
		}
	}
	// Whoever hangs up in the middle has said nothing.
	conn := d.dial(addr)
	before := d.count("malformed")
	if _, err := io.WriteString(conn, head(push("main", 3)[:40], push("main", 3), "Content-Length: 4000")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	wait(t, "the cut delivery is counted", func() bool { return d.count("malformed") == before+1 })
	// An answer ends its connection.
	conn = d.dial(addr)
	text := head(push("main", 4), push("main", 4), fmt.Sprintf("Content-Length: %d", len(push("main", 4))))
	if _, err := io.WriteString(conn, text+text); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(conn)
	if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 {
		t.Errorf("%d answers on one connection:\n%s", n, all)
	}
	wait(t, "the wake-ups", func() bool { return d.wakes.Load() == 3 })
}

// TestTheSlowHaveTheirTime, and no more.
func TestTheSlowHaveTheirTime(t *testing.T) {
	d := newDesk(t, func(o *webhook.Options) { o.Wait = 400 * time.Millisecond })
	addr := d.listen()
	body := push("main", 1)
	for name, begin := range map[string]string{
		"silent":            "",
		"a drop of header":  "POST /webhook HTTP/1.1\r\nX: ",
		"a drop of a body":  head("{", body, "Content-Length: 1000000"),
		"a drop of a piece": head("fffff\r\n{", body, "Transfer-Encoding: chunked"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := d.dial(addr)
			began := time.Now()
			if _, err := io.WriteString(conn, begin); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				io.Copy(io.Discard, conn)
			}()
			drip := time.NewTicker(20 * time.Millisecond)
			defer drip.Stop()
			enough := time.After(10 * time.Second)
			for {
				select {
				case <-ended:
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("it had %v", took)
					}
					return
				case <-drip.C:
					if name != "silent" {
						io.WriteString(conn, "x") // fails when the server has had enough
					}
				case <-enough:
					t.Fatal("it has all the time in the world")
				}
			}
		})
	}
}

// TestTheSlowKeepNobodyOut: every place is taken by somebody who says nothing,
// or no more than a little, and a delivery is heard at once.
func TestTheSlowKeepNobodyOut(t *testing.T) {
	d := newDesk(t, func(o *webhook.Options) { o.Wait, o.Connections, o.Pace = time.Hour, 8, time.Nanosecond })
	addr := d.listen()
	for i := range 100 {
		conn := d.dial(addr)
		if i%2 == 0 {
			if _, err := io.WriteString(conn, head("{", push("main", 1), "Content-Length: 1000000")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 20 {
		conn := d.dial(addr)
		body := push("main", i+10)
		if _, err := io.WriteString(conn, head(body, body, fmt.Sprintf("Content-Length: %d", len(body)))); err != nil {
			t.Fatal(err)
		}
		if code := answer(t, conn); code != 202 {
			t.Errorf("delivery %d: %d", i, code)
		}
	}
	if d.count("woke") != 20 {
		t.Errorf("woke %d times", d.count("woke"))
	}
	if n := d.count("evicted"); n < 92 || n > 112 {
		t.Errorf("%d were cut to make room", n)
	}
}
