package daemon_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/status"
)

// verifyDKIM checks every signature of a message with dkimpy, another
// implementation than ours; the DNS is what --check printed. Debian's packages
// are for its own interpreter.
const verifyDKIM = `
import re, sys, dkim
zone = {}
for line in open(sys.argv[1]):
    m = re.match(r"for the DNS: (\S+) TXT (.*)", line)
    if m:
        zone[m.group(1)] = m.group(2).replace('" "', "").strip('"\n')
message = sys.stdin.buffer.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
n = sum(1 for l in message.split(b"\r\n\r\n")[0].split(b"\r\n") if l.lower().startswith(b"dkim-signature:"))
d = dkim.DKIM(message)
print(n, [d.verify(idx=i, dnsfunc=lambda name, **_: zone.get(name.decode(), "").encode()) for i in range(n)])
`

// TestMailIsSigned: what arrives has signatures that another implementation
// verifies, by RSA and Ed25519, however long or odd the message is; the relay's
// own mail is signed as well; and a new key is taken up.
func TestMailIsSigned(t *testing.T) {
	t.Parallel()
	needs(t, "openssl", "dkimverify")
	w := newWorld(t)
	key := func(name string, args ...string) {
		t.Helper()
		args = append([]string{"genpkey", "-out", filepath.Join(w.dir, name)}, args...)
		if out, err := w.run("", "openssl", args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	key("rsa.pem", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	key("ed.pem", "-algorithm", "ED25519")
	w.extra = strings.NewReplacer("DIR", w.dir).Replace(`deliver: dkim: [
	{domain: "lab.example", selector: "rsa", keyFile: "DIR/rsa.pem"},
	{domain: "lab.example", selector: "ed", keyFile: "DIR/ed.pem"},
	{domain: "relay.lab.example", selector: "own", keyFile: "DIR/ed.pem"},
]
`)
	w.start()
	script := w.template("verify.py", verifyDKIM)
	zone := func() string {
		t.Helper()
		var out, problems strings.Builder
		daemon.Check(w.config, &out, &problems)
		if strings.Count(out.String(), "for the DNS: ") != 3 {
			t.Fatalf("--check says\n%s%s", &out, &problems)
		}
		return w.template("zone", out.String())
	}
	holds := func(mail, zone string, signatures string) {
		t.Helper()
		_, mail, _ = strings.Cut(mail, "DKIM-Signature:") // the envelope stands before
		out, err := w.run("DKIM-Signature:"+mail, "/usr/bin/python3", script, zone)
		if err != nil || strings.TrimSpace(out) != signatures {
			t.Errorf("%v, %s; want %s, of\n%.2000s", err, out, signatures, mail)
		}
	}
	records := zone()
	for subject, body := range map[string]string{
		"short":   "hello \t there  \r\n\r\n.dot\r\n\r\n\r\n",
		"long":    strings.Repeat("a line of a long one\r\n", 20_000),
		"folded":  strings.Repeat("x", 3000) + "\r\n" + strings.Repeat("y", 2000) + "\r\n",
		"nothing": "",
	} {
		if out, err := w.run("From: Device <device@lab.example>\r\nTo: <someone@example.org>\r\nSubject: "+subject+" \r\n\tand signed\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <"+subject+"@lab.example>\r\n\r\n"+body,
			"curl", "--silent", "--show-error", "--url", "smtp://"+w.relay, "--mail-from", "device@lab.example", "--mail-rcpt", "someone@example.org", "--upload-file", "-"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.eventually("it arrives", func() bool { return len(w.hop.holding("Subject: "+subject+" \r\n")) == 1 })
		holds(w.hop.holding("Subject: " + subject + " \r\n")[0], records, "2 [True, True]")
	}

	w.hop.answerTo("RCPT TO:<SOMEONE", "550 5.1.1 nobody")
	w.accepted("127.0.0.1", "to nobody")
	w.eventually("the sender is told", func() bool { return len(w.hop.holding("multipart/report")) == 1 })
	dsn := w.hop.holding("multipart/report")[0]
	if from := regexp.MustCompile(`(?m)^From: .*@relay\.lab\.example`).FindString(dsn); from == "" {
		t.Errorf("the DSN is from somebody else:\n%.500s", dsn)
	}
	holds(dsn, records, "1 [True]")
	w.hop.say(nil)

	w.file("ed.pem", "half a key")
	w.waitReport("the broken key is told", func(r status.Report) bool { return r.DKIM != nil && strings.Contains(r.DKIM.Error, "ed.pem") })
	key("ed.pem", "-algorithm", "ED25519")
	w.eventually("the new key is taken up", func() bool { return strings.Contains(w.log.tail(4000), "event=dkim.loaded") })
	w.accepted("127.0.0.1", "with the new key")
	w.arrives("with the new key")
	holds(w.hop.holding("Subject: with the new key")[0], zone(), "2 [True, True]")
}

// TestABadKeyIsTold: the relay does not start with one, and --check says which.
func TestABadKeyIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `deliver: dkim: [{domain: "lab.example", selector: "a", keyFile: "` + filepath.Join(w.dir, "none.pem") + `"}]`
	w.configure()
	var out, problems strings.Builder
	if code := daemon.Check(w.config, &out, &problems); code != 1 || !strings.Contains(problems.String(), "the key of lab.example, selector a, in "+filepath.Join(w.dir, "none.pem")) {
		t.Errorf("%d:\n%s", code, &problems)
	}
	if err := w.runHere(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("it started: %v", err)
	}
}
