package deliver

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"example.edu/gatepost/internal/mail"
)

func onTheWire(t *testing.T, src io.Reader) string {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := writeBody(w, src); err != nil {
		t.Fatal(err)
	}
	_ = w.Flush()
	return b.String()
}

func TestWriteBody(t *testing.T) {
	x := strings.Repeat
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n"},
		{"no final line end", "A: b\r\n\r\nc", "A: b\r\n\r\nc\r\n"},
		{"no header", "\r\nc\r\n", "\r\nc\r\n"},
		{"dots", ".\r\n..\r\n.a\r\na.\r\n", "..\r\n...\r\n..a\r\na.\r\n"},
		{"998 is not too long", "\r\n" + x("a", 998) + "\r\n", "\r\n" + x("a", 998) + "\r\n"},
		{"the dot put before does not count", "\r\n." + x("a", 997) + "\r\n", "\r\n.." + x("a", 997) + "\r\n"},
		{"999 in the body", "\r\n" + x("a", 998) + "b\r\n", "\r\n" + x("a", 998) + "\r\nb\r\n"},
		{"a break before a dot", "\r\n" + x("a", 998) + ".\r\n", "\r\n" + x("a", 998) + "\r\n..\r\n"},
		{"999 in the header", "A:" + x("a", 996) + "b\r\n\r\n", "A:" + x("a", 996) + "\r\n b\r\n\r\n"},
		{"header folded at a space", "A: " + x("a", 900) + " " + x("b", 200) + "\r\n\r\n", "A: " + x("a", 900) + "\r\n " + x("b", 200) + "\r\n\r\n"},
		{"not within a character", "\r\n" + x("a", 997) + "éb\r\n", "\r\n" + x("a", 997) + "\r\néb\r\n"},
		{"bare LF", "A: b\n\nc\n.\nd\n", "A: b\r\n\r\nc\r\n..\r\nd\r\n"},
		{"bare CR", "\r\na\r.\rb\r\n", "\r\na\r\n..\r\nb\r\n"},
		{"smuggling", "\r\na\r\n.\n\r\n.\r\r\nMAIL\n.\r\n", "\r\na\r\n..\r\n\r\n..\r\n\r\nMAIL\r\n..\r\n"},
		{"CR at the end", "\r\na\r", "\r\na\r\n"},
		{"8-bit and NUL", "\r\n\xff\x00é\r\n", "\r\n\xff\x00é\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := onTheWire(t, strings.NewReader(c.in)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if got := onTheWire(t, iotest.OneByteReader(strings.NewReader(c.in))); got != c.want {
				t.Errorf("in single octets: got %q\nwant %q", got, c.want)
			}
		})
	}
}

// undot reads what writeBody wrote as a server does.
func undot(t *testing.T, wire string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.SplitAfterSeq(wire, "\r\n") {
		if strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n") || len(line) > maxTextLine+3 {
			t.Fatalf("line %.60q of %d octets", line, len(line))
		}
		if line == ".\r\n" {
			t.Fatal("the body ends itself")
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return b.String()
}

func FuzzWriteBody(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\n.\r\n"), uint16(3))
	f.Add([]byte("\n.\n\r\n.\r"), uint16(1))
	f.Add([]byte(strings.Repeat("é.", 2000)), uint16(700))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint16) {
		got := undot(t, onTheWire(t, &chunks{in, int(chunk) + 1}))
		lines := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(in))
		if lines != "" && !strings.HasSuffix(lines, "\r\n") {
			lines += "\r\n"
		}
		long := false
		for l := range strings.SplitSeq(lines, "\r\n") {
			long = long || len(l) > maxTextLine
		}
		if !long && got != lines {
			t.Fatalf("got %q, want %q", got, lines)
		}
		strip := func(s string) string {
			return strings.NewReplacer("\r\n", "", " ", "").Replace(s)
		}
		if strip(got) != strip(lines) {
			t.Fatalf("octets lost: got %q, want %q", got, lines)
		}
	})
}

type chunks struct {
	rest []byte
	n    int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func TestReadReply(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // of status; "" for an error
	}{
		{"250 ok\r\n", "250 ok"},
		{"250\r\n", "250 "},
		{"250 \r\n", "250 "},
		{"250-\r\n250 ok\r\n", "250 ok"},
		{"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", "550 5.7.1 one two three"},
		{"550-5.7.1 one\r\n550 two\r\n", "550 5.7.1 one two"},
		{"550 2.1.1 lies\r\n", "550 2.1.1 lies"},
		{"550 5.1 no\r\n", "550 5.1 no"},
		{"550 5.1.1.1 no\r\n", "550 5.1.1.1 no"},
		{"550 5.1111.1 no\r\n", "550 5.1111.1 no"},
		{"550 5.1.1\r\n", "550 5.1.1 "},
		{"550 a\x00b\x1b[1m\tc\xff\r\n", "550 a b [1m c?"},
		{"550 é\r\n", "550 é"},
		{"199 no\r\n", ""},
		{"600 no\r\n", ""},
		{"25 no\r\n", ""},
		{"2500 no\r\n", ""},
		{"250_no\r\n", ""},
		{" 250 no\r\n", ""},
		{"\r\n", ""},
		{"250-a\r\n251 b\r\n", ""},
		{"250 a", ""},
		{"", ""},
	} {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(c.in), maxReplyLine))
		got := ""
		if err == nil {
			got = r.status().String()
		}
		if got != c.want {
			t.Errorf("%q: %q (%v), want %q", c.in, got, err, c.want)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-5.1.1 a\r\n250 5.1.1 b\r\n250 c\r\n"))
	f.Add([]byte("550 5.7.1 \xff\x00\n"))
	f.Add(bytes.Repeat([]byte("250-x\r\n"), 200))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), maxReplyLine)
		for {
			got, err := readReply(r)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\r\n\x00") {
					t.Fatalf("error %q", err)
				}
				return
			}
			st := got.status()
			if st.Code < 200 || st.Code > 599 || len(got.lines) == 0 || len(got.lines) > maxReplyLines || len(st.Text) > maxReplyText {
				t.Fatalf("%+v", got)
			}
			if strings.ContainsFunc(st.Text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Fatalf("text %q", st.Text)
			}
			if e := st.Enhanced; e != (mail.Enhanced{}) && e[0] != int(st.Code)/100 {
				t.Fatalf("%v in %d", e, st.Code)
			}
		}
	})
}

func TestParameters(t *testing.T) {
	all := "S 250-sink\nS 250-DSN\nS 250-8BITMIME\nS 250-SMTPUTF8\nS 250 SIZE 1000\n"
	none := "S 250 sink\n"
	for _, c := range []struct {
		name  string
		offer string
		edit  func(*mail.Envelope)
		mail  string // "" if nothing may be sent
		rcpt  string
		want  string
	}{
		{"all of them", all, func(e *mail.Envelope) {
			e.Body, e.Ret, e.EnvID = mail.Body8Bit, "HDRS", "a b+c"
			e.To[0].Notify, e.To[0].ORcpt = "SUCCESS,failure", "rfc822;o=x@example.org"
		}, "MAIL FROM:<s@example.edu> SIZE=40 BODY=8BITMIME RET=HDRS ENVID=a+20b+2Bc", "RCPT TO:<r0@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o+3Dx@example.org", "delivered"},
		{"none offered", none, func(e *mail.Envelope) {
			e.Body, e.Ret, e.EnvID = mail.Body8Bit, "HDRS", "a b"
			e.To[0].Notify, e.To[0].ORcpt = "NEVER", "rfc822;o@example.org"
		}, "MAIL FROM:<s@example.edu>", "RCPT TO:<r0@example.org>", "delivered"},
		{"hostile ones", all, func(e *mail.Envelope) {
			e.Ret, e.EnvID = "HDRS X=1", "a\r\nRSET"
			e.To[0].Notify, e.To[0].ORcpt = "NEVER X=1", "rf c;o@example.org"
		}, "MAIL FROM:<s@example.edu> SIZE=40", "RCPT TO:<r0@example.org>", "delivered"},
		{"null sender, quoted recipient", none, func(e *mail.Envelope) {
			e.From = mail.Address{}
			e.To[0].Address = mail.Address{Local: `a> SIZE=1 "b`, Domain: "example.org"}
		}, "MAIL FROM:<>", `RCPT TO:<"a> SIZE=1 \"b"@example.org>`, "delivered"},
		{"line end in an address", none, func(e *mail.Envelope) { e.To[0].Address.Local = "a\r\nRSET" }, "", "", "failed 5.1.3"},
		{"line end in the sender", none, func(e *mail.Envelope) { e.From.Local = "a\r\nRSET" }, "", "", "failed 5.1.7"},
		{"too large", "S 250-sink\nS 250 SIZE 39\n", func(*mail.Envelope) {}, "", "", "failed 5.3.4"},
		{"SIZE without a number", "S 250-sink\nS 250 SIZE\n", func(*mail.Envelope) {}, "MAIL FROM:<s@example.edu> SIZE=40", "RCPT TO:<r0@example.org>", "delivered"},
		{"UTF-8", all, func(e *mail.Envelope) {
			e.UTF8, e.From.Local = true, "ü"
			e.To[0].ORcpt = "utf-8;ü=@example.org"
		}, "MAIL FROM:<ü@example.edu> SIZE=40 SMTPUTF8", `RCPT TO:<r0@example.org> ORCPT=utf-8;ü\x{3D}@example.org`, "delivered"},
		{"UTF-8 sender, not offered", none, func(e *mail.Envelope) { e.UTF8, e.From.Local = true, "ü" }, "", "", "failed 5.6.7"},
		{"UTF-8 recipient, not offered", none, func(e *mail.Envelope) { e.UTF8, e.To[0].Address.Local = true, "ü" }, "", "", "failed 5.6.7"},
		{"UTF-8 domain, not offered", none, func(e *mail.Envelope) { e.UTF8, e.To[0].Address.Domain = true, "münchen.example" }, "MAIL FROM:<s@example.edu>", "RCPT TO:<r0@xn--mnchen-3ya.example>", "delivered"},
		{"asked for and not needed", none, func(e *mail.Envelope) { e.UTF8 = true }, "MAIL FROM:<s@example.edu>", "RCPT TO:<r0@example.org>", "delivered"},
		{"utf-8 ORCPT in ASCII", "S 250-sink\nS 250 DSN\n", func(e *mail.Envelope) { e.To[0].ORcpt = "utf-8;ü@example.org" }, "MAIL FROM:<s@example.edu>", `RCPT TO:<r0@example.org> ORCPT=utf-8;\x{FC}@example.org`, "delivered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := "S 220 sink\nC EHLO\n" + c.offer + "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT"
			if c.mail == "" {
				script = "S 220 sink\nC EHLO\n" + c.offer + "W"
			}
			s := newSink(t, script)
			e := entry(1)
			e.Size = 40
			c.edit(&e.Envelope)
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}})
			got := courier.Deliver(t.Context(), e, bodyOf(content), indexes(1))
			outcome, status, _ := strings.Cut(c.want, " ")
			if outcomes(got) != outcome || status != "" && got[0].Status.Enhanced.String() != status {
				t.Errorf("%+v", got)
			}
			if tells := outcome == "delivered" && strings.Contains(c.offer, "DSN"); got[0].DSN != tells {
				t.Errorf("the next hop will tell of success: %v", got[0].DSN)
			}
			if lines := s.received(); c.mail != "" && (lines[1] != c.mail || lines[2] != c.rcpt) {
				t.Errorf("sent %q\nwant %q\n     %q", lines[1:3], c.mail, c.rcpt)
			}
		})
	}
	t.Run("a header that needs SMTPUTF8, not offered", func(t *testing.T) {
		s := newSink(t, stepwise+"W")
		e := entry(1)
		e.Envelope.UTF8 = true
		got := newCourier(t, Options{Smarthosts: []string{s.addr()}}).Deliver(t.Context(), e, bodyOf("Subject: ü\r\n\r\n"), indexes(1))
		if outcomes(got) != "failed" || got[0].Status.Enhanced.String() != "5.6.7" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("some recipients can go, some cannot", func(t *testing.T) {
		s := newSink(t, stepwise+"C MAIL\nS 250 ok\nC RCPT TO:<r1@\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT")
		e := entry(2)
		e.Envelope.To[0].Address.Local = "ü"
		got := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}}).Deliver(t.Context(), e, bodyOf(content), indexes(2))
		if outcomes(got) != "failed delivered" {
			t.Errorf("%+v", got)
		}
	})
}

// randomBody is a header and lines of all sorts, none too long.
func randomBody(r *rand.Rand, size int) string {
	var b strings.Builder
	b.WriteString("Subject: round trip\r\n\r\n")
	for b.Len() < size {
		switch r.IntN(6) {
		case 0:
			b.WriteString(".")
		case 1:
			b.WriteString("..")
		case 2:
			b.WriteString(".hello.")
		case 3:
			b.WriteString(strings.Repeat("x", r.IntN(maxTextLine)))
		case 4:
			b.WriteString("grüße \t ")
		}
		b.WriteString("\r\n")
	}
	return b.String()
}
