package smtpd

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
)

// prove sends a message to the token's address, as far as the reply to it.
func (f *fixture) prove(t *testing.T, c *client, token, want string) {
	t.Helper()
	c.do("MAIL FROM:<a@example.edu>", "250")
	c.do("RCPT TO:<"+proof.LocalPart(token)+"@relay.example.edu>", "250")
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\nx\r\n.", want)
}

func TestAProofIsRecordedAsItCame(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, "127.0.0.6", submissionPort)
	c.want("220")
	c.do("EHLO x", "250")
	if err := c.startTLS(&tls.Config{}); err != nil {
		t.Fatal(err)
	}
	c.do("EHLO x", "250")
	token := f.proofs.token(t, "127.0.0.6", 12, time.Hour)
	for range 2 {
		f.prove(t, c, token, "250 2.0.0 control of 127.0.0.6 is proved for request 12;")
	}
	got := f.proofs.Newest(proof.MaxRecords)
	if len(got) != 1 || got[0].Addr.String() != "127.0.0.6" || got[0].Request != 12 || got[0].Port != "submission" ||
		!strings.HasPrefix(got[0].TLS, "TLS") || time.Since(got[0].At) > time.Minute || time.Until(got[0].Expires) > time.Hour {
		t.Errorf("%+v", got)
	}
	m := f.srv.metrics
	if a, b := testutil.ToFloat64(m.proofs.WithLabelValues("recorded")), testutil.ToFloat64(m.proofs.WithLabelValues("repeated")); a != 1 || b != 1 {
		t.Errorf("%v recorded, %v repeated", a, b)
	}
	if n := strings.Count(f.log.String(), "event=smtp.proved"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, f.log.String())
	}
	if strings.Contains(f.log.String(), token) {
		t.Error("the token is in the log")
	}
	// A token without a request.
	f.prove(t, c, f.proofs.token(t, "127.0.0.6", 0, time.Hour), "250 2.0.0 control of 127.0.0.6 is proved; this message")
}

// TestAProofThatCannotBeKeptIsTriedAgain: the client hears a temporary error,
// and nothing is said to be proved that will be gone tomorrow.
func TestAProofThatCannotBeKeptIsTriedAgain(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, "127.0.0.6", relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	dir := filepath.Dir(f.proofs.file)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	token := f.proofs.token(t, "127.0.0.6", 0, time.Hour)
	f.prove(t, c, token, "451 4.3.0")
	if f.proofs.Len() != 0 || !strings.Contains(f.log.String(), "step=\"record proof\"") {
		t.Errorf("%d recorded; log:\n%s", f.proofs.Len(), f.log.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.prove(t, c, token, "250 2.0.0 control of 127.0.0.6")
}

// TestABlockedAddressProvesNothing: not at the door, and not in a session that
// was open.
func TestABlockedAddressProvesNothing(t *testing.T) {
	f := start(t, quick)
	f.dial(t, "127.0.0.4", relayPort).want("554 5.7.1 127.0.0.4 is blocked")
	c := f.dial(t, "127.0.0.6", relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu>", "250")
	c.do("RCPT TO:<"+proof.LocalPart(f.proofs.token(t, "127.0.0.6", 0, time.Hour))+"@relay.example.edu>", "250")
	f.campus.set("127.0.0.6", policy.Blocked)
	c.do("DATA", "554 5.7.1 127.0.0.6 is blocked")
	c.wantClosed()
	if f.proofs.Len() != 0 {
		t.Error("a blocked address has proved")
	}
}

// TestWithoutAProverTheAddressIsOneAsAnyOther holds a relay that takes no proofs.
func TestWithoutAProverTheAddressIsOneAsAnyOther(t *testing.T) {
	f := start(t, quick, func(o *Options) { o.Prover = nil })
	c := f.dial(t, "127.0.0.6", relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu>", "250")
	c.do("RCPT TO:<prove+x@relay.example.edu>", "550 5.7.1 127.0.0.6 is not registered")
	r := f.dial(t, strictClient, relayPort)
	r.want("220")
	r.do("EHLO x", "250")
	r.do("MAIL FROM:<a@example.edu>", "250")
	r.do("RCPT TO:<prove+x@relay.example.edu>", "250")
}

// TestRefusalsAreTold: the observer hears of the refusals of campus addresses,
// in the words that the client got, and of nobody else's.
func TestRefusalsAreTold(t *testing.T) {
	f := start(t, quick)
	f.dial(t, "127.0.0.4", relayPort).want("554")
	f.dial(t, "127.0.0.5", relayPort).want("554") // off campus
	f.dial(t, "127.0.0.8", relayPort).want("421") // no register
	c := f.dial(t, "127.0.0.9", relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu>", "550")
	c.do("NOOP", "250")
	c = f.dial(t, "127.0.0.6", relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu>", "250")
	c.do("RCPT TO:<b@example.org>", "550")
	f.cancel() // the sessions are ended by a drain, which is no refusal
	f.served.Wait()
	told := f.told.all()
	want := []string{
		"127.0.0.4 false greeting blocked: 554 5.7.1 127.0.0.4 is blocked (2026-11-23-mfp1); write to postmaster@example.edu",
		"127.0.0.9 true MAIL sender: 550 5.7.1 127.0.0.9 may not send as <a@example.edu>: the registration (registrations/lsa-physics/mfp.cue) does not list that sender; change it at https://relay.example.edu/register?ip=127.0.0.9",
		"127.0.0.6 false RCPT unregistered: 550 5.7.1 127.0.0.6 is not registered with this relay; register at https://relay.example.edu/register?ip=127.0.0.6",
	}
	if !slices.Equal(told, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}
