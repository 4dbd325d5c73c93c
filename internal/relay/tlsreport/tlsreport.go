// Package tlsreport tells domains that ask for it how TLS with their mail
// servers went: SMTP TLS reporting. It counts what happens, by day (UTC), domain
// and policy; after the end of a day it looks who wants a report, and sends it.
//
// It decides nothing about TLS, and judges nothing: package tlspolicy says what
// happened, and under which policy. It connects to nobody: a report is a message
// that is handed on.
//
// Invariants:
//   - Days, domains, policies and details are bounded; what is over a bound is
//     counted without its details, or not at all, and never held instead.
//   - A report goes to who the domain itself names, once; after a crash perhaps
//     twice, with the same id.
//   - Counts are kept over restarts, at most a minute behind.
//
// Reports go by mail (rua=mailto:) only. RFC 8460.
package tlsreport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
)

// Bounds on what is held.
const (
	maxDomains  = 10_000   // of one day
	maxPolicies = 4        // of one domain and day
	maxDetails  = 100      // of one policy
	maxOctets   = 16 << 20 // all policies and details together, as cost counts them
	maxDays     = 3        // the day itself and those before it whose reports have not gone
	maxInfo     = 300      // octets of one detail's text
	maxString   = 300      // octets of one line of a policy
	maxLines    = 50       // of one policy
)

// A Type is the kind of a policy. RFC 8460 §4.2.
type Type string

// The types.
const (
	STS  Type = "sts"
	TLSA Type = "tlsa"
	None Type = "no-policy-found"
)

// A Policy is under what a domain was delivered to.
type Policy struct {
	Type   Type     `json:"policy-type"`
	String []string `json:"policy-string,omitempty"` // its lines, or TLSA records
	Domain string   `json:"policy-domain"`
	MX     []string `json:"mx-host,omitempty"` // of STS: the patterns; of TLSA: the host
}

// A Result is how a session failed. RFC 8460 §4.3.
type Result string

// The results.
const (
	NoSTARTTLS     Result = "starttls-not-supported"
	HostMismatch   Result = "certificate-host-mismatch"
	Expired        Result = "certificate-expired"
	NotTrusted     Result = "certificate-not-trusted"
	Invalid        Result = "validation-failure"
	DNSSECInvalid  Result = "dnssec-invalid"
	DANERequired   Result = "dane-required"
	STSFetchError  Result = "sts-policy-fetch-error"
	STSInvalid     Result = "sts-policy-invalid"
	STSWebPKIError Result = "sts-webpki-invalid"
)

// A Failure is what failed, with whom.
type Failure struct {
	Result    Result     `json:"result-type"`
	Sending   netip.Addr `json:"sending-mta-ip,omitzero"`
	Host      string     `json:"receiving-mx-hostname,omitempty"`
	Receiving netip.Addr `json:"receiving-ip,omitzero"`
	Info      string     `json:"failure-reason-code,omitempty"` // for people; RFC 8460 §4.4 calls it so
}

// An Outbox stores a message that it then delivers. It must not be lost when it
// returns nil.
type Outbox interface {
	Send(ctx context.Context, env mail.Envelope, body []byte) error
}

// A Resolver answers what the DNS says. *net.Resolver and *dane.Resolver are two.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Options of a Book. All but Now, Logger and Registerer are required.
type Options struct {
	File       string       // where the counts are kept
	Hostname   string       // of this relay
	Contact    mail.Address // who answers for the reports
	Resolver   Resolver
	Outbox     Outbox
	Now        func() time.Time // default: time.Now
	Logger     *slog.Logger     // default: none
	Registerer prometheus.Registerer
}

// A Book is the counts. It is safe for concurrent use.
type Book struct {
	o       Options
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics

	mu    sync.Mutex
	days  map[string]map[string]*tally // guarded by mu, and so are the tallies; by day (2006-01-02) and domain
	held  int                          // guarded by mu; what cost says of all
	dirty bool                         // guarded by mu
}

// A tally is a domain on a day.
type tally struct {
	policies []*count
	after    time.Time // its report is tried again then
}

// A count is a domain on a day under one policy.
type count struct {
	policy   Policy
	ok, fail int64
	details  map[Failure]int64
}

// Session counts one session with a host of a domain; f is nil if all went well.
func (b *Book) Session(domain string, p Policy, f *Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.String, p.MX = bounded(p.String), bounded(p.MX)
	day := b.now().UTC().Format(time.DateOnly)
	domains := b.days[day]
	if domains == nil {
		domains = map[string]*tally{}
		b.days[day] = domains
		b.forget()
	}
	t := domains[domain]
	if t == nil {
		if len(domains) >= maxDomains {
			return
		}
		t = &tally{}
		domains[domain] = t
	}
	c := t.of(p)
	if c == nil {
		if c = b.add(t, p); c == nil {
			return
		}
	}
	b.dirty = true
	if f == nil {
		c.ok++
		return
	}
	c.fail++
	detail := *f
	detail.Info = mail.Printable(detail.Info, maxInfo)
	_, known := c.details[detail]
	if !known {
		if len(c.details) >= maxDetails || b.held+detail.cost() > maxOctets {
			return // it is counted above
		}
		b.held += detail.cost()
	}
	c.details[detail]++
}

// of is the count of a policy; nil if there is none yet.
func (t *tally) of(p Policy) *count {
	for _, c := range t.policies {
		if c.policy.Type == p.Type && slices.Equal(c.policy.String, p.String) && slices.Equal(c.policy.MX, p.MX) {
			return c
		}
	}
	return nil
}

// add makes the count of a policy; nil if there is no room. The caller holds mu.
func (b *Book) add(t *tally, p Policy) *count {
	if len(t.policies) >= maxPolicies || b.held+p.cost() > maxOctets {
		return nil
	}
	b.held += p.cost()
	c := &count{policy: p, details: map[Failure]int64{}}
	t.policies = append(t.policies, c)
	return c
}

// drop forgets a domain of a day. The caller holds mu.
func (b *Book) drop(day, domain string) {
	t := b.days[day][domain]
	if t == nil {
		return
	}
	b.held -= t.cost()
	delete(b.days[day], domain)
	b.dirty = true
}

// What is held costs roughly so many octets.
const overhead = 300

func (p *Policy) cost() int {
	n := overhead
	for _, list := range [][]string{p.String, p.MX} {
		for _, s := range list {
			n += len(s)
		}
	}
	return n
}

func (f *Failure) cost() int { return overhead + len(f.Host) + len(f.Info) }

func (t *tally) cost() (n int) {
	for _, c := range t.policies {
		n += c.policy.cost()
		for f := range c.details {
			n += f.cost()
		}
	}
	return n
}

// bounded copies the first lines of a list, cut.
func bounded(list []string) []string {
	var out []string
	for _, s := range list[:min(len(list), maxLines)] {
		out = append(out, mail.Printable(s, maxString))
	}
	return out
}

// forget drops the days whose time is over. The caller holds mu.
func (b *Book) forget() {
	var days []string
	for day := range b.days {
		days = append(days, day)
	}
	slices.Sort(days)
	for len(days) > maxDays {
		for domain := range b.days[days[0]] {
			b.drop(days[0], domain)
		}
		delete(b.days, days[0])
		days = days[1:]
	}
}

// errNoReports is a domain that wants none.
var errNoReports = errors.New("tlsreport: the domain asks for no reports by mail")

// parseRecord reads the TXT records at _smtp._tls: the mailboxes that reports go
// to. RFC 8460 §3.
func parseRecord(txts []string) ([]mail.Address, error) {
	var found []string
	for _, txt := range txts {
		if version, rest, ok := strings.Cut(txt, ";"); ok && strings.TrimRight(version, " \t") == "v=TLSRPTv1" {
			found = append(found, rest)
		}
	}
	if len(found) != 1 {
		return nil, errNoReports
	}
	var out []mail.Address
	for field := range strings.SplitSeq(found[0], ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if strings.TrimSpace(name) != "rua" {
			continue
		}
		for uri := range strings.SplitSeq(value, ",") {
			if a, ok := mailbox(strings.TrimSpace(uri)); ok && len(out) < maxMailboxes && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if len(out) == 0 {
		return nil, errNoReports
	}
	return out, nil
}

// sorted are the counts of a tally in a fixed order, and their details.
func (c *count) sorted() []detail {
	out := make([]detail, 0, len(c.details))
	for f, n := range c.details {
		out = append(out, detail{f, n})
	}
	slices.SortFunc(out, func(a, b detail) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Result, b.Result), cmp.Compare(a.Host, b.Host),
			a.Receiving.Compare(b.Receiving), a.Sending.Compare(b.Sending), cmp.Compare(a.Info, b.Info))
	})
	return out
}
