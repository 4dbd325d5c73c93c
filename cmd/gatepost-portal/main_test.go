package main

import (
	"bytes"
	"fmt"
	"io"
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
	if os.Getenv("GATEPOST_PORTAL_TEST") != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "GATEPOST_PORTAL_TEST=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

func TestUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "portal.cue")
	for _, tc := range []struct {
		args           string
		code           int
		stdout, stderr string // "": nothing
	}{
		{"-h", 0, "--check", ""},
		{"--help", 0, "/etc/gatepost/portal.cue", ""},
		{"--chek", 2, "", "gatepost-portal: hint: gatepost-portal --config FILE [--check]\n"},
		{"check", 2, "", "gatepost-portal: error: unexpected argument \"check\"\ngatepost-portal: hint: "},
		{"--check --config " + missing, 2, "", "gatepost-portal: hint: name the configuration: gatepost-portal --config FILE --check\n"},
		{"--config " + missing, 2, "", "gatepost-portal: hint: gatepost-portal --config " + missing + " --check; schema/portal.cue describes such a file\n"},
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

// TestTheFirstConfiguration tries the one that the usage shows: it is as it
// should be, the portal runs with it, and ends when it is asked to.
func TestTheFirstConfiguration(t *testing.T) {
	dir := t.TempDir()
	register := filepath.Join(dir, "register.git")
	for _, args := range [][]string{
		{"git", "init", "-q", "-b", "main", register},
		{"git", "-C", register, "-c", "user.name=x", "-c", "user.email=x@example.edu", "commit", "-q", "--allow-empty", "-m", "begin"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	addr, monitoring := free(t), free(t)
	_, shown, _ := strings.Cut(usage, "\n\n")
	shown, _, _ = strings.Cut(shown, "\n\n")
	text := strings.NewReplacer("127.0.0.1:8587", addr, "/tmp/gatepost-portal", filepath.Join(dir, "state"), "/path/to/register.git", register).Replace(shown) +
		fmt.Sprintf("\nlisten: %q\nmetrics: %q\n", addr, monitoring)
	config := filepath.Join(dir, "portal.cue")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, "--check", "--config", config).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nof\n%s", err, out, text)
	}
	var stderr bytes.Buffer
	cmd := command(t, "--config", config)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ page, want string }{ // in this order: a counter is there once it has counted
		{"http://" + addr + "/healthz", "ok\n"},
		{"http://" + addr + "/readyz", "ok\n"},
		{"http://" + addr + "/", "Sign in</a>"},
		{"http://" + addr + "/sign-in", "Pat, postmaster"},
		{"http://" + monitoring + "/metrics", "gatepost_guard_requests_total"},
	} {
		if got := ask(t, tc.page, tc.want); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s\n%s", tc.page, got, &stderr)
		}
	}
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), "event=portal.stop") {
		t.Errorf("%v\n%s", err, &stderr)
	}
}

// TestAnIdentityProviderThatIsDown: the portal starts all the same, and says so to
// whoever wants to sign in; a form may lead to the provider when it is back.
func TestAnIdentityProviderThatIsDown(t *testing.T) {
	dir, addr, nobody := t.TempDir(), free(t), free(t)
	register := filepath.Join(dir, "register.git")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", "-b", "main", register).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config := filepath.Join(dir, "portal.cue")
	if err := os.WriteFile(config, fmt.Appendf(nil, `url: "http://%[1]s"
listen: %[1]q
state: %[2]q
site: {name: "x", postmaster: "pm@example.edu"}
register: repository: %[3]q
signIn: oidc: {issuer: "http://%[4]s", clientID: "portal", postmasters: emails: ["pm@example.edu"]}
relays: []
`, addr, filepath.Join(dir, "state"), register, nobody), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := command(t, "--config", config)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "http://"+addr+"/sign-in", "Nobody can sign in at the moment"); !strings.Contains(got, "Nobody can sign in at the moment") {
		t.Error(got)
	}
	r, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got := r.Header.Get("Content-Security-Policy"); r.StatusCode != http.StatusOK || !strings.Contains(got, "form-action 'self' http://"+nobody+";") {
		t.Errorf("%d %s", r.StatusCode, got)
	}
	if got := ask(t, "http://"+addr+"/readyz", "not been read yet"); !strings.Contains(got, "not been read yet") { // there is no commit
		t.Error(got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), "event=session.provider_failed") {
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

// ask waits until the answer has want in it.
func ask(t *testing.T, url, want string) (got string) {
	t.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.Get(url)
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if got = string(body); strings.Contains(got, want) {
				return got
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return got
		}
	}
}
