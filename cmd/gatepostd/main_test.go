package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test be the program, when a test runs itself as that.
func TestMain(m *testing.M) {
	if os.Getenv("GATEPOSTD_TEST") != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "GATEPOSTD_TEST=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

func TestUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "relay.cue")
	for _, tc := range []struct {
		args           string
		code           int
		stdout, stderr string // "": nothing
	}{
		{"-h", 0, "--check", ""},
		{"--help", 0, "/etc/gatepost/relay.cue", ""},
		{"--chek", 2, "", "gatepostd: hint: gatepostd --config FILE [--check]\n"},
		{"check", 2, "", "gatepostd: error: unexpected argument \"check\"\ngatepostd: hint: "},
		{"--check --config " + missing, 2, "", "gatepostd: hint: name the configuration: gatepostd --config FILE --check\n"},
		{"--config " + missing, 2, "", "gatepostd: hint: gatepostd --config " + missing + " --check; schema/relay.cue describes such a file\n"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := command(t, strings.Fields(tc.args)...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run() // its exit code is looked at
			if code := cmd.ProcessState.ExitCode(); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			for _, s := range []struct{ got, want string }{{stdout.String(), tc.stdout}, {stderr.String(), tc.stderr}} {
				if !strings.Contains(s.got, s.want) || (s.want == "") != (s.got == "") {
					t.Errorf("got %q, want %q in it", s.got, s.want)
				}
			}
		})
	}
}

// TestSignals: SIGHUP, sent out of habit, changes nothing; SIGTERM ends the
// relay, and that is no failure.
func TestSignals(t *testing.T) {
	dir, err := os.MkdirTemp("", "gp") // a unix socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	page := free(t)
	config := filepath.Join(dir, "relay.cue")
	if err := os.WriteFile(config, fmt.Appendf(nil, `hostname: "relay.example.edu"
postmaster: "postmaster@example.edu"
listen: {relay: [%q], submission: [], http: %q, socket: %q}
register: repository: %q
state: %q
`, free(t), page, filepath.Join(dir, "s"), filepath.Join(dir, "none"), filepath.Join(dir, "state")), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := command(t, "--config", config)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	healthy(t, page)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	healthy(t, page)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), "event=relay.stopped") {
		t.Errorf("%v\n%s", err, &stderr)
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

// healthy waits until the relay answers.
func healthy(t *testing.T, page string) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.Get("http://" + page + "/healthz")
		if err == nil {
			r.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}
