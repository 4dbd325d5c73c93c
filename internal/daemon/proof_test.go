package daemon_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli"
	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/status"
)

// invited asks the relay for a token, as an operator does.
func (w *world) invited(args ...string) (i struct {
	proof.Invitation
	Swaks, Msmtp string
}) {
	w.t.Helper()
	code, out := w.gatepost(append([]string{"prove", "--format", "json"}, args...)...)
	if code != 0 {
		w.t.Fatalf("gatepost prove %v: %d\n%s", args, code, out)
	}
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return i
}

// about is what the relay says of one address, on its status page.
func (w *world) about(ip string) (a status.Address) {
	w.t.Helper()
	code, text := w.page("/status?ip=" + ip)
	if code != 200 {
		w.t.Fatalf("/status?ip=%s answered %d: %s", ip, code, text)
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// paste runs a command that the relay printed, on loopback in the place of its
// host name.
func (w *world) paste(command string) (string, error) {
	w.t.Helper()
	for _, option := range []string{"--server ", "--host="} {
		command = strings.Replace(command, option+"relay.lab.example", option+"127.0.0.1", 1)
	}
	return w.run("", "sh", "-c", command)
}

// command runs the command line gatepost.
func (w *world) command(args ...string) (code int, out string) {
	w.t.Helper()
	var b bytes.Buffer
	code = cli.Main(w.t.Context(), cli.Options{Args: args, Stdout: &b, Stderr: &b, Now: time.Now})
	return code, b.String()
}

// evidence is what gatepost check says of the checkout's address 127.0.0.2.
func (w *world) evidence(args ...string) string {
	w.t.Helper()
	code, out := w.command(append([]string{"check", "-C", w.checkout, "--base", "main", "--evidence", "--dns", "127.0.0.1:9", "--evidence-timeout", "2s"}, args...)...)
	if code != 0 {
		w.t.Fatalf("gatepost check --evidence: %d\n%s", code, out)
	}
	return out
}

// TestProofOfControl is the whole of it: a token, a message from a machine that
// is not registered, evidence beside the request, and a relay that dies.
func TestProofOfControl(t *testing.T) {
	t.Parallel()
	needs(t, "swaks", "msmtp")
	w := newWorld(t)
	w.start()
	w.registered("scanner", "127.0.0.2") // in the checkout only: what a request proposes
	w.git(w.checkout, "add", "-A")

	if out := w.evidence("--relay", "http://"+w.status); !strings.Contains(out, "relay: unknown: control of 127.0.0.2 was never proved to relay.lab.example; a token for that: gatepost prove 127.0.0.2") {
		t.Errorf("before anything was proved:\n%s", out)
	}

	invited := w.invited("127.0.0.2", "--request", "7")
	if !strings.HasPrefix(invited.To, "prove+") || !strings.HasSuffix(invited.To, "@relay.lab.example") || invited.Request != 7 ||
		time.Until(invited.Expires) > proof.DefaultFor || time.Until(invited.Expires) < proof.DefaultFor-time.Minute {
		t.Errorf("%+v", invited)
	}
	if out, err := w.swaks("127.0.0.3", "proof", "--to", invited.To); err == nil || !strings.Contains(out, "550 5.7.1 this is no token for a proof from 127.0.0.3") {
		t.Errorf("another machine proved with the token:\n%s", out)
	}
	if n := w.report().Proofs.Count; n != 0 {
		t.Fatalf("%d proofs of nothing", n)
	}
	out, err := w.swaks("127.0.0.2", "proof", "--to", strings.ToUpper(invited.To), "--tls-optional")
	if err != nil || !strings.Contains(out, "250 2.0.0 control of 127.0.0.2 is proved for request 7; this message was not kept and nothing is sent") {
		t.Fatalf("%v\n%s", err, out)
	}
	first := w.about("127.0.0.2")
	if len(first.Proofs) != 1 || first.Proofs[0].Request != 7 || !strings.HasPrefix(first.Proofs[0].TLS, "TLS") || first.Standing != "unregistered" {
		t.Fatalf("%+v", first)
	}

	// What is printed can be pasted, and a second use changes nothing.
	for _, command := range []string{invited.Swaks, invited.Msmtp} {
		if out, err := w.paste(command); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	if again := w.about("127.0.0.2").Proofs; len(again) != 1 || again[0] != first.Proofs[0] {
		t.Errorf("a second use has changed the record: %+v", again)
	}
	w.refused("127.0.0.2", "550 5.7.1 127.0.0.2 is not registered")
	if all := w.hop.holding(""); len(all) != 0 {
		t.Errorf("%d messages went out:\n%s", len(all), all[0])
	}

	for _, relay := range []string{"http://" + w.status, w.socket} {
		out := w.evidence("--relay", relay)
		if !strings.Contains(out, "relay: confirmed: control of 127.0.0.2 was proved to relay.lab.example on ") || !strings.Contains(out, " for request 7\n") ||
			!strings.Contains(out, "it has accepted no mail from this address") {
			t.Errorf("--relay %s:\n%s", relay, out)
		}
	}

	w.kill() // the proof was on the disk before the machine heard that it is
	if out := w.evidence("--relay", "http://"+w.status, "--relay", w.socket); strings.Count(out, "relay: unknown: could not be asked") != 2 {
		t.Errorf("a relay that is down is not unknown:\n%s", out)
	}
	w.start()
	if after := w.about("127.0.0.2").Proofs; len(after) != 1 || after[0] != first.Proofs[0] {
		t.Errorf("after a crash: %+v", after)
	}
	if out, err := w.swaks("127.0.0.2", "proof", "--to", invited.To); err != nil {
		t.Errorf("a token of before the crash is not known: %v\n%s", err, out)
	}
	if out := w.evidence("--relay", w.socket); !strings.Contains(out, "relay: confirmed: ") {
		t.Errorf("after a crash:\n%s", out)
	}

	// How operators see it.
	w.refused("127.0.0.2", "550 5.7.1 127.0.0.2 is not registered") // what was seen in the minute before the crash is lost
	if code, out := w.gatepost("status", "--proofs"); code != 0 || !strings.Contains(out, "127.0.0.2 ") || !strings.Contains(out, "1 proof of control\n") {
		t.Errorf("gatepost status --proofs: %d\n%s", code, out)
	}
	if code, out := w.gatepost("status"); code != 0 || !strings.Contains(out, "proofs    1 proof of control; the newest ") {
		t.Errorf("gatepost status: %d\n%s", code, out)
	}
	if code, out := w.gatepost("status", "127.0.0.2"); code != 1 || !strings.Contains(out, "standing  on campus and not registered: it may not send\n") ||
		!strings.Contains(out, ", for request 7, over TLS") || !strings.Contains(out, "550 5.7.1 127.0.0.2 is not registered with this relay; register at") {
		t.Errorf("gatepost status 127.0.0.2: %d\n%s", code, out)
	}
	if token := strings.TrimSuffix(strings.TrimPrefix(invited.To, "prove+"), "@relay.lab.example"); strings.Contains(strings.ToLower(w.log.tail(10_000)), token) {
		t.Error("the token is in the log")
	}
	if info, err := os.Stat(filepath.Join(w.state, "proof", "secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestAFleetSharesTheSecret: with proof.secretFile a token may come from
// anybody who has the secret, such as the portal or another relay; and what a
// token can be asked for.
func TestAFleetSharesTheSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret := []byte("8d7a1f0e5c9b4a3d2e1f0a9b8c7d6e5f")
	file := filepath.Join(w.dir, "proof-secret")
	if err := os.WriteFile(file, append(secret, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	w.extra = `proof: secretFile: "` + file + `"`
	w.write("registrations/blocks/b.cue", `block: {ip: "127.0.0.9", reason: "worm", since: "2026-01-01T00:00:00Z"}`)
	w.commit("A block")
	w.push()
	w.start()
	key, err := proof.NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	mine := func(life time.Duration, at time.Time) string {
		token, err := key.Token(proof.Claim{Addr: netip.MustParseAddr("127.0.0.1"), Request: 3, Expires: at.Add(life)}, at)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	c, greeting := w.dial("127.0.0.1")
	c.expect(greeting, "220")
	c.expect(c.say("EHLO printer.lab.example"), "250")
	c.expect(c.say("MAIL FROM:<device@lab.example>"), "250")
	c.expect(c.say("RCPT TO:<prove+%s@relay.lab.example>", mine(time.Hour, time.Now().Add(-2*time.Hour))), "550 5.7.1 the token for a proof from 127.0.0.1 expired at ")
	c.expect(c.say("RCPT TO:<prove+%s@relay.lab.example>", mine(time.Hour, time.Now())), "250")
	c.expect(c.say("DATA"), "354")
	c.expect(c.say("."), "250 2.0.0 control of 127.0.0.1 is proved for request 3;") // registered: a renewal
	if _, err := os.Stat(filepath.Join(w.state, "proof", "secret")); err == nil {
		t.Error("the relay has made a secret of its own, too")
	}

	for _, tc := range []struct {
		args []string
		text string
	}{
		{[]string{"192.0.2.1"}, "192.0.2.1 is not an address of this university"},
		{[]string{"127.0.0.9"}, "127.0.0.9 is blocked, so the relay does not talk to it: worm"},
		{[]string{"127.0.0.2", "--for", "15d"}, "--for 15d: not a time from 1m to 14d"},
		{[]string{"127.0.0.2", "--for", "30s"}, "--for 30s: not a time from 1m to 14d"},
		{[]string{"127.0.0.2", "--request", "0"}, "--request 0 is no number"},
	} {
		if code, out := w.gatepost(append([]string{"prove"}, tc.args...)...); code != 2 || !strings.Contains(out, tc.text) {
			t.Errorf("gatepost prove %v: %d, %s", tc.args, code, out)
		}
	}
	if i := w.invited("::ffff:127.0.0.2", "--for", "14d"); i.Addr != netip.MustParseAddr("127.0.0.2") || i.Request != 0 {
		t.Errorf("%+v", i)
	}
	w.stop()

	// A secret that is none is found before the start, and stops it.
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if code, out := daemon.Check(w.config, &b, &b), b.String(); code != 1 || !strings.Contains(out, "the secret has 7 octets") || strings.Contains(out, "hunter2") {
		t.Errorf("gatepostd --check: %d\n%s", code, out)
	}
}

// TestLastMailSeen: what an address sent and was refused is known, and kept
// over restarts.
func TestLastMailSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for range 3 {
		w.accepted("127.0.0.1", "seen")
	}
	w.refused("127.0.0.2", "550")
	check := func(when string) {
		t.Helper()
		sent, refused := w.about("127.0.0.1"), w.about("127.0.0.2")
		if m := sent.Mail; m.Day != 3 || m.Week != 3 || m.Month != 3 || time.Since(m.Last) > time.Hour || m.First.After(m.Last) {
			t.Errorf("%s: %+v", when, m)
		}
		if g := sent.Registration; g == nil || g.File != "registrations/lab/printer.cue" || g.Department != "lab" || g.Contact != "it@lab.example" || g.Name != "printer.lab.example" ||
			sent.Standing != status.MaySend || len(sent.Refusals) != 0 {
			t.Errorf("%s: %+v", when, sent)
		}
		if r := refused.Refusals; len(r) != 1 || r[0].Reason != "unregistered" || r[0].Stage != "RCPT" || r[0].Count != 1 || !strings.HasPrefix(r[0].Said, "550 5.7.1 127.0.0.2 is not registered") || !refused.Mail.Last.IsZero() {
			t.Errorf("%s: %+v", when, refused)
		}
	}
	check("at once")
	w.stop()
	w.start()
	check("after a restart")
	if code, out := w.gatepost("status", "127.0.0.1"); code != 0 || !strings.Contains(out, "3 in 24 hours, 3 in 7 days, 3 in 30 days") {
		t.Errorf("gatepost status 127.0.0.1: %d\n%s", code, out)
	}
}
