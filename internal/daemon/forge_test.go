package daemon_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

const hookSecret = "0123456789abcdef0123456789abcdef"

// webhook has the relay take deliveries, and returns where.
func (w *world) webhook() string {
	addr := freeAddr(w.t)
	w.register = fmt.Sprintf(", webhook: {listen: %q, secretFile: %q}", addr, filepath.Join(w.dir, "hook"))
	w.configure()
	return addr
}

// deliver delivers what a forge's webhook would, signed with a secret; "" is
// without a signature. It returns the status of the answer.
func (w *world) deliver(addr, event, body, secret string) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+addr+"/webhook", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", event)
	req.Header.Set("X-GitHub-Delivery", fmt.Sprint("delivery-", time.Now().UnixNano()))
	if secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// pushed is the body of a delivery on a push.
func pushed(branch, commit string) string {
	return fmt.Sprintf(`{"ref": "refs/heads/%s", "after": %q}`, branch, commit)
}

// TestWebhookWakesThePoll: with a poll of a day, a merge is in force a moment
// after its delivery, if that is signed, and not before.
func TestWebhookWakesThePoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.poll = "24h"
	w.file("hook", hookSecret+"\n")
	addr := w.webhook()
	w.launch()
	w.waitReady()
	before := w.report().Register.Commit

	w.registered("scanner", "127.0.0.2")
	head := w.commit("A scanner")
	w.push()
	for _, c := range []struct {
		event, body, secret string
		code                int
	}{
		{"push", pushed("main", head), "", 403},
		{"push", pushed("main", head), hookSecret + "!", 403},
		{"push", pushed("other", head), hookSecret, 202},
		{"ping", `{"zen": "Mind your words."}`, hookSecret, 200},
		{"pull_request", `{"action": "closed"}`, hookSecret, 202},
	} {
		if code := w.deliver(addr, c.event, c.body, c.secret); code != c.code {
			t.Errorf("%s %s: %d", c.event, c.body, code)
		}
	}
	<-time.After(time.Second) // a round takes a tenth of that
	if now := w.report().Register; now.Commit != before || now.Newest != before {
		t.Fatalf("the relay has looked at the branch: %+v", now)
	}
	began := time.Now()
	if code := w.deliver(addr, "push", pushed("main", head), hookSecret); code != 202 {
		t.Errorf("the delivery: %d", code)
	}
	w.waitCommit()
	t.Logf("in force %v after the delivery", time.Since(began))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	w.accepted("127.0.0.2", "in force")
	if code := w.deliver(addr, "push", pushed("main", head), hookSecret); code != 202 {
		t.Errorf("the delivery once more: %d", code)
	}
	_, metrics := w.page("/metrics")
	for _, want := range []string{`{result="woke"} 1`, `{result="repeated"} 1`, `{result="unsigned"} 1`, `{result="mismatched"} 1`, `{result="ping"} 1`, `{result="ignored"} 2`} {
		if !strings.Contains(metrics, "gatepost_webhook_deliveries_total"+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(w.log.tail(10_000), hookSecret) || strings.Contains(w.log.tail(10_000), "Mind your words") {
		t.Error("the log says too much")
	}
}

// TestWebhooksSecretIsReplaced: a new one counts at once, and one that cannot
// be used is told and changes nothing.
func TestWebhooksSecretIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.file("hook", hookSecret)
	addr := w.webhook()
	w.launch()
	w.waitReady()
	next := strings.Repeat("another ", 4)
	w.file("hook", next+"\n")
	w.eventually("the new secret counts", func() bool {
		return w.deliver(addr, "ping", fmt.Sprintf(`{"n": %d}`, time.Now().UnixNano()), strings.TrimSpace(next)) == 200
	})
	if code := w.deliver(addr, "ping", "{}", hookSecret); code != 403 {
		t.Errorf("signed by the secret before: %d", code)
	}
	finding := func(part string) func(status.Report) bool {
		return func(r status.Report) bool {
			return slices.ContainsFunc(r.Findings, func(f status.Finding) bool { return strings.Contains(f.What, part) })
		}
	}
	w.waitReport("the refusal is told", finding("1 delivery of the webhook was refused for a wrong signature"))
	w.file("hook", " \n")
	w.waitReport("the empty secret is told", finding("new secret cannot be used"))
	if code := w.deliver(addr, "ping", `{"n": 2}`, strings.TrimSpace(next)); code != 200 {
		t.Errorf("signed by the last good secret: %d", code)
	}
	if code := w.deliver(addr, "ping", `{"n": 3}`, ""); code != 403 {
		t.Errorf("without a signature: %d", code)
	}
	w.file("hook", hookSecret)
	w.eventually("the first secret counts again", func() bool {
		return w.deliver(addr, "ping", fmt.Sprintf(`{"n": %d}`, time.Now().UnixNano()), hookSecret) == 200
	})
	w.waitReport("all is well", func(r status.Report) bool { return len(r.Findings) == 0 })
	if code, out := w.gatepost("status"); code != 0 || !strings.Contains(out, "webhook   3 deliveries since the start") {
		t.Errorf("gatepost status (exit %d):\n%s", code, out)
	}
	if log := w.log.tail(10_000); strings.Contains(log, "another another") || strings.Contains(log, hookSecret) {
		t.Error("the log holds a secret")
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
	w.register += fmt.Sprintf(", webhook: {listen: \"127.0.0.1:0\", secretFile: %q}", filepath.Join(w.dir, "hook"))
	w.configure()
	check(1, "reading the webhook's secret", "hint: the relay would not start")
	w.file("hook", "s3cret")
	check(1, "hook: webhook: the secret has 6 octets", "hint: the relay would not start; openssl rand -hex 32")
	w.file("hook", "s3cret, but a long one")
	check(0)
	for mode, says := range map[os.FileMode]string{0o644: "may read it", 0o620: "its group may write it", 0o602: "may write it"} {
		if err := os.Chmod(filepath.Join(w.dir, "app.pem"), mode); err != nil {
			t.Fatal(err)
		}
		check(0, "register.app.keyFile: ", says, "hint: chmod 0640 ")
	}
	if err := os.Chmod(filepath.Join(w.dir, "hook"), 0o604); err != nil {
		t.Fatal(err)
	}
	check(0, "register.webhook.secretFile: ", "hint: chmod 0640 ")
	w.extra = fmt.Sprintf("listen: portal: {address: \"127.0.0.1:0\", tokenFile: %q, operatorTokenFile: %q}", filepath.Join(w.dir, "portal"), filepath.Join(w.dir, "operator"))
	w.configure()
	check(1, "reading listen.portal.tokenFile", "hint: the relay would not start; openssl rand -hex 32")
	w.file("portal", "s3cret")
	check(1, "portal holds 6 octets, and a token has from 32 to 512")
	w.file("portal", "s3cret s3cret s3cret s3cret s3cret")
	check(1, "more than one word of printable ASCII")
	w.file("portal", strings.Repeat("s3cret", 6)+"\n")
	w.file("operator", strings.Repeat("s3cret", 6))
	check(1, "operator holds the same token as")
	w.file("operator", strings.Repeat("0s3cret", 6))
	check(0)
	if err := os.Chmod(filepath.Join(w.dir, "operator"), 0o604); err != nil {
		t.Fatal(err)
	}
	check(0, "listen.portal.operatorTokenFile: ", "hint: chmod 0640 ")
}
