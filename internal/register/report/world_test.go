package report_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/report"
)

const (
	repository = "umich/register"
	workflow   = "token-of-the-workflow"
	physics    = "registrations/lsa-physics/"
)

// A world is a register at GitHub and a clone of it here.
type world struct {
	t        *testing.T
	hub      *forgetest.Hub
	server   *httptest.Server
	dir      string // the clone's; its main is GitHub's main
	options  report.Options
	speaker  forgetest.User // for lsa-physics
	stranger forgetest.User
	wait     func(*http.Request) // is called with each request before it is sent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatal("git is not installed; bash .ci/run does it")
		}
		t.Skip("git is not installed; bash .ci/run does it")
	}
	w := &world{t: t, hub: forgetest.New(repository, time.Now), dir: t.TempDir()}
	w.server = httptest.NewServer(w.hub)
	t.Cleanup(w.server.Close)
	w.speaker, w.stranger = w.hub.AddUser(583231, "octocat", ""), w.hub.AddUser(480938, "hubot", "")
	w.git("init", "-q", "-b", "main")
	w.merged(
		file("README.md", "# Register\n"),
		file("registrations/campus/networks.cue", `campus: ["141.211.0.0/16"]
networks: {
	"141.211.13.0/24": {department: "lsa-physics", use: "static"}
	"141.211.14.0/24": {department: "its", use: "static"}
	"141.211.15.0/24": {department: "library", use: "static"}
}
`),
		file("registrations/campus/departments.cue", `departments: {
	"lsa-physics": {
		name: "Physics", speakers: [{github: "octocat", id: 583231}], contactDomains: ["umich.edu"]
	}
	its: {
		name: "IT", speakers: [{github: "admin", id: 99}], contactDomains: ["umich.edu"]
	}
	library: {
		name: "Library", team: {slug: "library-it", id: 42}, contactDomains: ["umich.edu"]
	}
}
`),
		file(physics+"mfp.cue", request("lsa-physics", "141.211.13.21")),
		file("registrations/its/alarm.cue", request("its", "141.211.14.7")),
	)
	workdir, err := gitsync.OpenWorkdir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { workdir.Close() })
	w.options = report.Options{
		Repo: workdir.Repo, Branch: "main", URL: "https://github.com/umich/register/actions/runs/1",
		Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) },
	}
	bot := w.hub.AddActions(workflow)
	w.as(forge.Static(workflow), bot.ID)
	return w
}

// as signs in.
func (w *world) as(token forge.TokenSource, self int64) {
	w.t.Helper()
	g, err := forge.NewGitHub(forge.GitHubOptions{
		Repository: repository, Host: w.server.URL, Token: token, Self: self, Wait: time.Nanosecond, Pace: time.Millisecond, Transport: w,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.options.GitHub = g
}

// RoundTrip lets a test do something while a run is under way.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.wait != nil {
		w.wait(r)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// asApp signs in as an App, which may look into teams.
func (w *world) asApp() {
	w.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.t.Fatal(err)
	}
	bot := w.hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Host: w.server.URL, Key: pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key),
	})})
	if err != nil {
		w.t.Fatal(err)
	}
	w.as(app.Token, bot.ID)
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=P", "GIT_AUTHOR_EMAIL=p@umich.edu", "GIT_COMMITTER_NAME=P", "GIT_COMMITTER_EMAIL=p@umich.edu")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// merged puts a commit on main, there and here.
func (w *world) merged(changes ...forgetest.Change) string {
	w.t.Helper()
	for _, c := range changes {
		path := filepath.Join(w.dir, filepath.FromSlash(c.Path))
		if c.Remove {
			w.git("rm", "-q", c.Path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.Content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "Merged")
	if err := w.hub.Import(w.dir, "main"); err != nil {
		w.t.Fatal(err)
	}
	return w.hub.Branch("main")
}

// run reports on a commit.
func (w *world) run(head string) (report.Outcome, error) {
	return report.Run(w.t.Context(), w.options, head)
}

// reported reports on the head of a request and gives the check of it.
func (w *world) reported(number int, want forge.Conclusion) forgetest.Run {
	w.t.Helper()
	head := w.hub.Pull(number).Head
	out, err := w.run(head)
	run := w.last()
	if err != nil || out.Conclusion != want || run.Conclusion != string(want) || run.Status != "completed" || run.Head != head || run.Name != "gatepost" {
		w.t.Fatalf("%+v, %v; the check: %s %s on %s: %s\n%s", out, err, run.Status, run.Conclusion, run.Head, run.Title, run.Summary)
	}
	return run
}

// last is the newest check run: the one that counts.
func (w *world) last() forgetest.Run {
	runs := w.hub.Runs()
	if len(runs) == 0 {
		return forgetest.Run{}
	}
	return runs[len(runs)-1]
}

// comment is the one comment of a request.
func (w *world) comment(number int) forgetest.Comment {
	w.t.Helper()
	list := w.hub.Comments(number)
	if len(list) != 1 {
		w.t.Fatalf("%d comments: %v", len(list), list)
	}
	return list[0]
}

func (w *world) contains(what, text string, wants ...string) {
	w.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			w.t.Errorf("%s has no %q:\n%s", what, want, text)
		}
	}
}

func file(path, content string) forgetest.Change {
	return forgetest.Change{Path: path, Content: content}
}

func gone(path string) forgetest.Change { return forgetest.Change{Path: path, Remove: true} }

// request is a file of a department's.
func request(department string, ips ...string) string {
	var hosts strings.Builder
	for _, ip := range ips {
		hosts.WriteString("\t{ip: \"" + ip + "\", name: \"m.umich.edu\", kind: \"printer\"},\n")
	}
	return `department: "` + department + `"
contact: {name: "IT", email: "it@umich.edu"}
purpose:   "Scan-to-email from a multifunction printer."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
` + hosts.String() + `]
volume: {perHour: 200, perDay: 1000}
expires: "2027-11-20"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`
}
