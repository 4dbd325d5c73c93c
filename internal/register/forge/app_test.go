package forge_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
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

// TestATokenReadsOneRepository: what the relay holds can do no more, and is
// asked for anew when the forge has ended it.
func TestATokenReadsOneRepository(t *testing.T) {
	t.Parallel()
	key, text := newKey(t)
	hub, server := newHub(t)
	hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	reader := func(repository string) (*forge.App, error) {
		return forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Host: server.URL, Reads: repository})
	}
	app, err := reader(repository)
	if err != nil {
		t.Fatal(err)
	}
	first, err := app.Token(t.Context())
	if may := hub.May(first); err != nil || !maps.Equal(may, map[string]string{"contents": "read"}) {
		t.Errorf("the token may %v, %v", may, err)
	}
	reviews, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Host: server.URL, Reads: repository, Reviews: true})
	if err != nil {
		t.Fatal(err)
	}
	token, err := reviews.Token(t.Context())
	if may := hub.May(token); err != nil || !maps.Equal(may, map[string]string{"contents": "read", "pull_requests": "read", "members": "read"}) {
		t.Errorf("the token for reviews may %v, %v", may, err)
	}
	hub.EndTokens()
	if again, err := app.Token(t.Context()); err != nil || again != first {
		t.Errorf("%q, %v", again, err)
	}
	if !app.Forget(t.Context()) || app.Forget(t.Context()) {
		t.Error("a token is forgotten once")
	}
	if second, err := app.Token(t.Context()); err != nil || second == first || hub.May(second) == nil {
		t.Errorf("%q, %v", second, err)
	}

	elsewhere, err := reader("umich/another")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Token(t.Context()); !errors.Is(err, forge.ErrConflict) {
		t.Errorf("a repository that the App is not installed in: %v", err)
	}
	if _, err := reader("nothing"); err == nil {
		t.Error("taken for a repository: nothing")
	}
}

// TestAWrongClockIsNamed: a forge refuses a ticket from another time, and its
// words do not help.
func TestAWrongClockIsNamed(t *testing.T) {
	t.Parallel()
	key, text := newKey(t)
	for _, test := range []struct {
		off  time.Duration // of the machine here
		says string
	}{
		{0, ""}, {50 * time.Second, ""}, {-50 * time.Second, ""}, {-8 * time.Minute, ""},
		{5 * time.Minute, "5m0s ahead of the forge's"}, {-15 * time.Minute, "15m0s behind the forge's"},
	} {
		synctest.Test(t, func(t *testing.T) {
			there := func() time.Time { return time.Now().Add(-test.off) }
			hub := forgetest.New(repository, there)
			hub.AddApp(7, 77, "gatepost", &key.PublicKey)
			app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Transport: direct{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", there().UTC().Format(http.TimeFormat))
				hub.ServeHTTP(w, r)
			})}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = app.Token(t.Context())
			if test.says == "" {
				if err != nil {
					t.Errorf("%s off: %v", test.off, err)
				}
				return
			}
			if !errors.Is(err, forge.ErrClock) || !errors.Is(err, forge.ErrRefused) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s off: %v", test.off, err)
			}
		})
	}
	// Somebody else's refusal is not put down to it.
	hub, server := newHub(t)
	other, _ := newKey(t)
	hub.AddApp(7, 77, "gatepost", &other.PublicKey)
	app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: text, Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Token(t.Context()); !errors.Is(err, forge.ErrRefused) || errors.Is(err, forge.ErrClock) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://github.com/umich/register":               " umich/register",
		"https://GitHub.com/umich/register.git/":          " umich/register",
		"https://github.example.edu/umich/register":       "https://github.example.edu umich/register",
		"https://github.example.edu:8443/umich/register":  "https://github.example.edu:8443 umich/register",
		"http://127.0.0.1:1/umich/register.git":           "http://127.0.0.1:1 umich/register",
		"https://bot:s3cret@github.com/umich/register":    " umich/register",
		"https://github.com/umich":                        "",
		"https://github.com/a/umich/register":             "",
		"https://github.com/../register":                  "",
		"/srv/register.git":                               "",
		"git@github.com:umich/register":                   "",
		"ssh://git@github.com/umich/register":             "",
		"https://bot:s3cret@github.com:port/umich/x":      "",
		"https://bot:s3cret@github.com/s3/cr/et?s3cret=1": "",
	} {
		host, name, err := forge.ParseURL(address)
		if got := host + " " + name; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q, %v", address, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestWhereTheAPIIs: beside the host, below it, or where the host itself is.
func TestWhereTheAPIIs(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"":                                  "https://api.github.com/user",
		"https://github.com":                "https://api.github.com/user",
		"https://github.example.edu":        "https://github.example.edu/api/v3/user",
		"https://umich.ghe.com":             "https://api.umich.ghe.com/user",
		"https://api.github.com":            "https://api.github.com/user",
		"https://api.umich.ghe.com/":        "https://api.umich.ghe.com/user",
		"https://github.example.edu/api/v3": "https://github.example.edu/api/v3/user",
		"https://github.example.edu:8443/":  "https://github.example.edu:8443/api/v3/user",
	} {
		asked := ""
		g := client(t, host, func(o *forge.GitHubOptions) {
			o.Wait = time.Millisecond
			o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				asked = r.URL.String()
				return nil, errors.New("nobody there")
			})
		})
		if _, err := g.Self(t.Context()); err == nil || asked != want {
			t.Errorf("%s: asked %s, %v", host, asked, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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
			if report.Run, err = g.BeginCheck(t.Context(), report.Commit, "gatepost", ""); err != nil {
				t.Fatal(err)
			}
			if begun := hub.Runs()[len(runs)]; begun.Status != "in_progress" || begun.Conclusion != "" {
				t.Errorf("begun: %+v", begun)
			}
			if err := g.ReportCheck(t.Context(), report); err != nil {
				t.Fatal(err)
			}
			if again := hub.Runs(); len(again) != len(runs)+1 || again[len(runs)].Conclusion != run.Conclusion || len(again[len(runs)].Annotations) != len(run.Annotations) {
				t.Errorf("%d problems, a run that was begun: %d runs, %+v", n, len(again)-len(runs), again[len(runs)].Conclusion)
			}
			if len(run.Annotations) != min(n, 1000) || run.Status != "completed" || run.Conclusion != "failure" || strings.Contains(run.Summary, "And 1 more.") != (n > 1000) {
				t.Errorf("%d problems: %d annotations, %s %s %q", n, len(run.Annotations), run.Status, run.Conclusion, run.Summary)
			}
		}
		a := hub.Runs()[2].Annotations[0]
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
