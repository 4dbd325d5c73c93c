package daemon_test

import (
	"crypto/tls"
	"math/big"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/status"
)

// file writes a file of the world.
func (w *world) file(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// startTLS opens a TLS session on port 587 and returns the certificate's
// serial number.
func (w *world) startTLS() (*smtp.Client, *big.Int) {
	w.t.Helper()
	c, err := smtp.Dial(w.submission)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		w.t.Fatal(err)
	}
	state, _ := c.TLSConnectionState()
	return c, state.PeerCertificates[0].SerialNumber
}

// TestCertificateIsRenewed replaces the certificate under a running relay, by a
// broken one and then by a good one.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	session, before := w.startTLS()

	w.file("key.pem", "-----BEGIN NOTHING-----\n")
	w.waitReport("the broken key is reported", func(r status.Report) bool {
		return r.Certificate.Error != "" && slices.ContainsFunc(r.Findings, func(f status.Finding) bool { return strings.Contains(f.What, "certificate cannot be used") })
	})
	if _, now := w.startTLS(); now.Cmp(before) != 0 {
		t.Error("the certificate has changed without a key")
	}

	w.certificate()
	w.eventually("the new certificate is shown", func() bool {
		_, now := w.startTLS()
		return now.Cmp(before) != 0
	})
	w.waitReport("the fault is over", func(r status.Report) bool { return r.Certificate.Error == "" })
	if err := session.Mail("device@lab.example"); err != nil {
		t.Errorf("the session from before does not go on: %v", err)
	}
}

// TestCertificateElsewhere names other files in the configuration.
func TestCertificateElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	_, before := w.startTLS()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.file("relay.cue", strings.NewReplacer("cert.pem", "other-cert.pem", "key.pem", "other-key.pem").Replace(string(text)))
	w.waitReport("the files are missed", func(r status.Report) bool { return r.Certificate.Error != "" })
	if _, now := w.startTLS(); now.Cmp(before) != 0 {
		t.Error("the certificate has changed without files")
	}
	w.certificate()
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Rename(filepath.Join(w.dir, name), filepath.Join(w.dir, "other-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("the certificate of the other files is shown", func() bool {
		_, now := w.startTLS()
		return now.Cmp(before) != 0
	})
}

// TestConfigurationChanges changes what needs a restart, breaks the file, and
// puts it back.
func TestConfigurationChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	good, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.file("relay.cue", strings.Replace(string(good), `"relay.lab.example"`, `"mail.lab.example"`, 1)+"limits: recipients: 7\n")
	w.waitReport("what needs a restart is told", func(r status.Report) bool {
		return slices.Equal(r.Config.NeedRestart, []string{"hostname", "limits.recipients"})
	})

	w.file("relay.cue", string(good)+"colour: \"blue\"\n")
	w.waitReport("the fault is told", func(r status.Report) bool { return strings.Contains(r.Config.Error, "colour") })
	c, greeting := w.dial("127.0.0.1")
	c.expect(greeting, "220 relay.lab.example ")
	w.accepted("127.0.0.1", "with a broken configuration")

	w.file("relay.cue", string(good))
	w.waitReport("all is well", func(r status.Report) bool {
		return r.Config.Error == "" && len(r.Config.NeedRestart) == 0 && len(r.Findings) == 0
	})
}
