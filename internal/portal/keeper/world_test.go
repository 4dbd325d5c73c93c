package keeper

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/status"
)

const physics = "registrations/lsa-physics/"

const campus = `campus: ["141.211.0.0/16"]
networks: {
	"141.211.13.0/24": {department: "lsa-physics", use: "static"}
	"141.211.14.0/24": {department: "its", use: "static"}
}
`

const departments = `departments: {
	"lsa-physics": {
		name: "Physics", speakers: [{github: "octocat", id: 583231}], contactDomains: ["umich.edu"]
	}
	its: {
		name: "IT", speakers: [{github: "admin", id: 99}], contactDomains: ["umich.edu"]
	}
}
`

// request is a file of a department's.
func request(department, expires string, ips ...string) string {
	var hosts strings.Builder
	for _, ip := range ips {
		hosts.WriteString("\t{ip: \"" + ip + "\", name: \"m.umich.edu\", kind: \"printer\"},\n")
	}
	return "// Room 12.\n" + `department: "` + department + `"
contact: {name: "IT", email: "it@umich.edu"}
purpose:   "Scan-to-email from a multifunction printer."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
` + hosts.String() + `]
volume: {perHour: 200, perDay: 1000}
expires: "` + expires + `"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`
}

// A world is a register in a plain repository, a copy of it, made-up relays and a
// portal's reporter.
type world struct {
	t      *testing.T
	bare   string
	work   string
	git    *forge.Git
	forge  Forge // what the reporter is given
	mirror *gitsync.Mirror
	view   *view.View
	book   *book.Book
	state  string
	relays *relays
	post   *post
	log    bytes.Buffer
	now    time.Time
	change func(*Options)
	k      *Keeper
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatal("git is not installed; bash .ci/run does it")
		}
		t.Skip("git is not installed; bash .ci/run does it")
	}
	dir := t.TempDir()
	w := &world{
		t: t, bare: filepath.Join(dir, "register.git"), work: filepath.Join(dir, "work"), state: filepath.Join(dir, "book"),
		relays: &relays{}, post: &post{}, now: time.Now().UTC().Truncate(time.Second),
	}
	w.run(dir, "init", "-q", "-b", "main", w.work)
	w.run(dir, "init", "-q", "--bare", "-b", "main", w.bare)
	w.run(w.work, "remote", "add", "origin", w.bare)
	w.commit(map[string]string{"registrations/campus/networks.cue": campus, "registrations/campus/departments.cue": departments,
		physics + "mfp.cue": request("lsa-physics", w.day(300), "141.211.13.21")})
	var err error
	if w.git, err = forge.OpenGit(w.bare); err != nil {
		t.Fatal(err)
	}
	w.forge = w.git
	w.open()
	return w
}

// open makes the copy and the reporter.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.mirror, err = gitsync.Open(w.t.Context(), gitsync.Options{Repository: w.bare, Branch: "main", Dir: filepath.Join(w.t.TempDir(), "copy")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.mirror.Close)
	w.restart()
}

// restart begins the reporter anew, with the memory on the disk.
func (w *world) restart() {
	w.t.Helper()
	var err error
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	if w.book, err = book.Open(book.Options{Dir: w.state, Logger: log, Now: w.clock}); err != nil {
		w.t.Fatal(err)
	}
	o := Options{
		Forge: w.forge, Book: w.book, Register: w.register, Repo: w.mirror.Repo, Branch: "main", URL: "https://relay.umich.edu/",
		Relays: w.relays, Mailer: w.post, MirrorsBlocks: true, RenewAhead: 30 * 24 * time.Hour, Now: w.clock, Logger: log,
	}
	if w.change != nil {
		w.change(&o)
	}
	w.k = New(o)
}

func (w *world) clock() time.Time { return w.now }

// register is the newest, read anew.
func (w *world) register() *view.Register { return w.view.Now() }

// look brings the copy up to date.
func (w *world) look() {
	w.t.Helper()
	w.view = view.New(view.Options{Source: w.mirror, Now: w.clock, Poll: time.Hour})
	ctx, cancel := context.WithCancel(w.t.Context())
	changed, done := w.view.Changed(), make(chan struct{})
	go func() { defer close(done); _ = w.view.Run(ctx) }()
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		_, err := w.view.State()
		w.t.Error("the register is not read: ", err)
	}
	cancel()
	<-done
}

// round is one round, and what is owed is handed over.
func (w *world) round() {
	w.t.Helper()
	w.look()
	w.k.round(w.t.Context())
	w.k.handOver(w.t.Context())
}

// day is a date so many days from now.
func (w *world) day(n int) string { return w.now.AddDate(0, 0, n).Format(time.DateOnly) }

func (w *world) run(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	at := w.now.Format(time.RFC3339)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=P", "GIT_AUTHOR_EMAIL=p@umich.edu",
		"GIT_COMMITTER_NAME=P", "GIT_COMMITTER_EMAIL=p@umich.edu", "GIT_AUTHOR_DATE="+at, "GIT_COMMITTER_DATE="+at)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit puts files onto main.
func (w *world) commit(files map[string]string) string {
	w.t.Helper()
	if w.git != nil {
		w.run(w.work, "pull", "-q", "origin", "main")
	}
	for path, text := range files {
		at := filepath.Join(w.work, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.run(w.work, "add", "-A")
	w.run(w.work, "commit", "-q", "-m", "Merged")
	w.run(w.work, "push", "-q", "origin", "main")
	return w.run(w.work, "rev-parse", "HEAD")
}

// propose opens a request that adds a file.
func (w *world) propose(path, text string) forge.Request {
	w.t.Helper()
	r, err := w.git.Open(w.t.Context(), forge.Proposal{
		Base: "main", Name: "x", Title: "Register it", Author: forge.Person{Name: "Ann", Email: "ann@umich.edu"}, At: w.now,
		Changes: []forge.Change{{Path: path, Data: []byte(text)}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// comment is the one comment of a request, "" if there is none.
func (w *world) comment(number int) string {
	w.t.Helper()
	for _, m := range w.remarks(number) {
		if m.Mark == "register" {
			return m.Body
		}
	}
	return ""
}

func (w *world) remarks(number int) []forge.Remark {
	w.t.Helper()
	list, err := w.git.Remarks(w.t.Context(), number)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) contains(what, text string, wants ...string) {
	w.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			w.t.Errorf("%s has no %q:\n%s", what, want, text)
		}
	}
}

// must is that there is no error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// get is what the book has.
func (w *world) get(number int) book.Request {
	w.t.Helper()
	r, ok := w.book.Get(number)
	if !ok {
		w.t.Fatalf("the book has no request %d", number)
	}
	return r
}

// relays are made up.
type relays struct {
	mu      sync.Mutex
	list    []fleet.Relay
	address map[netip.Addr]status.Address
	last    map[netip.Addr]time.Time
	silent  bool // one of them does not say
	asked   int
	watch   chan struct{}
}

func (r *relays) Relays() []fleet.Relay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *relays) Address(_ context.Context, ip netip.Addr) []fleet.Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if a, ok := r.address[ip]; ok {
		return []fleet.Answer{{Relay: "relay1", Address: &a}, {Relay: "relay2", Error: "down"}}
	}
	return nil
}

func (r *relays) Watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watch
}

func (r *relays) LastMail(context.Context) (map[netip.Addr]time.Time, bool, error) {
	return r.last, !r.silent, nil
}

// add makes a relay that has a commit.
func (r *relays) add(name, commit string) *status.Report {
	report := &status.Report{Register: status.Register{Commit: commit, Condition: status.Following}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fleet.Relay{Name: name, Report: report})
	return report
}

// A post is a relay that takes mail.
type post struct {
	mu    sync.Mutex
	sent  []string // "key|to|subject|body"
	fails error
	tries int
}

func (p *post) Send(_ context.Context, key, to, subject, body string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.fails != nil {
		return p.fails
	}
	p.sent = append(p.sent, fmt.Sprintf("%s|%s|%s|%s", key, to, subject, body))
	return nil
}
