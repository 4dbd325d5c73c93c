package forge_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

func newKey(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// TestAnAppsTokenIsReplacedBeforeItEnds.
func TestAnAppsTokenIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	key, text := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		hub := forgetest.New(repository, time.Now)
		hub.AddApp(7, 77, "gatepost", &key.PublicKey)
		app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Transport: direct{hub}})
		if err != nil {
			t.Fatal(err)
		}
		token := func() string {
			t.Helper()
			got, err := app.Token(t.Context())
			if err != nil || !strings.HasPrefix(got, "ghs_") {
				t.Fatalf("%q, %v", got, err)
			}
			return got
		}
		first := token()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := app.Token(t.Context()); err != nil || got != first {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		all.Wait()
		pass(54 * time.Minute)
		if got := token(); got != first {
			t.Error("replaced with six minutes left")
		}
		pass(2 * time.Minute)
		second := token()
		if second == first {
			t.Error("kept with four minutes left")
		}
		hub.Fail(forgetest.Failure{Method: "POST", Path: "/access_tokens", Status: 401, Times: -1})
		pass(58 * time.Minute)
		if got, err := app.Token(t.Context()); !errors.Is(err, forge.ErrRefused) || got != "" {
			t.Errorf("refused: %q, %v", got, err)
		}
		if calls := hub.Calls(); len(calls) != 3 {
			t.Errorf("calls: %v", calls)
		}
	})
}

func pass(d time.Duration) { <-time.After(d) }

// TestACheckOfManyAnnotations: fifty at a time, concluded with the last.
func TestACheckOfManyAnnotations(t *testing.T) {
	t.Parallel()
	key, text := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		hub := forgetest.New(repository, time.Now)
		hub.AddApp(7, 77, "gatepost", &key.PublicKey)
		app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Transport: direct{hub}})
		if err != nil {
			t.Fatal(err)
		}
		g := client(t, "", func(o *forge.GitHubOptions) { o.Transport, o.Token = direct{hub}, app.Token })
		problems := make([]registration.Problem, 1001)
		for i := range problems {
			problems[i] = registration.Problem{File: "registrations/its/a.cue", Line: i, Column: 3, Rule: registration.RuleBadIP, Severity: registration.Warning, Message: "message", Hint: "mend it"}
		}
		for _, n := range []int{0, 1, 50, 51, 120, 1001} {
			report := forge.Report{Commit: hub.Branch("main"), Name: "gatepost", Conclusion: forge.Failure, Summary: "summary", Problems: problems[:n]}
			if err := g.ReportCheck(t.Context(), report); err != nil {
				t.Fatal(err)
			}
			runs := hub.Runs()
			run := runs[len(runs)-1]
			if len(run.Annotations) != min(n, 1000) || run.Status != "completed" || run.Conclusion != "failure" || strings.Contains(run.Summary, "And 1 more.") != (n > 1000) {
				t.Errorf("%d problems: %d annotations, %s %s %q", n, len(run.Annotations), run.Status, run.Conclusion, run.Summary)
			}
		}
		a := hub.Runs()[1].Annotations[0]
		if a["start_line"] != 1.0 || a["start_column"] != nil || a["annotation_level"] != "warning" || a["title"] != "bad-ip" || a["message"] != "message\nhint: mend it" {
			t.Errorf("annotation: %v", a)
		}

		// One that breaks off is not concluded.
		hub.Fail(forgetest.Failure{Method: "PATCH", Path: "/check-runs/", Status: 500, Times: 1})
		report := forge.Report{Commit: hub.Branch("main"), Name: "gatepost", Conclusion: forge.Success, Problems: problems[:60]}
		if err := g.ReportCheck(t.Context(), report); !errors.Is(err, forge.ErrUnreachable) {
			t.Errorf("broken off: %v", err)
		}
		if runs := hub.Runs(); runs[len(runs)-1].Conclusion != "" {
			t.Errorf("concluded: %+v", runs[len(runs)-1].Conclusion)
		}
	})
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	_, text := newKey(t)
	for name, key := range map[string][]byte{"nothing": nil, "no PEM": []byte("secret"), "another PEM": pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: []byte("secret")})} {
		if _, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: key}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := forge.NewApp(forge.AppOptions{Installation: 77, Key: text}); err == nil {
		t.Error("an App without a number is taken")
	}
}
