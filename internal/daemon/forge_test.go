package daemon_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/status"
)

// appKey makes a key for an App in a file of the world.
func (w *world) appKey(name string) *rsa.PrivateKey {
	w.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file(name, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	return key
}

// TestReadsAsAnApp reads a repository that wants the token of an App, through
// the loss of the token, of the right to one, and of the key.
func TestReadsAsAnApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := forgetest.New("lab/register", time.Now)
	w.hub, w.repository = hub, "/lab/register.git"
	key := w.appKey("app.pem")
	hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	w.register = fmt.Sprintf(", app: {id: 7, installation: 77, keyFile: %q}", filepath.Join(w.dir, "app.pem"))
	w.start()
	tokens := func() (n int) {
		for _, call := range hub.Calls() {
			if strings.HasSuffix(call, "/app/installations/77/access_tokens") {
				n++
			}
		}
		return n
	}

	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.waitCommit()
	if n := tokens(); n != 1 {
		t.Errorf("%d tokens for the first rounds", n)
	}

	hub.EndTokens()
	w.registered("plotter", "127.0.0.3")
	w.commit("A plotter")
	w.push()
	w.waitCommit()
	if n := tokens(); n != 2 {
		t.Errorf("%d tokens after the first was ended", n)
	}

	// The key is exchanged at the forge first, then here.
	next, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hub.AddApp(7, 77, "gatepost", &next.PublicKey)
	hub.EndTokens()
	w.waitReport("the old key is refused", func(r status.Report) bool { return strings.Contains(r.Register.Error, "signing in as an App") })
	w.accepted("127.0.0.3", "without a token")
	w.file("app.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(next)})))
	w.waitReport("the new key does", func(r status.Report) bool { return r.Register.Error == "" })

	hub.Fail(forgetest.Failure{Method: "POST", Path: "/access_tokens", Status: 403, Times: -1,
		Header: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(time.Now().Add(time.Hour).Unix())}})
	hub.EndTokens()
	w.waitReport("the limit is told", func(r status.Report) bool { return strings.Contains(r.Register.Error, "rate limit is used up") })

	log := w.log.tail(10_000)
	for _, secret := range []string{"ghs_", "eyJ", "PRIVATE KEY"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a secret (%s)", secret)
		}
	}
}

// TestCheckLooksAtSecrets: what is wrong with a key or a token is told before
// the start, and who else could read it.
func TestCheckLooksAtSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repository = "/lab/register.git"
	w.register = fmt.Sprintf(", app: {id: 7, installation: 77, keyFile: %q}", filepath.Join(w.dir, "app.pem"))
	w.configure()
	check := func(code int, says ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := daemon.Check(w.config, &out, &errs); got != code {
			t.Errorf("exit %d, not %d: %s", got, code, &errs)
		}
		for _, want := range says {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, &errs)
			}
		}
		if strings.Contains(errs.String()+out.String(), "s3cret") {
			t.Errorf("it tells a secret:\n%s%s", &out, &errs)
		}
	}
	check(1, "reading the App's key", "no such file")
	w.file("app.pem", "s3cret")
	check(1, "app.pem: forge: the App's key: it is no PEM file", "hint: ")
	w.appKey("app.pem")
	check(0)
	for mode, says := range map[os.FileMode]string{0o644: "may read it", 0o620: "its group may write it", 0o602: "may write it"} {
		if err := os.Chmod(filepath.Join(w.dir, "app.pem"), mode); err != nil {
			t.Fatal(err)
		}
		check(0, "register.app.keyFile: ", says, "hint: chmod 0640 ")
	}
}
