package smtpd

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
)

// A pedal is a Brake that says what it is told to, and remembers what it sees.
type pedal struct {
	mu     sync.Mutex
	said   *Braked // nil: go on
	asked  int
	seen   []string
	bodies []uint64
}

func (p *pedal) Ask(_ policy.Verdict, m Sent, _ time.Time) (Braked, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.said == nil {
		return Braked{}, true
	}
	return *p.said, false
}

func (p *pedal) note(what string, m Sent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var to []string
	for _, r := range m.To {
		to = append(to, r.Address.Local)
	}
	p.seen = append(p.seen, fmt.Sprintf("%s %s>%s %d", what, m.From.Local, strings.Join(to, "+"), m.Octets))
	p.bodies = append(p.bodies, m.Body)
}

func (p *pedal) Refused(_ policy.Verdict, m Sent, _ time.Time)  { p.note("refused", m) }
func (p *pedal) Accepted(_ policy.Verdict, m Sent, _ time.Time) { p.note("accepted", m) }

func (p *pedal) press(b *Braked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = b
}

func TestTheBrakeIsAskedAndTold(t *testing.T) {
	p, budget := &pedal{}, plenty()
	f := start(t, quick, func(o *Options) { o.Brake, o.Limiter = p, budget })
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	c.do("RCPT TO:<c@example.org>", "250")
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\nhello\r\n.", "250 2.0.0 accepted")
	if p.asked != 1 {
		t.Errorf("asked %d times for one message", p.asked)
	}
	budget.mu.Lock()
	budget.most.Recipients = 3
	budget.mu.Unlock()
	c.do("MAIL FROM:<a@example.edu> SIZE=77", "250")
	c.do("RCPT TO:<b@example.org>", "250")
	c.do("RCPT TO:<c@example.org>", "452 4.5.3")
	c.do("RSET", "250")
	until := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		said Braked
		want string
	}{
		{Braked{Every: 30 * time.Second, Why: "the same text went to 2,000 different recipients in a day", Until: until},
			"451 4.7.1 127.0.0.2 may send one message in 30s until 2026-11-24 12:00:00 UTC, all machines of registrations/lsa-physics/mfp.cue together: the same text went to 2,000 different recipients in a day; write to postmaster@example.edu"},
		{Braked{Why: "this", Until: time.Time{}}, "451 4.7.1 the mail of registrations/lsa-physics/mfp.cue waits until somebody has looked at it: this; write to postmaster@example.edu"},
		{Braked{Blocked: true, Why: "that", Until: until}, "550 5.7.1 the machines of registrations/lsa-physics/mfp.cue are blocked until 2026-11-24 12:00:00 UTC: that; write to postmaster@example.edu"},
	} {
		p.press(&tt.said)
		c.do("MAIL FROM:<a@example.edu>", "250")
		c.do("RCPT TO:<b@example.org>", tt.want)
		c.do("RSET", "250")
	}
	want := "accepted a>b+c 21, refused a>c+b 77"
	if got := strings.Join(p.seen, ", "); got != want {
		t.Errorf("it saw %s", got)
	}
}

// What is the same text to people is the same to the brake.
func TestBodiesAreToldApart(t *testing.T) {
	mime := func(boundary, text string) string {
		return "Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\n\r\n" + text + "\r\n--" + boundary + "--"
	}
	tests := []struct {
		name, a, b string
		same       bool
	}{
		{"alike", "Subject: x\r\n\r\nhello", "Subject: x\r\n\r\nhello", true},
		{"another header", "Subject: x\r\n\r\nhello", "Subject: y\r\nTo: you\r\n\r\nhello", true},
		{"another text", "Subject: x\r\n\r\nhello", "Subject: x\r\n\r\nhello!", false},
		{"another boundary", mime("a1", "hello"), mime("b22", "hello"), true},
		{"another part", mime("a1", "hello"), mime("a1", "goodbye"), false},
		{"no header", "hello you\r\nand you", "hello you\r\nand you", true},
		{"no header, and another text", "hello you\r\nand you", "hello me\r\nand you", false},
		{"lines in other places", "Subject: x\r\n\r\nhello\r\nyou", "Subject: x\r\n\r\nhelloyou", false},
		{"longer than one piece", "Subject: x\r\n\r\n" + strings.Repeat("0123456789", 5000), "Subject: y\r\n\r\n" + strings.Repeat("0123456789", 5000), true},
	}
	p := &pedal{}
	f := start(t, quick, func(o *Options) { o.Brake = p })
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	send := func(text string) {
		c.transaction()
		c.do("DATA", "354")
		c.do(text+"\r\n.", "250 2.0.0 accepted")
	}
	for _, tt := range tests {
		p.bodies = nil
		send(tt.a)
		send(tt.b)
		if p.bodies[0] == 0 || (p.bodies[0] == p.bodies[1]) != tt.same {
			t.Errorf("%s: %x", tt.name, p.bodies)
		}
	}
	p.bodies = nil
	send("Subject: nothing\r\n")
	send("Subject: nothing\r\n\r\n--x\r\n--x--")
	if p.bodies[0] != 0 || p.bodies[1] != 0 {
		t.Errorf("an empty body has a digest: %x", p.bodies)
	}
}
