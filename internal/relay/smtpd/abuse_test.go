package smtpd

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
)

// A message whose body was under way is kept, for the queue holds it; nothing
// is obeyed behind it.
func TestABlockDuringABodyHoldsBehindIt(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.send("Subject: x\r\n\r\nhalf of it")
	f.campus.set(strictClient, policy.Blocked)
	c.send(", and the rest\r\n.\r\nMAIL FROM:<a@example.edu>\r\n")
	c.want("250 2.0.0 accepted as Q1")
	c.want("554 5.7.1 127.0.0.2 is blocked")
	c.wantClosed()

	f.campus.set(strictClient, policy.Registered)
	c = f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	c.send("BDAT 14\r\nSubject: x\r\n\r\n")
	c.want("250 2.0.0 14 octets")
	f.campus.set(strictClient, policy.Blocked)
	c.do("BDAT 3 LAST\r\nx", "554 5.7.1 127.0.0.2 is blocked")
	c.wantClosed()
	f.cancel()
	f.served.Wait()
	if len(f.store.all()) != 1 || f.store.aborted != 1 {
		t.Errorf("%d stored, %d aborted", len(f.store.all()), f.store.aborted)
	}
}

func TestStrangersLeaveRoomForTheRegistered(t *testing.T) {
	f := start(t, Limits{Sessions: 8, Refusal: time.Second})
	for range 2 {
		f.dial(t, "127.0.0.6", relayPort).want("220")
	}
	f.dial(t, "127.0.0.7", relayPort).want("421 4.7.0 too many connections at once; ")
	for range 6 {
		f.dial(t, strictClient, relayPort).want("220")
	}
	f.dial(t, strictClient, relayPort).want("421 4.7.0 too many connections at once; ")
}

func TestMailForThePostmasterOfThisHostGoesToThePerson(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<a@example.edu>", "250")
	for _, to := range []string{"<Postmaster>", "<postmaster@RELAY.example.edu>", "<postmaster@example.org>"} {
		c.do("RCPT TO:"+to, "250 2.1.5 "+to)
	}
	c.do("DATA", "354")
	c.do(".", "250")
	var got []string
	for _, to := range f.store.all()[0].env.To {
		got = append(got, to.Address.String())
	}
	if want := []string{"postmaster@example.edu", "postmaster@example.edu", "postmaster@example.org"}; !slices.Equal(got, want) {
		t.Errorf("recipients %q", got)
	}
}

// A storm of refused connections is a few lines in the log, and one that says how
// many had none.
func TestAStormIsNotLoggedLineByLine(t *testing.T) {
	var clock atomic.Int64
	f := start(t, quick, func(o *Options) {
		o.Now = func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
	})
	refused := func(times int) (lines int) {
		before := strings.Count(f.log.String(), "event=smtp.refused")
		for range times {
			c := f.dial(t, "127.0.0.5", relayPort)
			c.want("554 5.7.1")
			_ = c.nc.Close()
		}
		return strings.Count(f.log.String(), "event=smtp.refused") - before
	}
	if n := refused(refusalLines + 50); n != refusalLines {
		t.Errorf("%d lines", n)
	}
	clock.Add(10)
	if n := refused(2); n != 2 {
		t.Errorf("%d lines of 2 in the next window", n)
	}
	if log := f.log.String(); strings.Count(log, "event=smtp.storm") != 1 || !strings.Contains(log, "event=smtp.storm count=50\n") {
		t.Errorf("no line says how many had none, or several do")
	}
}
