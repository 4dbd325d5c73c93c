package deliver

import (
	"io"
	"strings"
	"testing"
)

const (
	offersChunks = "S 220 sink\nC EHLO\nS 250-sink\nS 250-PIPELINING\nS 250 CHUNKING\n"
	taken        = "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\n"
)

// sized is a message of n octets.
func sized(n int) string {
	s := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", n/64+2)
	return s[:n-2] + "\r\n"
}

func TestChunks(t *testing.T) {
	for _, c := range []struct {
		name   string
		script string
		body   string
		broken bool
		rcpts  int
		want   string
		status string
		wire   string // of the chunks together; "" for the body as it is
	}{
		{name: "one", script: offersChunks + taken + "D 40 LAST\nS 250 2.0.0 ok\nC QUIT", body: content, want: "delivered", status: "250 2.0.0 ok"},
		{name: "without PIPELINING", script: strings.Replace(offersChunks, "S 250-PIPELINING\n", "", 1) + taken + "D 40 LAST\nS 250 ok\nC QUIT", body: content, want: "delivered", status: "250 ok"},
		{name: "nothing", script: offersChunks + taken + "D 0 LAST\nS 250 ok\nC QUIT", want: "delivered", status: "250 ok"},
		{name: "just one", script: offersChunks + taken + "D 65536 LAST\nS 250 ok\nC QUIT", body: sized(chunk), want: "delivered", status: "250 ok"},
		{name: "an octet more", script: offersChunks + taken + "D 65536\nS 250 more\nD 3 LAST\nS 250 ok\nC QUIT", body: sized(chunk + 3), want: "delivered", status: "250 ok"},
		{name: "many, ahead of the replies", script: offersChunks + taken + strings.Repeat("D 65536\n", 8) + "S 250 1\nD 65536\nS 250 2\nD 64 LAST\n" + strings.Repeat("S 250 more\n", 7) + "S 250 ok\nC QUIT", body: sized(9*chunk + 64), want: "delivered", status: "250 ok"},
		{name: "many, each with its reply", script: strings.Replace(offersChunks, "S 250-PIPELINING\n", "", 1) + taken + "D 65536\nS 250 1\nD 65536\nS 250 2\nD 64 LAST\nS 250 ok\nC QUIT", body: sized(2*chunk + 64), want: "delivered", status: "250 ok"},
		{name: "a long line is folded, a dot is not doubled", script: offersChunks + taken + "D 1011 LAST\nS 250 ok\nC QUIT", body: "\r\n.\r\n" + strings.Repeat("x", 1002) + "\r\n", want: "delivered", status: "250 ok",
			wire: "\r\n.\r\n" + strings.Repeat("x", 998) + "\r\nxxxx\r\n"},

		{name: "no recipient, no chunk", script: offersChunks + "C MAIL\nS 250 ok\nC RCPT\nS 550 5.1.1 no\nC QUIT", body: content, want: "failed", status: "550 5.1.1 no", wire: "-"},
		{name: "no sender, no chunk", script: offersChunks + "C MAIL\nS 550 5.1.8 no\nC RCPT\nS 503 no\nC QUIT", body: content, want: "failed", status: "550 5.1.8 no", wire: "-"},
		{name: "recipients in part", rcpts: 2, script: offersChunks + "C MAIL\nS 250 ok\nC RCPT\nS 550 5.1.1 no\nC RCPT\nS 250 ok\nD 40 LAST\nS 250 ok\nC QUIT", body: content, want: "failed delivered", status: "550 5.1.1 no"},
		{name: "the message is refused", script: offersChunks + taken + "D 40 LAST\nS 554 5.7.1 spam\nC QUIT", body: content, want: "failed", status: "554 5.7.1 spam"},
		{name: "a chunk is refused", script: offersChunks + taken + strings.Repeat("D 65536\n", 8) + "S 552 5.3.4 too much\nC QUIT", body: sized(20 * chunk), want: "failed", status: "552 5.3.4 too much", wire: "-"},
		{name: "one is refused behind the last", script: offersChunks + taken + "D 65536\nD 64 LAST\nS 452 4.3.1 full\nS 503 5.5.1 no\nC QUIT", body: sized(chunk + 64), want: "deferred", status: "452 4.3.1 full"},
		{name: "a good reply to a chunk is none to the message", script: offersChunks + taken + "D 65536\nD 64 LAST\nS 250 more\nX", body: sized(chunk + 64), want: "deferred", status: "451 4.4.2"},
		{name: "BDAT unknown", script: offersChunks + taken + "D 40 LAST\nS 502 5.5.1 what\nC QUIT", body: content, want: "deferred", status: "502 5.5.1 what"},
		{name: "our body breaks", script: offersChunks + taken + "D 65536\nS 250 ok\nD 65536\nW", body: sized(2*chunk + 100), broken: true, want: "deferred", status: "451 4.3.0", wire: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, c.script)
			body := bodyOf(c.body)
			if c.broken {
				body = brokenBody(c.body)
			}
			n := max(c.rcpts, 1)
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}})
			got := courier.Deliver(t.Context(), entry(n), body, indexes(n))
			if outcomes(got) != c.want || !strings.HasPrefix(got[0].Status.String(), c.status) {
				t.Errorf("%+v", got)
			}
			var wire strings.Builder
			for _, line := range s.received() {
				if !strings.HasPrefix(line, "EHLO") && !strings.HasPrefix(line, "MAIL") && !strings.HasPrefix(line, "RCPT") && line != "QUIT" {
					wire.WriteString(line)
				}
			}
			if want := c.wire; want != "-" && wire.String() != want && (want != "" || wire.String() != c.body) {
				t.Errorf("sent %d octets, want %d: %.200q", wire.Len(), len(c.body), &wire)
			}
		})
	}
}

// A connection over which BDAT went well is used again; a next hop that offers
// CHUNKING and does not know BDAT gets DATA from then on.
func TestChunksAgain(t *testing.T) {
	s := newSink(t,
		offersChunks+taken+"D 40 LAST\nS 250 ok\n"+taken+"D 40 LAST\nS 502 what\nC QUIT",
		offersChunks+taken+"C DATA\nS 354 go\nB\nS 250 ok\n"+taken+"C DATA\nS 354 go\nB\nS 250 ok\nW")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}})
	for i, want := range []string{"delivered", "deferred", "delivered", "delivered"} {
		if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != want {
			t.Errorf("message %d: %+v", i, got)
		}
	}
}

func TestNoChunking(t *testing.T) {
	s := newSink(t, offersChunks+taken+"C DATA\nS 354 go\nB\nS 250 ok\nW")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, NoChunking: true})
	if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
		t.Errorf("%+v", got)
	}
}

// A peer that hangs up or stops reading in the middle of the chunks.
func TestChunksInterrupted(t *testing.T) {
	big := func() (io.ReadCloser, error) { return bodyOf(sized(200 * chunk))() }
	for _, c := range []struct{ name, after, want, status string }{
		{"closes", "X", "deferred", "451 4.4.2"},
		{"never reads", "Z", "deferred", "451 4.4.2"},
		{"refuses for good, reads on, closes", "S 552 5.3.4 too large\nH", "failed", "552 5.3.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, offersChunks+taken+c.after)
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Timeouts: fast()})
			got := courier.Deliver(t.Context(), entry(1), big, indexes(1))
			if outcomes(got) != c.want || !strings.HasPrefix(got[0].Status.String(), c.status) {
				t.Errorf("%+v", got)
			}
		})
	}
}
