package portal

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/status"
)

const campusCUE = `campus: ["192.0.2.0/24", "198.51.100.0/24"]
networks: {
	"192.0.2.0/25": {department: "lab", use: "static"}
	"192.0.2.128/25": {department: "library", use: "static"}
	"198.51.100.0/24": {department: "lab", use: "wireless"}
}
departments: {
	lab: {name: "The <Laboratory>", speakers: [{github: "dana", id: 7}], contactDomains: ["physics.example.edu"]}
	library: {name: "Library", speakers: [{github: "robin", id: 8}], contactDomains: ["example.edu"]}
}
`

// registrationCUE is a file of the register.
func registrationCUE(department, contact, expires string, ips ...string) string {
	hosts := ""
	for i, ip := range ips {
		hosts += fmt.Sprintf("\t{ip: %q, name: \"m%d.example.edu\", kind: \"printer\"},\n", ip, i)
	}
	return fmt.Sprintf(`department: %q
contact: {name: "IT <b>desk</b>", email: %q}
purpose: "Scans to mail, <script>alert(1)</script>."
whyNoAuth: "It has no way to sign in."
hosts: [
%s]
volume: {perHour: 10, perDay: 100}
expires: %q
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, department, contact, hosts, expires)
}

// A world is a portal over a real repository, without relays but those that a
// test makes up.
type world struct {
	*testing.T
	*server
	git        *forge.Git
	repository string // a bare one
	view       *view.View
	seen       *madeUp
}

// madeUp are relays as a test wants them.
type madeUp struct {
	addresses map[string]status.Address
	last      map[netip.Addr]time.Time
	live      []liveness
	fail      error
}

func (m *madeUp) Address(_ context.Context, ip netip.Addr) []sighting {
	if m.fail != nil {
		return []sighting{{Relay: "r1", Err: m.fail}}
	}
	return []sighting{{Relay: "r1", Address: m.addresses[ip.String()]}}
}
func (m *madeUp) LastMail(context.Context) (map[netip.Addr]time.Time, bool) {
	return m.last, m.last != nil
}
func (m *madeUp) Seen(_ context.Context, ips []netip.Addr) (proved, told map[netip.Addr]time.Time) {
	proved, told = map[netip.Addr]time.Time{}, map[netip.Addr]time.Time{}
	for _, ip := range ips {
		a := m.addresses[ip.String()]
		if len(a.Proofs) > 0 {
			proved[ip] = a.Proofs[0].At
		}
		if a.Confirmation != nil {
			told[ip] = a.Confirmation.SentAt
		}
	}
	return proved, told
}
func (m *madeUp) Live(context.Context, string, []string) []liveness { return m.live }

func newWorld(t *testing.T, who *session.Person) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "register")
	nextYear := time.Now().AddDate(1, 0, 0).Format(time.DateOnly)
	files := map[string]string{
		"registrations/campus/campus.cue":    campusCUE,
		"registrations/lab/printers.cue":     registrationCUE("lab", "it@physics.example.edu", nextYear, "192.0.2.1", "192.0.2.2"),
		"registrations/lab/old.cue":          registrationCUE("lab", "it@physics.example.edu", time.Now().AddDate(0, 0, -3).Format(time.DateOnly), "192.0.2.3"),
		"registrations/library/scanners.cue": registrationCUE("library", "it@example.edu", nextYear, "192.0.2.200"),
		"registrations/blocks/b1.cue":        fmt.Sprintf("block: {ip: \"192.0.2.2\", reason: \"sent <i>spam</i>\", since: %q}\n", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)),
	}
	var changes []forge.Change
	for path, text := range files {
		at := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		changes = append(changes, forge.Change{Path: path, Data: []byte(text)})
	}
	if _, err := forge.CreateGit(t.Context(), dir, forge.First{Branch: "main", Title: "The register", Author: forge.Person{Name: "P", Email: "p@example.edu"}, At: time.Now(), Changes: changes}); err != nil {
		t.Fatal(err)
	}
	// Nobody works in it, so the portal may merge.
	bare := filepath.Join(t.TempDir(), "register.git")
	if err := os.Rename(filepath.Join(dir, ".git"), bare); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(bare, "config"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bare, "config"), []byte(strings.Replace(string(config), "bare = false", "bare = true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, repository: bare, server: testServer(t, who), seen: &madeUp{}}
	if w.git, err = forge.OpenGit(bare); err != nil {
		t.Fatal(err)
	}
	mirror, err := gitsync.Open(t.Context(), gitsync.Options{Repository: bare})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mirror.Close)
	w.view = view.New(view.Options{Source: mirror, Poll: time.Hour, Now: time.Now})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.view.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w.server.register, w.forge, w.base, w.relays, w.wake = w.view.Now, w.git, "main", w.seen, w.view.Wake
	w.dossiers = newDossiers(w.git, time.Now)
	if w.book, err = book.Open(book.Options{Dir: filepath.Join(t.TempDir(), "book"), Logger: w.log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	key, err := proof.NewKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	w.prover = &prover{Key: key, Hostname: "relay.example.edu", Server: "relay.example.edu", Port: 25}
	w.eventually("the register is read", func() bool { return w.view.Now() != nil })
	return w
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("not within 20 s: %s", what)
		}
	}
}

// as is the same portal as another visitor sees it.
func (w *world) as(who *session.Person) { w.sessions = fixed{who} }

// shows asks for a page and holds it to what it must show, and must not.
func (w *world) shows(code int, path string, want ...string) string {
	w.Helper()
	got, body := get(w.T, w.server, path)
	w.holds(got, code, path, body, want)
	return body
}

// sends posts a form; it returns where it leads.
func (w *world) sends(code int, path string, form url.Values, want ...string) (location string) {
	w.Helper()
	req := httptest.NewRequestWithContext(w.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := req.ParseForm(); err != nil { // as the guard of forms has done by then
		w.Fatal(err)
	}
	rec := httptest.NewRecorder()
	w.handler().ServeHTTP(rec, req)
	body, err := io.ReadAll(rec.Result().Body)
	if err != nil {
		w.Fatal(err)
	}
	w.holds(rec.Code, code, path, string(body), want)
	return rec.Header().Get("Location")
}

func (w *world) holds(got, code int, path, body string, want []string) {
	w.Helper()
	if got != code {
		w.Errorf("%s is %d, not %d:\n%s", path, got, code, body)
	}
	for _, text := range want {
		if not, ok := strings.CutPrefix(text, "!"); ok && strings.Contains(body, not) {
			w.Errorf("%s shows %q:\n%s", path, not, body)
		} else if !ok && !strings.Contains(body, text) {
			w.Errorf("%s lacks %q:\n%s", path, text, body)
		}
	}
	for _, raw := range []string{"<script>alert", "<b>desk", "<i>spam", "<Laboratory>", "ZgotmplZ", "<no value>"} {
		if strings.Contains(body, raw) {
			w.Errorf("%s has %q in it as it was written:\n%s", path, raw, body)
		}
	}
}

// opens makes a request.
func (w *world) opens(path, text string) forge.Request {
	w.Helper()
	r, err := w.git.Open(w.Context(), forge.Proposal{Base: "main", Name: path, Title: "Register " + path, Author: forge.Person{Name: "Dana Ito", Email: "dana@physics.example.edu"}, At: time.Now(), Changes: []forge.Change{{Path: path, Data: []byte(text)}}})
	if err != nil {
		w.Fatal(err)
	}
	w.dossiers.forget() // as the forge's webhook does
	return r
}
