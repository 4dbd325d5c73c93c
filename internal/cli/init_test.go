package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"

	"example.edu/gatepost/internal/cli"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

// needs fails the script where CI lacks a program; else the script's next line
// skips it: needs PROGRAM.
func needs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: needs PROGRAM")
	}
	if _, err := exec.LookPath(args[0]); err != nil && os.Getenv("GATEPOST_NO_SKIP") != "" {
		ts.Fatalf("%s is not installed; bash .ci/run does it", args[0])
	}
}

// serveJudge offers this very program over https for the rest of the script, and
// $JUDGE is what init is told of it. curl believes its certificate.
func serveJudge(ts *testscript.TestScript, neg bool, args []string) {
	program, err := exec.LookPath("gatepost")
	ts.Check(err)
	data, err := os.ReadFile(program)
	ts.Check(err)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(data) }))
	ts.Defer(server.Close)
	trust := ts.MkAbs("trust.pem")
	ts.Check(os.WriteFile(trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	ts.Setenv("CURL_CA_BUNDLE", trust)
	ts.Setenv("JUDGE", fmt.Sprintf("%s/gatepost#sha256=%x", server.URL, sha256.Sum256(data)))
}

// runStep runs the script of one step of a workflow, as a runner does: step
// FILE NAME. What it has in its env is the script's to set.
func runStep(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: step FILE NAME")
	}
	var w struct {
		Jobs map[string]struct {
			Steps []struct{ Name, Run string }
		}
	}
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(args[0])), &w))
	for _, j := range w.Jobs {
		for _, s := range j.Steps {
			if s.Name != args[1] || s.Run == "" {
				continue
			}
			file := ts.MkAbs("step.sh")
			ts.Check(os.WriteFile(file, []byte(s.Run), 0o600))
			if err := ts.Exec("bash", "-e", file); (err != nil) != neg {
				ts.Fatalf("step %q: %v", s.Name, err)
			}
			return
		}
	}
	ts.Fatalf("%s has no step %q with a script", args[0], args[1])
}

// TestTheRelayTakesANewRegisterOver: what init made is accepted as it is, with
// nothing to complain of; the example may send, and a machine may not.
func TestTheRelayTakesANewRegisterOver(t *testing.T) {
	t.Setenv("GIT_AUTHOR_NAME", "Postmaster")
	t.Setenv("GIT_AUTHOR_EMAIL", "postmaster@example.edu")
	at, err := time.Parse(time.RFC3339, now)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return at }
	said := []string{"--campus", "141.211.0.0/16", "--department", "its", "--holds", "141.211.13.0/24", "--speaker", "ann:7", "--mail-domain", "example.edu", "--branch", "trunk"}
	for name, more := range map[string][]string{
		"at a forge": {"--repo", "example/register", "--gatepost", "v1.2.3"},
		"plain":      {"--plain"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "register")
			var stdout, stderr bytes.Buffer
			args := append(append([]string{"init", dir}, said...), more...)
			if code := cli.Main(t.Context(), cli.Options{Args: args, Stdout: &stdout, Stderr: &stderr, Now: clock}); code != 0 {
				t.Fatalf("exit code %d\n%s", code, stderr.String())
			}
			source, err := gitsync.Open(t.Context(), gitsync.Options{Repository: dir, Branch: "trunk", Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			live := new(policy.Live)
			r, err := reconcile.New(reconcile.Options{Source: source, Dir: t.TempDir(), Live: live, MaxRemovals: 0.3, Poll: time.Minute, Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			state := r.State()
			if state.Addresses != 1 || len(state.Problems) != 0 || state.Condition != "" {
				t.Errorf("state: %+v", state)
			}
			for address, want := range map[string]policy.Standing{
				"192.0.2.21":   policy.Registered,
				"141.211.13.5": policy.Unregistered,
				"8.8.8.8":      policy.OffCampus,
			} {
				if got := live.Load().Lookup(netip.MustParseAddr(address), at).Standing; got != want {
					t.Errorf("%s: %v, want %v", address, got, want)
				}
			}
		})
	}
}

// TestAnInterruptedInitLeavesNothing: at any moment.
func TestAnInterruptedInitLeavesNothing(t *testing.T) {
	t.Setenv("GIT_AUTHOR_NAME", "Postmaster")
	t.Setenv("GIT_AUTHOR_EMAIL", "postmaster@example.edu")
	above := t.TempDir()
	dir := filepath.Join(above, "register")
	ended := 0
	for after := 0; ended == 0; after++ {
		if after > 1000 {
			t.Fatal("it never ends")
		}
		ctx := &counted{Context: t.Context()}
		ctx.left.Store(int64(after))
		var stdout, stderr bytes.Buffer
		code := cli.Main(ctx, cli.Options{Args: []string{"init", dir, "--plain", "--campus", "10.0.0.0/8", "--department", "its", "--speaker", "ann", "--mail-domain", "example.edu"},
			Stdout: &stdout, Stderr: &stderr, Now: time.Now})
		if code == 0 {
			ended++
			continue
		}
		left, err := os.ReadDir(above)
		if err != nil || len(left) > 0 || stderr.String() != "gatepost: error: interrupted\n" {
			t.Fatalf("after %d looks at the context: %v %v\n%s", after, left, err, stderr.String())
		}
	}
}

// counted is a context that is cancelled after it was looked at so many times.
type counted struct {
	context.Context
	left atomic.Int64
}

func (c *counted) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}
