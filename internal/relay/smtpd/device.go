package smtpd

import (
	"crypto/tls"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// Needed tells which leniencies of its device profile a client needed for one
// message: without them it would have been refused, or have gone out without
// the fields that were added.
type Needed struct {
	BareLF   bool // a bare LF was repaired
	OldTLS   bool // TLS older than 1.2, or a suite that is no longer offered to others
	Commands bool // a blank beside the colon, or no brackets around an address
	NoHELO   bool // neither HELO nor EHLO, or one without a name
	Headers  bool // Date or Message-ID was added
}

// each calls f with the word of each leniency that was needed; the words are
// the label of a metric.
func (n Needed) each(f func(word string)) {
	for _, l := range []struct {
		needed bool
		word   string
	}{{n.BareLF, "bare-lf"}, {n.OldTLS, "old-tls"}, {n.Commands, "commands"}, {n.NoHELO, "no-helo"}, {n.Headers, "headers"}} {
		if l.needed {
			f(l.word)
		}
	}
}

// device is the leniency profile of the client; strict where there is none.
func (c *conn) device() registration.Device {
	v := c.verdict
	if c.tx != nil {
		v = c.tx.verdict
	}
	if h := v.Host; h != nil {
		return h.Device
	}
	return registration.Device{BareLF: "reject", TLS: "modern", Commands: "strict", AddHeaders: true}
}

// sloppy reports whether commands are understood that are not as the standard
// has them. Whoever may not send can only prove control, and must hear at RCPT
// why it may not send: that its commands are sloppy would hide that.
func (c *conn) sloppy() bool {
	return c.verdict.Standing != policy.Registered || c.device().Commands == "sloppy"
}

// withoutHELO begins the session of a client that says no HELO, for go-smtp
// must hear one. The command that came instead is looked at again behind it.
func (c *conn) withoutHELO(line string) {
	c.greeted, c.esmtp, c.noHELO, c.helo = true, false, true, ""
	c.pushed = line
	c.handOut("HELO client")
	c.swallow = true
}

// tlsConfig is what STARTTLS would use; nil where it is not offered.
func (c *conn) tlsConfig() *tls.Config { return c.srv.tls.forDevice(c.device().TLS) }
