package deliver

import (
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

const (
	pipelined = "S 220 sink\nC EHLO relay.example.edu\nS 250-sink\nS 250 PIPELINING\n"
	stepwise  = "S 220 sink\nC EHLO relay.example.edu\nS 250 sink\n"
	accepted  = "C MAIL FROM:<s@example.edu>\nS 250 ok\nC RCPT TO:<r0@\nS 250 ok\nC DATA\nS 354 go\n"
)

// TestDialog has every class of reply at every command, with PIPELINING and
// without. "-" in hello means that the script stands for itself.
func TestDialog(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name    string
		rcpts   int    // default 1
		hello   string // default: both
		script  string // lines beginning with P are for PIPELINING only
		want    string // outcomes
		code    mail.Code
		status  string // enhanced
		stalls  bool   // the short timeouts
		ours    bool   // the status is not the next hop's
		badBody bool
	}{
		{name: "delivered", script: accepted + "B\nS 250 2.0.0 queued\nC QUIT", want: "delivered", code: 250, status: "2.0.0"},
		{name: "delivered, multi-line replies", script: "C MAIL\nS 250-one\nS 250 two\nC RCPT\nS 250-2.1.5 a\nS 250-2.1.5 b\nS 250 2.1.5 c\nC DATA\nR 354-x\\r\\n354\\r\\n\nB\nS 250-2.0.0 a\nS 250 2.0.0 b\nC QUIT", want: "delivered", code: 250, status: "2.0.0"},
		{name: "delivered, bare LF and no text", script: "C MAIL\nR 250\\n\nC RCPT\nR 250 ok\\n\nC DATA\nR 354\\n\nB\nR 250\\n\nC QUIT", want: "delivered", code: 250},

		{name: "greeting 421", hello: "-", script: "S 421 4.3.2 later", want: "deferred", code: 421, status: "4.3.2"},
		{name: "greeting 450", hello: "-", script: "S 450 later\nC QUIT", want: "deferred", code: 450},
		{name: "greeting 554", hello: "-", script: "S 554 5.7.1 go away\nC QUIT", want: "deferred", code: 554, status: "5.7.1"}, // a smarthost; MX in TestHostRefuses
		{name: "greeting 250", hello: "-", script: "S 250 what\nC QUIT", want: "deferred", code: 250},
		{name: "greeting garbage", hello: "-", script: "S SSH-2.0-OpenSSH", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "greeting empty line", hello: "-", script: "S ", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "greeting closed", hello: "-", script: "X", want: "deferred", code: 451, status: "4.4.1", ours: true},
		{name: "greeting half-closed", hello: "-", script: "H", want: "deferred", code: 451, status: "4.4.1", ours: true},
		{name: "greeting stalls", hello: "-", script: "W", want: "deferred", code: 451, status: "4.4.1", ours: true, stalls: true},
		{name: "greeting half a line", hello: "-", script: "R 220 hel", want: "deferred", code: 451, status: "4.4.1", ours: true},
		{name: "greeting oversize line", hello: "-", script: "S 220 " + long + "\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "greeting too many lines", hello: "-", script: strings.Repeat("S 220-x\n", maxReplyLines+1) + "W", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "greeting of two codes", hello: "-", script: "S 220-x\nS 554 y\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},

		{name: "EHLO unknown, HELO", hello: "-", script: "S 220 old\nC EHLO\nS 502 what\nC HELO relay.example.edu\nS 250 old\n" + accepted + "B\nS 250 ok\nC QUIT", want: "delivered", code: 250},
		{name: "EHLO and HELO refused", hello: "-", script: "S 220 x\nC EHLO\nS 550 no\nC HELO\nS 550 5.7.1 no\nC QUIT", want: "deferred", code: 550, status: "5.7.1"},
		{name: "EHLO 451", hello: "-", script: "S 220 x\nC EHLO\nS 451 later\nC QUIT", want: "deferred", code: 451},
		{name: "EHLO 421", hello: "-", script: "S 220 x\nC EHLO\nS 421 bye", want: "deferred", code: 421},
		{name: "EHLO closed", hello: "-", script: "S 220 x\nC EHLO\nX", want: "deferred", code: 451, status: "4.4.1", ours: true},
		{name: "EHLO stalls", hello: "-", script: "S 220 x\nC EHLO\nW", want: "deferred", code: 451, status: "4.4.1", ours: true, stalls: true},
		{name: "EHLO garbage", hello: "-", script: "S 220 x\nC EHLO\nS 99 bottles\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},

		{name: "MAIL 451", script: "C MAIL\nS 451 4.7.1 greylisted\nP C RCPT\nP S 503 need MAIL\nP C DATA\nP S 503 need RCPT\nC QUIT", want: "deferred", code: 451, status: "4.7.1"},
		{name: "MAIL 550", rcpts: 2, script: "C MAIL\nS 550 5.1.8 no sender\nP C RCPT\nP S 503 no\nP C RCPT\nP S 503 no\nP C DATA\nP S 503 no\nC QUIT", want: "failed failed", code: 550, status: "5.1.8"},
		{name: "MAIL 421", script: "C MAIL\nS 421 4.3.2 bye\nX", want: "deferred", code: 421, status: "4.3.2"},
		{name: "MAIL 354", script: "C MAIL\nS 354 what\nP C RCPT\nP S 503 no\nP C DATA\nP S 503 no\nC QUIT", want: "deferred", code: 354},
		{name: "MAIL garbage", script: "C MAIL\nS ok then\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "MAIL closed", script: "C MAIL\nX", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "MAIL stalls", script: "C MAIL\nW", want: "deferred", code: 451, status: "4.4.2", ours: true, stalls: true},
		{name: "MAIL half-closed", script: "C MAIL\nH", want: "deferred", code: 451, status: "4.4.2", ours: true},

		{name: "RCPT 550", script: "C MAIL\nS 250 ok\nC RCPT\nS 550 5.1.1 nobody\nP C DATA\nP S 503 no recipients\nC QUIT", want: "failed", code: 550, status: "5.1.1"},
		{name: "RCPT 450", script: "C MAIL\nS 250 ok\nC RCPT\nS 450 4.2.1 later\nP C DATA\nP S 554 no recipients\nC QUIT", want: "deferred", code: 450, status: "4.2.1"},
		{name: "RCPT refused, 354 all the same", hello: pipelined, script: "C MAIL\nS 250 ok\nC RCPT\nS 550 no\nC DATA\nS 354 go\nB\nS 250 well\nC QUIT", want: "failed", code: 550},
		{name: "MAIL refused, 354 all the same", hello: pipelined, script: "C MAIL\nS 550 no\nC RCPT\nS 550 no\nC DATA\nS 354 go\nB\nS 554 no\nC QUIT", want: "failed", code: 550},
		{name: "RCPT in part", rcpts: 4, script: "C MAIL\nS 250 ok\nC RCPT\nS 550 5.1.1 no\nC RCPT\nS 250 ok\nC RCPT\nS 452 4.2.2 full\nC RCPT\nS 251 forwarding\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT", want: "failed delivered deferred delivered", code: 550},
		{name: "RCPT in part, then 554", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 450 later\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 554 5.7.1 spam\nC QUIT", want: "deferred failed", code: 450},
		{name: "RCPT 552 meaning too many", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 552 too many\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT", want: "delivered deferred", code: 250},
		{name: "RCPT 552 meaning full", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 552 5.2.2 full\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT", want: "delivered failed", code: 250},
		{name: "RCPT 421 in the middle", rcpts: 3, script: "C MAIL\nS 250 ok\nC RCPT\nS 550 no\nC RCPT\nS 250 ok\nC RCPT\nS 421 bye\nX", want: "failed deferred deferred", code: 550},
		{name: "RCPT 354", script: "C MAIL\nS 250 ok\nC RCPT\nS 354 what\nP C DATA\nP S 503 no\nC QUIT", want: "deferred", code: 354},
		{name: "RCPT garbage in the middle", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 550 no\nC RCPT\nS +OK\nW", want: "failed deferred", code: 550},
		{name: "RCPT closed in the middle", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nX", want: "deferred deferred", code: 451, status: "4.4.2", ours: true},
		{name: "RCPT stalls", script: "C MAIL\nS 250 ok\nC RCPT\nW", want: "deferred", code: 451, status: "4.4.2", ours: true, stalls: true},

		{name: "DATA 451", script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 451 4.3.0 later\nC QUIT", want: "deferred", code: 451, status: "4.3.0"},
		{name: "DATA 554", rcpts: 2, script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 450 later\nC DATA\nS 554 5.7.1 no\nC QUIT", want: "failed deferred", code: 554, status: "5.7.1"},
		{name: "DATA 250", script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 250 done\nC QUIT", want: "deferred", code: 250},
		{name: "DATA 421", script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 421 bye\nX", want: "deferred", code: 421},
		{name: "DATA closed", script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nX", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "DATA stalls", script: "C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nW", want: "deferred", code: 451, status: "4.4.2", ours: true, stalls: true},

		{name: "dot 451", script: accepted + "B\nS 451 4.3.0 later\nC QUIT", want: "deferred", code: 451, status: "4.3.0"},
		{name: "dot 550", script: accepted + "B\nS 550 5.7.1 spam\nC QUIT", want: "failed", code: 550, status: "5.7.1"},
		{name: "dot 421", script: accepted + "B\nS 421 4.3.2 bye\nX", want: "deferred", code: 421, status: "4.3.2"},
		{name: "dot 354", script: accepted + "B\nS 354 more\nC QUIT", want: "deferred", code: 354},
		{name: "dot garbage", script: accepted + "B\nS 2x0 ok\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "dot oversize", script: accepted + "B\nS 250 " + long + "\nW", want: "deferred", code: 451, status: "4.5.0", ours: true},
		{name: "dot half a reply", script: accepted + "B\nR 250 o\nX", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "dot half a multi-line reply", script: accepted + "B\nS 250-ok\nX", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "dot closed", script: accepted + "B\nX", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "dot half-closed", script: accepted + "B\nH", want: "deferred", code: 451, status: "4.4.2", ours: true},
		{name: "dot stalls", script: accepted + "B\nW", want: "deferred", code: 451, status: "4.4.2", ours: true, stalls: true},
		{name: "dot class of enhanced code lies", script: accepted + "B\nS 550 2.0.0 ok\nC QUIT", want: "failed", code: 550},

		{name: "our body breaks", script: accepted + "B", want: "deferred", code: 451, status: "4.3.0", ours: true, badBody: true},
	} {
		hellos := []string{stepwise, pipelined}
		switch c.hello {
		case "":
		case "-":
			hellos = []string{""}
		default:
			hellos = []string{c.hello}
		}
		for _, hello := range hellos {
			name := c.name
			if hello == pipelined {
				name += ", pipelined"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSink(t, hello+c.script)
				o := Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}}
				if c.stalls {
					o.Timeouts = fast()
				}
				body := bodyOf(content)
				if c.badBody {
					body = brokenBody(content)
				}
				n := max(c.rcpts, 1)
				got := newCourier(t, o).Deliver(t.Context(), entry(n), body, indexes(n))
				if outcomes(got) != c.want {
					t.Errorf("outcomes %q, want %q: %+v", outcomes(got), c.want, got)
				}
				r := got[0]
				if r.Status.Code != c.code || c.status != "" && r.Status.Enhanced.String() != c.status {
					t.Errorf("status %v, want %d %s (%s)", r.Status, c.code, c.status, r.Cause)
				}
				if (r.RemoteMTA == "") != c.ours || !c.ours && r.RemoteMTA != "[127.0.0.1]" {
					t.Errorf("remote MTA %q, status is ours: %v", r.RemoteMTA, c.ours)
				}
				for _, r := range got {
					if r.At.IsZero() || time.Since(r.At) > time.Minute || (r.Cause == "") != (r.Outcome == mail.Delivered) || strings.ContainsAny(r.Cause+r.Status.Text, "\r\n\x00") {
						t.Errorf("result %+v", r)
					}
				}
				for _, line := range s.received() {
					if c.badBody && strings.HasPrefix(line, "Subject") {
						t.Errorf("half a body got its dot: %q", line)
					}
					if strings.HasPrefix(line, "Subject") && line != strings.ReplaceAll(content, "\r\n.", "\r\n..") {
						t.Errorf("body on the wire: %q", line)
					}
				}
			})
		}
	}
}

// A peer that hangs up or stops reading in the middle of a large body.
func TestBodyInterrupted(t *testing.T) {
	big := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<18)
	for _, c := range []struct {
		name, after, want string
		code              mail.Code
	}{
		{"closes", "X", "deferred", 451},
		{"never reads", "Z", "deferred", 451},
		{"refuses for good, reads on, closes", "S 552 5.3.4 too large\nH", "failed", 552},
		{"says ok too early", "S 250 ok\nX", "deferred", 451},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, pipelined+accepted+c.after)
			o := Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}, Timeouts: fast()}
			got := newCourier(t, o).Deliver(t.Context(), entry(1), bodyOf(big), indexes(1))
			if outcomes(got) != c.want || got[0].Status.Code != c.code {
				t.Errorf("%+v", got)
			}
		})
	}
}
