package deliver

import (
	"context"
	"errors"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// Causes that decide what happens next.
var (
	errHandshake = errors.New("TLS handshake failed") // clear text may be tried
	errInjected  = errors.New("clear text injected")  // it may not: somebody is in between
)

// ErrNoTLS is a next hop that does not offer STARTTLS, or declines it.
var ErrNoTLS = errors.New("TLS is demanded, and the peer does not take it")

// The statuses below are of what happened here rather than was said by a next
// hop. RFC 3463 §3.

func temporary(subject, detail int, text string) mail.Status {
	return mail.Status{Code: mail.CodeLocalError, Enhanced: mail.Enhanced{4, subject, detail}, Text: mail.Printable(text, maxReplyText)}
}

func statusLocal() mail.Status { return temporary(3, 0, "trouble on this relay, trying again") }

// statusLost is for a session that ended in the middle.
func statusLost(hop string, err error) mail.Status {
	if errors.Is(err, errGarbled) {
		return temporary(5, 0, hop+" does not answer in SMTP")
	}
	return temporary(4, 2, "the connection with "+hop+" broke")
}

func statusDNS(name string) mail.Status {
	return temporary(4, 3, "the DNS gives no answer about "+name+" now")
}

// statusUnreached is for a host with which no session came about.
func statusUnreached(h host, err error) mail.Status {
	switch {
	case untrusted(err):
		return temporary(7, 5, "the certificate of "+h.name+" is not what is demanded of it")
	case errors.Is(err, ErrNoTLS), errors.Is(err, errHandshake), errors.Is(err, errInjected):
		return temporary(7, 10, "no encrypted connection with "+h.name+" is possible")
	case errors.Is(err, errGarbled):
		return temporary(5, 0, h.name+" does not answer in SMTP")
	}
	return temporary(4, 1, "no answer from "+h.name)
}

// failed is a permanent result of our own.
func failed(code mail.Code, enhanced mail.Enhanced, text string) mail.Result {
	return mail.Result{
		Outcome: mail.Failed,
		Status:  mail.Status{Code: code, Enhanced: enhanced, Text: mail.Printable(text, maxReplyText)},
		Cause:   "deliver: " + text,
	}
}

// noRequireTLS is the result for mail that says REQUIRETLS, at a host that does
// not know it. RFC 8689 §5.
func noRequireTLS(host string) mail.Result {
	return failed(mail.CodeRefused, mail.Enhanced{5, 7, 30}, host+" does not offer REQUIRETLS")
}

// unknown is the result for a host without an address. Only a domain that
// names it so can be told to be wrong; a smarthost is our own to mend.
func (c *Courier) unknown(h host, err error) mail.Result {
	if notFound(err) && !h.smart {
		r := failed(mail.CodeRefused, mail.Enhanced{5, 4, 4}, "there is no address for "+h.name)
		if h.implicit {
			r = failed(mail.CodeRefused, mail.Enhanced{5, 1, 2}, "there is no mail server for "+h.name)
		}
		r.Cause = err.Error()
		return r
	}
	return mail.Result{Status: statusDNS(h.name), Cause: err.Error()}
}

// failures sums up hosts that could not be used. One that may work later
// outweighs those that refused for good, and of these a host that spoke
// outweighs one that did not.
type failures struct {
	best   mail.Result
	rank   int
	causes []string
}

func (f *failures) add(r mail.Result) {
	f.causes = append(f.causes, r.Cause)
	rank := 1
	switch {
	case r.Outcome == mail.Deferred && r.RemoteMTA != "":
		rank = 4
	case r.Outcome == mail.Deferred:
		rank = 3
	case r.RemoteMTA != "":
		rank = 2
	}
	if rank >= f.rank {
		f.best, f.rank = r, rank
	}
}

func (f *failures) result(ctx context.Context) mail.Result {
	if err := context.Cause(ctx); err != nil { // cut short: what is known is not all there is
		return mail.Result{Status: statusLocal(), Cause: strings.Join(append(f.causes, "deliver: "+err.Error()), "; ")}
	}
	r := f.best
	r.Cause = strings.Join(f.causes, "; ")
	return r
}

// all is the same result for n recipients.
func all(r mail.Result, n int) []mail.Result {
	out := make([]mail.Result, n)
	for i := range out {
		out[i] = r
	}
	return out
}
