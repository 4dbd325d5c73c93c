package demo

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// screen is what the visitor sees.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// await waits until the visitor can read text.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(s.String(), text) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%q was not to be seen within 30 s in:\n%s", text, s)
		}
	}
}

func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestVisitor does what the demo tells its visitor to do, word for word.
func TestVisitor(t *testing.T) {
	for _, program := range []string{"git", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "two words")) // the commands are quoted
	if err := os.Mkdir(os.TempDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	var out screen
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	o := Options{Out: &out, Program: "gatepost", Relay: free(t), Submission: free(t), Status: free(t), Portal: free(t)}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	out.await(t, "logs, mails: ")
	dir := regexp.MustCompile(`logs, mails: (.+)\n`).FindStringSubmatch(out.String())[1]
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) > 11 {
		t.Errorf("the welcome has %d lines; ten can be read", len(lines))
	}
	if !strings.Contains(out.String(), "gatepost demo send --server "+o.Relay+" ") {
		t.Errorf("the commands do not name the server, which is not where the demo usually is:\n%s", &out)
	}
	for _, line := range lines {
		line = strings.ReplaceAll(strings.ReplaceAll(line, dir, "/tmp/gatepost-demo-1234567890"), " --server "+o.Relay, "")
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("this line is wider than a terminal: %s", line)
		}
	}

	send := func(server, from, subject string, secure bool) (bool, string) {
		t.Helper()
		var dialog bytes.Buffer
		ok, err := Send(t.Context(), &dialog, Mail{Server: server, From: netip.MustParseAddr(from), StartTLS: secure, Subject: subject})
		if err != nil {
			t.Fatalf("%v\n%s", err, &dialog)
		}
		return ok, dialog.String()
	}

	// A relay that just started may still say "try again" (421): no register yet.
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, dialog := send(o.Relay, "127.0.0.1", "first", false)
		if ok {
			break
		}
		if !strings.Contains(dialog, "421") || time.Now().After(deadline) {
			t.Fatalf("the registered address was refused:\n%s", dialog)
		}
	}
	out.await(t, `arrived: "first"`)

	if ok, dialog := send(o.Submission, "127.0.0.1", "with TLS", true); !ok || !strings.Contains(dialog, "TLS 1.3") {
		t.Errorf("port 587:\n%s", dialog)
	}
	out.await(t, `arrived: "with TLS"`)

	if ok, dialog := send(o.Relay, "127.0.0.2", "too early", false); ok || !strings.Contains(dialog, "127.0.0.2 is not registered") {
		t.Errorf("an unregistered address:\n%s", dialog)
	}

	command := regexp.MustCompile(`3\. (sh .*)`).FindStringSubmatch(out.String())
	if command == nil {
		t.Fatalf("no third command in:\n%s", &out)
	}
	if text, err := exec.CommandContext(t.Context(), "sh", "-c", command[1]).CombinedOutput(); err != nil || !strings.Contains(string(text), "git merge") {
		t.Fatalf("%v, or the commands are not shown:\n%s", err, text)
	}
	out.await(t, "for <it@physics.demo.example>")
	if ok, dialog := send(o.Relay, "127.0.0.2", "at last", false); !ok {
		t.Errorf("a registered address was refused:\n%s", dialog)
	}
	out.await(t, `arrived: "at last"`)

	stop()
	if err := <-ended; err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the demo left %s behind (%v)", dir, err)
	}
}

// TestEarlyEnd: Ctrl-C before everything runs is no failure, and leaves nothing.
func TestEarlyEnd(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out screen
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Run(ctx, Options{Out: &out, Program: "gatepost", Relay: free(t), Submission: free(t), Status: free(t), Portal: free(t)}); err != nil && !errors.Is(err, ErrNoGit) {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestPortsTaken: another demo, or anything else, on a port is no hindrance.
func TestPortsTaken(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	t.Setenv("TMPDIR", t.TempDir())
	for _, addr := range []string{RelayAddr, SubmissionAddr, StatusAddr, PortalAddr} {
		if ln, err := net.Listen("tcp", addr); err == nil { // else it is taken by someone
			defer ln.Close()
		}
	}
	var out screen
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: &out, Program: "gatepost"}) }()
	out.await(t, "demo send --server 127.0.0.1:")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
