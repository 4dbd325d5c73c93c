package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
)

var quick = Limits{Refusal: 2 * time.Second}

func TestFactNoOtherEndVariantEndsAMessageOrHangsAClient(t *testing.T) {
	for _, end := range []string{"\n.\n", "\r.\r", "\r.\n", "\n.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\r\n.\r\n", "\r\n.\rX"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			t.Parallel()
			for _, from := range []string{strictClient, fixClient} {
				f := start(t, quick)
				c := f.dial(t, from, relayPort)
				c.begin()
				c.send("Subject: x\r\n\r\nbody" + end)
				if got := c.reply(); !strings.HasPrefix(got, "550 5.6.0 ") {
					t.Fatalf("%s got %q", from, got)
				}
				_ = c.trySend("MAIL FROM:<evil@example.edu>\r\n")
				c.wantClosed()
				if len(f.store.all()) != 0 {
					t.Error("something was stored")
				}
			}
		})
	}
}

func TestFactAfterAStallInABodyTheRestIsNotParsedAsCommands(t *testing.T) {
	for name, begin := range map[string]string{"DATA": "DATA\r\nSubject: x\r\n\r\nhello\r\n", "BDAT": "BDAT 200 LAST\r\nSubject: x\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Limits{Stall: 50 * time.Millisecond, Refusal: time.Second})
			c := f.dial(t, strictClient, relayPort)
			c.want("220")
			c.do("EHLO x", "250")
			c.transaction()
			c.send(begin)
			if got := c.reply(); strings.HasPrefix(got, "354") {
				c.want("421 4.4.2 the message came too slowly")
			} else if !strings.HasPrefix(got, "421 4.4.2") {
				t.Fatal(got)
			}
			_ = c.trySend("RSET\r\nMAIL FROM:<evil@example.edu>\r\nRCPT TO:<v@example.org>\r\nDATA\r\nbad\r\n.\r\n")
			c.wantClosed()
			if n := len(f.store.all()); n != 0 || f.store.aborted != 1 {
				t.Errorf("%d stored, %d aborted", n, f.store.aborted)
			}
		})
	}
}

func TestBareLFRefusalNamesTheProfile(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.send("Subject: x\n")
	if got := c.reply(); !strings.Contains(got, "bare LF") || !strings.Contains(got, `bareLF: "fix"`) || !strings.Contains(got, strictClient) {
		t.Errorf("got %q", got)
	}
}

func TestATenMegabyteLineIsRefusedAndTheConnectionClosed(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	go func() { _ = c.trySend(strings.Repeat("x", 10<<20) + "\r\n.\r\nQUIT\r\n") }()
	c.want("550 5.6.0 the message has a line of more than 262144 octets")
	c.wantClosed()
}

func TestFactALineOf128KiBIsAccepted(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	line := strings.Repeat("x", 128<<10)
	c.send("Subject: x\r\n\r\n" + line + "\r\n.\r\n")
	c.want("250 2.0.0")
	if !strings.HasSuffix(f.store.all()[0].body, "\r\n\r\n"+line+"\r\n") {
		t.Error("the line was changed")
	}
}

func TestAMessageTooLargeIsReadToItsEndAndRefused(t *testing.T) {
	f := start(t, Limits{MaxMessage: 1000})
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.send(strings.Repeat("Subject: xxxxxxxxx\r\n", 51) + ".\r\nNOOP\r\n")
	c.want("552 5.3.4")
	c.want("250")
	if len(f.store.all()) != 0 || f.store.aborted != 1 {
		t.Error("it was not aborted")
	}
	c.transaction()
	c.send("BDAT 1001\r\n" + strings.Repeat("x", 1001) + "NOOP\r\n")
	c.want("552 5.3.4")
	c.want("250")
	c.transaction()
	c.send("BDAT 600\r\n" + strings.Repeat("x", 600) + "BDAT 600 LAST\r\n" + strings.Repeat("x", 600) + "NOOP\r\n")
	c.want("250 2.0.0 600 octets")
	c.want("552 5.3.4")
	c.want("250")
}

func TestABodyThatBreaksOffIsNotKept(t *testing.T) {
	for name, text := range map[string]string{
		"DATA":                         "DATA\r\nSubject: x\r\n\r\nhalf",
		"DATA, before the LF":          "DATA\r\nSubject: x\r\n\r\nhalf\r\n.\r",
		"fact: BDAT LAST is truncated": "BDAT 100 LAST\r\nSubject: x\r\n\r\nhalf\r\n",
		"between chunks":               "BDAT 5\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, quick)
			c := f.dial(t, strictClient, relayPort)
			c.want("220")
			c.do("EHLO x", "250")
			c.transaction()
			c.send(text)
			_ = c.nc.(*net.TCPConn).CloseWrite()
			<-f.store.done
			if len(f.store.all()) != 0 || f.store.aborted != 1 {
				t.Errorf("%d stored, %d aborted", len(f.store.all()), f.store.aborted)
			}
		})
	}
}

func TestAClientThatLeavesAfterTheDotHasItsMessageKept(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.send("Subject: x\r\n\r\nbody\r\n.\r\n")
	_ = c.nc.Close()
	<-f.store.done
	if len(f.store.all()) != 1 {
		t.Error("it was lost")
	}
}

func TestFactCommandsPipelinedBehindSTARTTLSAreDropped(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<before@example.edu>", "250")
	c.send("STARTTLS\r\nRCPT TO:<injected@example.org>\r\n")
	c.want("220 2.0.0")
	tc := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.nc, c.r = tc, bufio.NewReader(tc)
	c.do("RCPT TO:<b@example.org>", "503") // and the transaction is gone, too
	c.do("MAIL FROM:<a@example.edu>", "503 5.5.1 say EHLO")
	c.do("EHLO x", "250")
	c.transaction()
	c.do("DATA", "354")
	c.do(".", "250")
	if got := f.store.all()[0].env; len(got.To) != 1 || got.From.Local != "a" || got.Protocol != "ESMTPS" || !strings.HasPrefix(got.TLS, "TLS 1.3 ") {
		t.Errorf("stored %+v", got)
	}
}

func TestFactAFailedHandshakeEndsTheConnectionWithoutAWordInTheClear(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("STARTTLS", "220 2.0.0")
	_ = c.trySend("NOOP\r\nNOOP\r\nNOOP\r\n")
	_ = c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	rest, err := io.ReadAll(c.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
	if regexp.MustCompile(`\d{3}[ -]`).Match(rest) {
		t.Errorf("after the failure it said %q", rest)
	}
}

func TestOldTLSIsForLegacyDevicesOnly(t *testing.T) {
	f := start(t, quick)
	for from, ok := range map[string]bool{strictClient: false, "127.0.0.11": true} {
		c := f.dial(t, from, relayPort)
		c.want("220")
		err := c.startTLS(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
		if (err == nil) != ok {
			t.Errorf("%s: TLS 1.0: %v", from, err)
		}
		if ok {
			c.do("EHLO x", "250")
		}
	}
}

func TestCertificatesAreAskedForAtEachHandshake(t *testing.T) {
	asked := 0
	f := start(t, quick, func(o *Options) {
		get := o.GetCertificate
		o.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { asked++; return get(h) }
	})
	for range 2 {
		c := f.dial(t, strictClient, submissionPort)
		c.want("220")
		if err := c.startTLS(&tls.Config{}); err != nil {
			t.Fatal(err)
		}
		c.do("QUIT", "221")
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestBDATAndDATAStoreTheSame(t *testing.T) {
	text := "Date: x\r\nMessage-ID: <1@x>\r\nSubject: y\r\n\r\n.dot\r\n..two\r\n" + strings.Repeat("long ", 10_000) + "\r\nlast\r\n"
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.send(strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n")
	c.want("250 2.0.0 accepted")
	for _, size := range []int{1, 7, 4096, len(text)} {
		if size == 1 && testing.Short() {
			continue
		}
		head, rest := text[:min(len(text), 300)], text
		if size < 100 { // small chunks for the header section, the rest in one
			rest = text[len(head):]
		} else {
			head = ""
		}
		c.transaction()
		var b strings.Builder
		n := 0
		for part := head; part != ""; n++ {
			k := min(size, len(part))
			fmt.Fprintf(&b, "BDAT %d\r\n%s", k, part[:k])
			part = part[k:]
		}
		for size >= 100 && len(rest) > size {
			fmt.Fprintf(&b, "BDAT %d\r\n%s", size, rest[:size])
			rest = rest[size:]
			n++
		}
		fmt.Fprintf(&b, "BDAT %d LAST\r\n%s", len(rest), rest)
		c.send(b.String())
		for range n {
			c.want("250 2.0.0")
		}
		c.want("250 2.0.0 accepted")
	}
	all := f.store.all()
	cut := regexp.MustCompile(`(?s)^Received:.*?\r\nDate`)
	for i, s := range all {
		if got := cut.ReplaceAllString(s.body, "Date"); got != text {
			t.Errorf("message %d differs: %.200q", i, got)
		}
	}
}

func TestABlockHoldsFromTheNextCommandOn(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	f.campus.set(strictClient, policy.Blocked)
	c.do("DATA", "554 5.7.1 127.0.0.2 is blocked")
	c.wantClosed()
}

func TestAMessageInChunksMayBeAbandoned(t *testing.T) {
	for _, word := range []string{"RSET", "EHLO again"} {
		f := start(t, quick)
		c := f.dial(t, strictClient, relayPort)
		c.want("220")
		c.do("EHLO x", "250")
		c.transaction()
		c.send("BDAT 12\r\nSubject: x\r\n" + word + "\r\n")
		c.want("250 2.0.0 12 octets")
		c.want("250 ")
		c.do("BDAT 0 LAST", "503 5.5.1")
		c.transaction()
		c.do("DATA", "354")
		c.do(".", "250 2.0.0 accepted as Q1")
		if f.store.aborted != 1 {
			t.Errorf("%s: %d aborted", word, f.store.aborted)
		}
	}
}

func TestEmptyChunksSpendTheIdleBudget(t *testing.T) {
	f := start(t, Limits{Idle: 3, Refusal: time.Second})
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	c.send(strings.Repeat("BDAT 0\r\n", 5))
	for range 3 {
		c.want("250 2.0.0 0 octets")
	}
	c.want("421 4.7.0")
	c.wantClosed()
}

func TestParametersThatGoSMTPRefusesAreCounted(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	for range 19 {
		c.do("MAIL FROM:<a@example.edu> ENVID=+ZZ", "501 5.5.4")
	}
	c.send("MAIL FROM:<a@example.edu> RET=ALL\r\n")
	c.want("501 5.5.4")
	c.want("421 4.7.0")
	c.wantClosed()
	if !strings.Contains(f.log.String(), "reason=parameter") {
		t.Error("not logged")
	}
}

func TestARemovalHoldsFromTheNextCommandOn(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	f.campus.set(strictClient, policy.Unregistered)
	c.do("RCPT TO:<c@example.org>", "550 5.7.1 127.0.0.2 is not registered")
	c.do("DATA", "550 5.7.1 127.0.0.2 is not registered")
	// and one that is registered meanwhile begins with its next message
	c.do("MAIL FROM:<a@example.edu>", "250")
	f.campus.set(strictClient, policy.Registered)
	c.do("RCPT TO:<c@example.org>", "550")
	c.do("RSET", "250")
	c.transaction()
}

func TestFactTheTextOfAnErrorIsNeverSent(t *testing.T) {
	secret := errors.New("disk /dev/secret on fire")
	for _, tt := range []struct {
		step string
		err  error
		want string
	}{
		{"create", secret, "451 4.3.0"},
		{"create", fmt.Errorf("spool: %w", ErrFull), "452 4.3.1"},
		{"write", secret, "451 4.3.0"},
		{"commit", secret, "451 4.3.0"},
		{"commit", fmt.Errorf("spool: %w", ErrFull), "452 4.3.1"},
	} {
		f := start(t, quick)
		f.store.fail(tt.step, tt.err)
		c := f.dial(t, strictClient, relayPort)
		c.want("220")
		c.do("EHLO x", "250")
		c.transaction()
		c.send("DATA\r\n")
		got := c.reply()
		if strings.HasPrefix(got, "354") {
			c.send("Subject: x\r\n\r\n" + strings.Repeat("x", 40_000) + "\r\n.\r\n")
			got = c.reply()
		} else if tt.step != "create" {
			t.Fatalf("%s: %q", tt.step, got)
		}
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "secret") {
			t.Errorf("%s, %v: %q", tt.step, tt.err, got)
		}
		// That there is no room to begin with, the store says once by itself.
		told, alone := strings.Contains(f.log.String(), tt.err.Error()), tt.step == "create" && errors.Is(tt.err, ErrFull)
		if told == alone {
			t.Errorf("%s, %v: the operator is told: %v, want %v: %s", tt.step, tt.err, told, !alone, f.log.String())
		}
		f.store.fail(tt.step, nil)
		c.transaction()
		c.do("DATA", "354")
		c.do(".", "250 2.0.0")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	f := start(t, Limits{Sessions: 3, SessionsPerAddress: 2, Refusal: time.Second})
	a, b := f.dial(t, strictClient, relayPort), f.dial(t, strictClient, relayPort)
	a.want("220")
	b.want("220")
	f.dial(t, strictClient, relayPort).want("421 4.7.0 too many connections at once from 127.0.0.2 (2 are allowed)")
	f.dial(t, "127.0.0.20", submissionPort).want("220")
	f.dial(t, "127.0.0.21", relayPort).want("421 4.7.0 too many connections at once; ")
	a.do("QUIT", "221")
	a.wantClosed()
	for range 100 { // the place is given back a moment after the close
		if c := f.dial(t, "127.0.0.21", relayPort); strings.HasPrefix(c.line(), "220") {
			return
		}
	}
	t.Error("the place was not given back")
}

func TestRefusedClientsThatNeverReadDoNotHoldTheGate(t *testing.T) {
	f := start(t, Limits{Refusals: 2, Refusal: 5 * time.Second})
	for range 20 {
		f.dial(t, "127.0.0.5", relayPort)
	}
	f.dial(t, strictClient, relayPort).want("220")
}

type panicky struct{}

func (panicky) Create(context.Context, mail.Envelope) (Message, error) { panic("boom") }

func TestAPanicCostsOneSession(t *testing.T) {
	f := start(t, quick, func(o *Options) { o.Store = panicky{} })
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	c.do("DATA", "421 4.3.0")
	c.wantClosed()
	f.dial(t, strictClient, relayPort).want("220")
}

func TestRepliesFitIntoTwoLines(t *testing.T) {
	for _, n := range []int{10, 495, 520, 5000} {
		for _, word := range []string{"x", "word "} {
			var b bytes.Buffer
			reply{code: 550, enh: mail.Enhanced{5, 7, 1}, text: strings.Repeat(word, n)}.appendTo(&b)
			lines := strings.SplitAfter(strings.TrimSuffix(b.String(), "\r\n"), "\r\n")
			if len(lines) > 2 {
				t.Errorf("%d lines", len(lines))
			}
			for _, l := range lines {
				if len(l) > maxReplyLine || !regexp.MustCompile(`^550[ -]5\.7\.1 `).MatchString(l) {
					t.Errorf("line %.20q of %d octets", l, len(l))
				}
			}
		}
	}
	var b bytes.Buffer
	reply{code: 550, text: "a\r\n250 ok\x00ü"}.appendTo(&b)
	if b.String() != "550 a??250 ok???\r\n" && b.String() != "550 a??250 ok??\r\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestTheEnvelopeSaysWhatTheClientSaid(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO mfp1.example.edu", "250")
	c.do("MAIL FROM:<a@example.edu> RET=HDRS ENVID=Q+2B1 BODY=8BITMIME", "250")
	c.do(`RCPT TO:<"b c"@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;x+2By@example.org`, "250")
	c.do("DATA", "354")
	c.do(".", "250")
	e := f.store.all()[0].env
	e.Arrival = time.Time{}
	want := mail.Envelope{
		From: mail.Address{Local: "a", Domain: "example.edu"},
		To:   []mail.Recipient{{Address: mail.Address{Local: "b c", Domain: "example.org"}, Notify: "FAILURE,DELAY", ORcpt: "rfc822;x+y@example.org"}},
		Body: mail.Body8Bit, Ret: "HDRS", EnvID: "Q+1", HELO: "mfp1.example.edu", Protocol: "ESMTP",
		Registration: "registrations/lsa-physics/mfp.cue", Commit: "0123456789abcdef", Client: e.Client,
	}
	if fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want) || e.Client.String() != strictClient {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
}
