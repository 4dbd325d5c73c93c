package daemon_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/status"
)

// signer makes a key for SSH signatures and returns its public part.
func (w *world) signer(name string) string {
	w.t.Helper()
	needs(w.t, "ssh-keygen")
	file := filepath.Join(w.dir, name)
	if out, err := exec.Command("ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", name, "-f", file).CombinedOutput(); err != nil {
		w.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(public)
}

// sign signs the newest commit of the checkout.
func (w *world) sign(name string) string {
	w.t.Helper()
	w.git(w.checkout, "-c", "gpg.format=ssh", "-c", "user.signingkey="+filepath.Join(w.dir, name), "commit", "-q", "--amend", "--no-edit", "-S")
	return w.git(w.checkout, "rev-parse", "HEAD")
}

// withheld is the files that the relay tells of as withheld.
func withheld(r status.Report) string {
	var names []string
	for _, w := range r.Register.Withheld {
		names = append(names, filepath.Base(w.File))
	}
	return strings.Join(names, " ")
}

// TestSignedCommitsOnly: what nobody signed waits, file by file, through a
// restart and a change of the keys, and an operator's word lets it in.
func TestSignedCommitsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := filepath.Join(w.dir, "allowed_signers")
	w.file("allowed_signers", "# the postmasters\npm@lab.example "+w.signer("pm"))
	w.register = fmt.Sprintf(", verify: keys: [%q]", keys)
	w.configure()
	var stdout, stderr bytes.Buffer
	if code := daemon.Check(w.config, &stdout, &stderr); code != 0 || !regexp.MustCompile(`(?m)^a new commit counts if +it is signed with the one key listed$`).Match(stdout.Bytes()) {
		t.Errorf("--check: %d\n%s%s", code, stdout.String(), stderr.String())
	}
	w.start()
	w.accepted("127.0.0.1", "the first commit is taken as it is")

	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.sign("pm")
	w.registered("plotter", "127.0.0.3")
	evil := w.commit("A plotter, by who knows whom")
	w.registered("fax", "127.0.0.4")
	w.commit("A fax")
	w.sign("pm")
	w.push()
	w.waitCommit()
	w.accepted("127.0.0.2", "signed")
	w.accepted("127.0.0.4", "signed, and later")
	w.refused("127.0.0.3", "550 5.7.1 ")
	if got := withheld(w.report()); got != "plotter.cue" {
		t.Errorf("withheld: %s", got)
	}
	if _, out := w.gatepost("status"); !strings.Contains(out, "1 file has not been taken over") || !strings.Contains(out, "it is not signed") || !strings.Contains(out, "gatepost accept "+evil) {
		t.Errorf("gatepost status:\n%s", out)
	}
	w.stop()
	w.start()
	w.refused("127.0.0.3", "550 5.7.1 ")
	if code, out := w.gatepost("accept", evil, "--reason", "it was me, without the key"); code != 0 {
		t.Fatalf("gatepost accept: %s", out)
	}
	w.accepted("127.0.0.3", "by an operator's word")
	w.arrives("by an operator's word")
	if got := w.report(); withheld(got) != "" || len(got.Findings) > 0 {
		t.Errorf("still: %+v", got.Findings)
	}

	// Another postmaster's key is listed while the relay runs.
	second := w.signer("second")
	w.registered("camera", "127.0.0.5")
	w.commit("A camera")
	w.sign("second")
	w.push()
	w.waitCommit()
	w.waitReport("the camera is withheld", func(r status.Report) bool { return withheld(r) == "camera.cue" })
	w.file("allowed_signers", "second@lab.example "+second)
	w.waitReport("the camera is not withheld", func(r status.Report) bool { return withheld(r) == "" })
	w.accepted("127.0.0.5", "by another key")

	w.file("allowed_signers", "second@lab.example ssh-ed25519 nonsense\n")
	w.waitReport("the keys are told of", func(r status.Report) bool { return len(r.Register.Keys) == 1 })
	if _, out := w.gatepost("status"); !strings.Contains(out, "not all keys of postmasters count: "+keys+": line 1: ") {
		t.Errorf("gatepost status:\n%s", out)
	}
	if !strings.Contains(w.log.tail(1000), "event=register.keys_faulty") {
		t.Error("the log says nothing of the keys")
	}
	stdout.Reset()
	if code := daemon.Check(w.config, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "allowed_signers: line 1: ") || !strings.Contains(stderr.String(), "no key that a commit could be signed with") {
		t.Errorf("--check of broken keys: %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

// TestCheckMissesTheRepository: a path that is none is told before the start.
func TestCheckMissesTheRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure()
	var stdout, stderr bytes.Buffer
	if code := daemon.Check(w.config, &stdout, &stderr); code != 0 {
		t.Errorf("--check: %d\n%s", code, stderr.String())
	}
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := regexp.MustCompile(`repository: "[^"]*`).ReplaceAll(text, []byte(`repository: "`+filepath.Join(w.dir, "nowhere.git")))
	if err := os.WriteFile(w.config, elsewhere, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := daemon.Check(w.config, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "register.repository: ") || !strings.Contains(stderr.String(), "nowhere.git") {
		t.Errorf("--check: %d\n%s", code, stderr.String())
	}
}

// TestApprovedRequestsOnly: as an App, with a token for the reviews that can do
// no more than read them.
func TestApprovedRequestsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := forgetest.New("lab/register", time.Now)
	w.hub, w.repository = hub, "/lab/register.git"
	key := w.appKey("app.pem")
	hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	postmaster, dept := hub.AddUser(2, "postmaster", ""), hub.AddUser(3, "dept", "")
	hub.AddTeam(42, "postmasters", postmaster)
	w.register = fmt.Sprintf(`, app: {id: 7, installation: 77, keyFile: %q}, verify: github: postmasters: "postmasters"`, filepath.Join(w.dir, "app.pem"))
	w.configure()
	var stdout, stderr bytes.Buffer
	if code := daemon.Check(w.config, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "approved by somebody of team postmasters") {
		t.Errorf("--check: %d\n%s%s", code, stdout.String(), stderr.String())
	}
	w.start()
	show := func(branch string) {
		t.Helper()
		if err := hub.Import(w.checkout, branch); err != nil {
			t.Fatal(err)
		}
	}
	// request merges a request that registers an address.
	request := func(name, ip string, approved bool) string {
		t.Helper()
		base := w.git(w.checkout, "rev-parse", "main")
		w.git(w.checkout, "switch", "-q", "-c", name)
		w.registered(name, ip)
		w.commit("Change of " + name)
		show(name)
		n := hub.OpenPull(dept, name, name)
		if approved {
			hub.Review(n, postmaster, "APPROVED")
		}
		w.git(w.checkout, "switch", "-q", "main")
		w.git(w.checkout, "merge", "-q", "--no-ff", "-m", fmt.Sprintf("Merge pull request #%d from lab/%s", n, name), name)
		show("main")
		merge := w.git(w.checkout, "rev-parse", "HEAD")
		hub.MergedWith(n, merge, base)
		return merge
	}
	request("scanner", "127.0.0.2", true)
	evil := request("plotter", "127.0.0.3", false)
	request("fax", "127.0.0.4", true)
	w.push()
	w.waitCommit()
	w.accepted("127.0.0.2", "approved")
	w.accepted("127.0.0.4", "approved, and later")
	w.refused("127.0.0.3", "550 5.7.1 ")
	r := w.report()
	if withheld(r) != "plotter.cue" || r.Register.Withheld[0].Commit != evil || !strings.Contains(r.Register.Withheld[0].Why, "pull request 2: nobody approves") {
		t.Errorf("withheld: %+v", r.Register.Withheld)
	}

	// The forge's API is gone, and git is not: what is new waits, and says so.
	hub.Fail(forgetest.Failure{Method: "GET", Path: "/", Status: 502, Times: -1})
	request("camera", "127.0.0.5", true)
	w.push()
	w.waitCommit()
	w.waitReport("the camera is withheld", func(r status.Report) bool { return withheld(r) == "camera.cue plotter.cue" })
	w.refused("127.0.0.5", "550 5.7.1 ")
	w.stop()
	w.start()
	w.accepted("127.0.0.2", "verified before the outage")
	if r := w.report(); withheld(r) != "camera.cue plotter.cue" {
		t.Errorf("after a restart: %s", withheld(r))
	}
	log := w.log.tail(10_000)
	for _, secret := range []string{"ghs_", "eyJ", "PRIVATE KEY"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a secret (%s)", secret)
		}
	}
}
