package daemon_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/status"
)

// The tests in this file run the daemon inside the test's process, where its
// goroutines can be counted; so none of them is parallel.

// run runs the daemon here until ctx ends; ready is called when it is.
func (w *world) runHere(ctx context.Context, ready func()) error {
	return daemon.Run(ctx, daemon.Options{ConfigFile: w.config, Logger: slog.New(slog.NewTextHandler(w.log, nil)), Ready: ready})
}

// block puts something in the way of the relay, until the test ends.
func (w *world) occupy(network, addr string) {
	w.t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ln.Close() })
}

// TestFailedStartLeavesNothingBehind fails each step of the start that can
// fail. The error says what is wrong, and nothing goes on: no port, no socket,
// no goroutine, no lock; nothing was delivered and nothing fetched.
func TestFailedStartLeavesNothingBehind(t *testing.T) {
	obstruct := func(name string) func(*world) {
		return func(w *world) {
			if err := os.MkdirAll(w.state, 0o700); err != nil {
				w.t.Fatal(err)
			}
			w.file(filepath.Join("state", name), "in the way")
		}
	}
	tests := []struct {
		name  string
		spoil func(w *world)
		says  string
	}{
		{"no configuration", func(w *world) { os.Remove(w.config) }, "relay.cue"},
		{"broken configuration", func(w *world) { w.file("relay.cue", "hostname: 7\n") }, "hostname"},
		{"state is a file", func(w *world) { w.file("state", "") }, "state: not a directory"},
		{"no certificate", func(w *world) { os.Remove(filepath.Join(w.dir, "cert.pem")) }, "cert.pem"},
		{"key of another certificate", func(w *world) {
			key, err := os.ReadFile(filepath.Join(w.dir, "key.pem"))
			if err != nil {
				w.t.Fatal(err)
			}
			w.certificate()
			w.file("key.pem", string(key))
		}, "private key does not match"},
		{"no secret of the webhook", func(w *world) { w.webhook() }, "reading the webhook's secret"},
		{"an empty secret of the webhook", func(w *world) { w.webhook(); w.file("hook", " \n\n") }, "hook: webhook: the secret is empty; openssl rand -hex 32"},
		{"a short secret of the webhook", func(w *world) { w.webhook(); w.file("hook", "0123456789abcde\n") }, "the secret has 15 octets"},
		{"port of the webhook", func(w *world) { w.file("hook", hookSecret); w.occupy("tcp", w.webhook()) }, "opening the port webhook: "},
		{"spool is a file", obstruct("spool"), "opening the spool"},
		{"register is a file", obstruct("register"), "register"},
		{"socket is a file", func(w *world) { w.file("relay.sock", "") }, "relay.sock is in the way"},
		{"socket is another relay's", func(w *world) { w.occupy("unix", w.socket) }, "another relay answers at"},
		{"port of the status pages", func(w *world) { w.occupy("tcp", w.status) }, "address already in use"},
		{"port 25", func(w *world) { w.occupy("tcp", w.relay) }, "address already in use"},
		{"port 587", func(w *world) { w.occupy("tcp", w.submission) }, "address already in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.configure()
			tt.spoil(w)
			before := runtime.NumGoroutine()
			err := w.runHere(t.Context(), func() { t.Error("it says that it is ready") })
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("the error does not say %q: %v", tt.says, err)
			}
			w.noMoreThan(before)
			if strings.Contains(w.log.tail(1000), "event=register.") {
				t.Error("the register was followed")
			}
			if got := w.hop.received(); len(got) > 0 {
				t.Errorf("%d messages went out", len(got))
			}
			for name, mode := range map[string]fs.FileMode{w.socket: fs.ModeSocket, w.socket + ".d": fs.ModeDir} {
				if info, err := os.Lstat(name); err == nil && info.Mode().Type() == mode && !strings.Contains(tt.name, "another") {
					t.Errorf("%s is left behind", name)
				}
			}
		})
	}
}

// noMoreThan waits until there are no more goroutines than before.
func (w *world) noMoreThan(before int) {
	w.t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// A goroutine that has done its last deed may take a moment to be gone.
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline.C:
			stacks := make([]byte, 1<<20)
			w.t.Fatalf("%d goroutines, and %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestEndLeavesNothingBehind starts and ends the relay with sessions open, and
// starts it again on what it left.
func TestEndLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.configure()
	for range 2 {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		ready := make(chan struct{})
		go func() { ended <- w.runHere(ctx, func() { close(ready) }) }()
		<-ready
		w.waitReady()
		w.accepted("127.0.0.1", "while it runs")
		c, greeting := w.dial("127.0.0.1")
		c.expect(greeting, "220 ")
		cancel()
		c.expect(c.reply(), "421 4.3.2 ")
		c.conn.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		w.noMoreThan(before)
		if _, err := os.Lstat(w.socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	}
}

// TestAskedToEndBeforeItBegan is no failure.
func TestAskedToEndBeforeItBegan(t *testing.T) {
	w := newWorld(t)
	w.configure()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.runHere(ctx, nil); err != nil {
		t.Error(err)
	}
}

// TestOperatorsSocket is a file that only its owner may open, at any time; one
// that a killed relay left is replaced.
func TestOperatorsSocket(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.kill()
	if _, err := os.Lstat(w.socket); err != nil {
		t.Fatalf("a killed relay leaves its socket, or this test proves nothing: %v", err)
	}
	if code, out := w.gatepost("status"); code != 2 || !strings.Contains(out, "hint: gatepostd is not running") {
		t.Errorf("gatepost status of a dead relay (exit %d):\n%s", code, out)
	}
	w.start()
	info, err := os.Lstat(w.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket's mode is %v (%v)", info.Mode(), err)
	}
	if code, out := w.gatepost("status"); code != 0 {
		t.Errorf("gatepost status (exit %d):\n%s", code, out)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.socket)
	}}}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/v1/status", "", 200},
		{"GET", "/v1/queue?limit=1", "", 200},
		{"GET", "/v1/queue?limit=0", "", 400},
		{"GET", "/v1/queue/nonesuch", "", 404},
		{"GET", "/v2/status", "", 404},
		{"POST", "/v1/status", "", 405},
		{"POST", "/v1/register/accept", `{"commit": "0000000", "reason": "x", "force": true}`, 400},
		{"POST", "/v1/register/accept", `{"commit": "` + strings.Repeat("0", 100_000) + `"}`, 400},
		{"POST", "/v1/register/accept", `{"commit": "` + strings.Repeat("0", 40) + `", "reason": "x"}`, 409},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://relay"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%s %s answers %d, not %d", tt.method, tt.path, resp.StatusCode, tt.code)
		}
	}
}

// TestManyIdleConnections holds more connections to the status pages than are
// served at once; mail is not touched by it, and the pages are back when they
// go.
func TestManyIdleConnections(t *testing.T) {
	w := newWorld(t)
	w.start()
	var conns []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", w.status)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	w.accepted("127.0.0.1", "beside them")
	w.arrives("beside them")
	for _, c := range conns {
		c.Close()
	}
	w.waitReport("the pages are served", func(status.Report) bool { return true })
}
