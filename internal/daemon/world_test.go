package daemon_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/status"
)

// TestMain lets the test binary be the daemon, so that it can be killed.
func TestMain(m *testing.M) {
	config := os.Getenv("GATEPOST_TEST_DAEMON")
	if config == "" {
		flag.Parse()
		parallel := false
		flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
		if !parallel { // these tests spend their time waiting for polls of other processes
			flag.Set("test.parallel", "8")
		}
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // as gatepostd does
	log, lines := daemon.NewLog(os.Stderr)
	endProfile := profile(os.Getenv("GATEPOST_TEST_PROFILE"))
	reserve, _ := strconv.ParseInt(os.Getenv("GATEPOST_TEST_RESERVE"), 10, 64) // without it: the default
	sockets, err := daemon.Passed(os.Getenv)
	if err == nil {
		err = daemon.Run(ctx, daemon.Options{ConfigFile: config, Logger: log, Reserve: reserve, Sockets: sockets, Notify: daemon.Notifier(os.Getenv), Wait: os.Getenv("GATEPOST_TEST_WAIT") != "", Step: killAt(os.Getenv("GATEPOST_TEST_KILL"))})
	}
	lines.Flush()
	endProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// needs skips the test by name when a program is missing; in CI, where
// .ci/run installs them all, it fails instead.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("GATEPOST_NO_SKIP") != "" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

// A world is a university in a temporary folder: a register behind
// git http-backend, a relay daemon in a process of its own, and a next hop.
type world struct {
	t          *testing.T
	dir        string
	checkout   string // where a department works
	remote     string // the bare repository behind git http-backend
	gitAddr    string // host:port of the repository's host
	repository string // its path there
	gitToken   atomic.Pointer[string]
	hub        *forgetest.Hub // nil: none; else it answers below /api/v3, and its tokens are wanted
	stopGit    func()
	hop        *hop
	relay      string // host:port, port-25 behaviour
	submission string // host:port, port-587 behaviour
	status     string // host:port
	socket     string
	state      string
	config     string
	direct     bool       // no smarthost: mail goes to each domain's MX
	quiet      bool       // another relay confirms
	poll       string     // how often the register is looked at
	register   string     // more of the register's configuration, CUE
	extra      string     // more configuration, CUE
	reserve    uint64     // octets that stay free on the state's disk; 0: the default
	env        []string   // more of the daemon's environment
	passed     []*os.File // sockets that are passed to the daemon
	binary     string     // the daemon; "": this test program
	output     *os.File   // where the daemon's log goes; nil: to log
	proc       *exec.Cmd
	log        *lockedBuffer
}

// newWorld makes the register and starts its host and the next hop; the relay
// is started by start.
func newWorld(t *testing.T) *world {
	t.Helper()
	needs(t, "git")
	w := &world{t: t, dir: t.TempDir(), hop: newHop(t), log: &lockedBuffer{}, repository: "/register.git", poll: "1s"}
	w.checkout = filepath.Join(w.dir, "checkout")
	w.remote = filepath.Join(w.dir, "git", "register.git")
	w.socket, w.state, w.config = filepath.Join(w.dir, "relay.sock"), filepath.Join(w.dir, "state"), filepath.Join(w.dir, "relay.cue")
	w.relay, w.submission, w.status, w.gitAddr = freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)

	w.write("registrations/campus/campus.cue", `
campus: ["127.0.0.0/16"]
networks: "127.0.0.0/16": {department: "lab", use: "static"}
departments: lab: {name: "Laboratory", speakers: [{github: "octocat", id: 583231}], contactDomains: ["lab.example"]}
`)
	w.registered("printer", "127.0.0.1")
	w.git(w.dir, "init", "-q", "--bare", "-b", "main", w.remote)
	w.git(w.remote, "config", "http.receivepack", "true")
	w.git(w.checkout, "init", "-q", "-b", "main")
	w.git(w.checkout, "config", "user.name", "Postmaster")
	w.git(w.checkout, "config", "user.email", "postmaster@lab.example")
	w.git(w.checkout, "config", "commit.gpgSign", "false")
	w.hostGit()
	t.Cleanup(func() { w.stopGit() })
	w.git(w.checkout, "remote", "add", "origin", w.remote)
	w.commit("A register with one printer")
	w.push()
	w.certificate()
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", w.log.tail(60))
		}
	})
	return w
}

// hostGit serves the repository by smart HTTP with git's own http-backend.
func (w *world) hostGit() {
	w.t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", w.gitAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path:   path,
		Root:   "/lab", // may stand before the repository
		Args:   []string{"http-backend"},
		Stderr: io.Discard, // it complains when the world ends under it
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Join(w.dir, "git"), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=postmaster"},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if w.hub != nil {
			if strings.HasPrefix(req.URL.Path, "/api/v3/") {
				w.hub.ServeHTTP(rw, req)
				return
			}
			if user, token, _ := req.BasicAuth(); user != "x-access-token" || w.hub.May(token)["contents"] == "" {
				http.Error(rw, "token "+token+" is none", http.StatusForbidden)
				return
			}
		}
		if token := w.gitToken.Load(); token != nil {
			if _, password, _ := req.BasicAuth(); password != *token {
				rw.Header().Set("WWW-Authenticate", "Basic")
				http.Error(rw, "who are you?", http.StatusUnauthorized)
				return
			}
		}
		backend.ServeHTTP(rw, req)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	w.stopGit = func() { server.Close(); serving.Wait() }
}

// push brings the checkout's main branch to the repository.
func (w *world) push(more ...string) {
	w.t.Helper()
	w.git(w.checkout, append([]string{"push", "-q", "origin", "main"}, more...)...)
}

// write puts a file into the checkout.
func (w *world) write(name, text string) {
	w.t.Helper()
	name = filepath.Join(w.checkout, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// registered writes a registration of one address for a year.
func (w *world) registered(name, ip string) {
	w.t.Helper()
	w.registeredUntil(name, ip, time.Now().AddDate(1, 0, 0))
}

func (w *world) registeredUntil(name, ip string, expires time.Time) {
	w.t.Helper()
	w.write("registrations/lab/"+name+".cue", fmt.Sprintf(`
department: "lab"
contact: {name: "Lab IT", email: "it@lab.example"}
purpose:   "Scan to mail."
whyNoAuth: "No SMTP AUTH in the firmware."
hosts: [{ip: %q, name: "%s.lab.example", kind: "printer"}]
volume: {perHour: 100000, perDay: 1000000}
expires: %q
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, ip, name, expires.Format(time.DateOnly)))
}

// git runs the git command line.
func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits everything in the checkout.
func (w *world) commit(subject string) string {
	w.t.Helper()
	w.git(w.checkout, "add", "-A")
	w.git(w.checkout, "commit", "-q", "-m", subject)
	return w.git(w.checkout, "rev-parse", "HEAD")
}

// merge brings a change in as a forge does: a branch, a merge, a push.
func (w *world) merge(branch string, number int, change func()) string {
	w.t.Helper()
	w.git(w.checkout, "switch", "-q", "-c", branch)
	change()
	w.commit("Change of " + branch)
	w.git(w.checkout, "switch", "-q", "main")
	w.git(w.checkout, "merge", "-q", "--no-ff", "-m", fmt.Sprintf("Merge pull request #%d from lab/%s", number, branch), branch)
	w.push()
	return w.git(w.checkout, "rev-parse", "HEAD")
}

// certificate makes a self-signed certificate for the relay.
func (w *world) certificate() {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "relay.lab.example"},
		DNSNames:     []string{"relay.lab.example", "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 2, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// configure writes the relay's configuration.
func (w *world) configure() {
	w.t.Helper()
	hops := strconv.Quote(w.hop.addr)
	if w.direct {
		hops = ""
	}
	text := fmt.Sprintf(`
hostname:   "relay.lab.example"
postmaster: "postmaster@lab.example"
portal:     "https://relay.lab.example"
listen: {relay: [%q], submission: [%q], http: %q, socket: %q}
tls: {certificate: %q, key: %q}
register: {repository: %q, branch: "main", poll: %q%s}
state: %q
deliver: smarthosts: [%s]
confirm: %v
%s
`, w.relay, w.submission, w.status, w.socket,
		filepath.Join(w.dir, "cert.pem"), filepath.Join(w.dir, "key.pem"),
		"http://"+w.gitAddr+w.repository, w.poll, w.register, w.state, hops, !w.quiet, w.extra)
	if err := os.WriteFile(w.config, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// start runs the daemon in a process of its own and waits until it is ready.
func (w *world) start() {
	w.t.Helper()
	w.configure()
	w.launch()
	w.waitReady()
}

func (w *world) launch() {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.proc = exec.Command(self)
	if w.binary != "" {
		w.proc = exec.Command(w.binary, "--config", w.config)
	}
	if len(w.passed) > 0 { // as a service manager does, which knows the process before it runs
		w.proc = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, self)
	}
	w.proc.ExtraFiles = w.passed
	w.proc.Env = append(os.Environ(), "GATEPOST_TEST_DAEMON="+w.config, fmt.Sprintf("GATEPOST_TEST_RESERVE=%d", w.reserve), fmt.Sprintf("LISTEN_FDS=%d", len(w.passed)))
	w.proc.Env = append(w.proc.Env, w.env...)
	w.proc.Stderr, w.proc.Stdout = w.log, w.log
	if w.output != nil {
		w.proc.Stderr, w.proc.Stdout = w.output, w.output
	}
	if err := w.proc.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// waitReady waits until the relay says that it takes mail.
func (w *world) waitReady() {
	w.t.Helper()
	w.eventually("the relay is ready", func() bool {
		code, _ := w.page("/readyz")
		return code == http.StatusOK
	})
}

// page reads a page of the relay's status server; code 0: nobody answers.
func (w *world) page(path string) (code int, text string) {
	w.t.Helper()
	resp, err := http.Get("http://" + w.status + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// report is what the relay says of itself.
func (w *world) report() (r status.Report) {
	w.t.Helper()
	code, text := w.page("/status")
	if code != http.StatusOK {
		w.t.Fatalf("/status answered %d: %s", code, text)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// waitReport waits until the relay says of itself what is true by cond.
func (w *world) waitReport(what string, cond func(status.Report) bool) {
	w.t.Helper()
	w.eventually(what, func() bool { return cond(w.report()) })
}

// waitCommit waits until the relay has taken over what the checkout's main
// branch is at.
func (w *world) waitCommit() {
	w.t.Helper()
	head := w.git(w.checkout, "rev-parse", "main")
	w.waitReport("the relay is at "+head, func(r status.Report) bool { return r.Register.Commit == head })
}

// gatepost runs the operators' command line against the relay's socket.
func (w *world) gatepost(args ...string) (code int, out string) {
	w.t.Helper()
	return w.command(append(args, "--socket", w.socket)...)
}

// kill ends the daemon as a power cut would end the process.
func (w *world) kill() {
	w.t.Helper()
	if err := w.proc.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	w.proc.Wait()
	w.proc = nil
}

// stop ends the daemon politely; it must end by itself and without an error.
func (w *world) stop() {
	if w.proc == nil {
		return
	}
	w.term()
	w.waitEnd()
}

// term asks the daemon to end.
func (w *world) term() {
	if err := w.proc.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Errorf("the daemon has ended before it was asked to: %v", err)
	}
}

// waitEnd waits for the daemon's end, which must be in order.
func (w *world) waitEnd() {
	w.t.Helper()
	if err := w.ended(); err != nil {
		w.t.Errorf("the daemon ended with %v", err)
	}
}

// on has the world's failures reported to a subtest until the function that it
// returns is called.
func (w *world) on(t *testing.T) func() {
	before := w.t
	w.t = t
	return func() { w.t = before }
}

// eventually polls a condition of another process, which sends no signal.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("not within 30 s: %s", what)
		}
	}
}
