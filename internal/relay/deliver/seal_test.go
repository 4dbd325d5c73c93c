package deliver

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A fakeSigner keeps what it was given.
type fakeSigner struct {
	fields string
	err    error
	got    []string
}

func (f *fakeSigner) Sign(write func(io.Writer) error) (string, error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return "", err
	}
	f.got = append(f.got, b.String())
	return f.fields, f.err
}

// What is signed is what is sent, and it is signed once, however many next
// hops are asked.
func TestSeal(t *testing.T) {
	const fields = "DKIM-Signature: v=1;\r\n b=x\r\n"
	long := "Subject: x\r\n\r\n.dot\r\n" + strings.Repeat("x", 1000) + "\r\n"
	folded := "Subject: x\r\n\r\n.dot\r\n" + strings.Repeat("x", 998) + "\r\nxx\r\n"
	s := newSink(t,
		"S 220 sink\nC EHLO\nS 250-sink\nS 250 SIZE\nC MAIL FROM:<s@example.edu> SIZE=68\nS 451 later\nC QUIT",
		"S 220 sink\nC EHLO\nS 250-sink\nS 250 SIZE\nC MAIL FROM:<s@example.edu> SIZE=68\nS 250 ok\nC RCPT\nS 250 ok\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT")
	signer := &fakeSigner{fields: fields}
	c := newCourier(t, Options{
		Smarthosts: []string{"a.example", "b.example"}, Signer: signer, Reuse: Reuse{Messages: 1},
		Resolver: zone{ip: map[string][]string{"a.example": {"192.0.2.1"}, "b.example": {"192.0.2.2"}}},
		Dialer:   dialMap{"192.0.2.1:25": s.addr(), "192.0.2.2:25": s.addr()},
	})
	e := entry(1)
	e.Size = 40
	if got := c.Deliver(t.Context(), e, bodyOf(long), indexes(1)); outcomes(got) != "delivered" {
		t.Fatalf("%+v", got)
	}
	if len(signer.got) != 1 || signer.got[0] != folded {
		t.Errorf("signed %.100q", signer.got)
	}
	lines := s.received()
	if sent := lines[len(lines)-2]; sent != fields+strings.Replace(folded, ".dot", "..dot", 1) {
		t.Errorf("sent %.100q", sent)
	}
	if n := testutil.ToFloat64(c.metrics.signatures.WithLabelValues("signed")); n != 1 {
		t.Errorf("%v signed", n)
	}
}

func TestSealThatCannotBeMade(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		bad     bool
		script  string
		want    string
		counted string
	}{
		{"a message that cannot be signed goes without", errors.New("no From"), false, accepted + "B\nS 250 ok\nC QUIT", "delivered", "failed"},
		{"one that is not ours goes without", nil, false, accepted + "B\nS 250 ok\nC QUIT", "delivered", "none"},
		{"one that cannot be read waits", nil, true, "W", "deferred", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, pipelined+c.script)
			var log bytes.Buffer
			courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Signer: &fakeSigner{err: c.err}, Reuse: Reuse{Messages: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			body := bodyOf(content)
			if c.bad {
				body = brokenBody(content)
			}
			if got := courier.Deliver(t.Context(), entry(1), body, indexes(1)); outcomes(got) != c.want {
				t.Errorf("%+v", got)
			}
			for _, result := range []string{"signed", "none", "failed"} {
				want := 0.0
				if result == c.counted {
					want = 1
				}
				if n := testutil.ToFloat64(courier.metrics.signatures.WithLabelValues(result)); n != want {
					t.Errorf("%v %s", n, result)
				}
			}
			if strings.Contains(log.String(), "event=deliver.unsigned") != (c.err != nil) {
				t.Errorf("log: %s", &log)
			}
		})
	}
}
