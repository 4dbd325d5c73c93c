package dane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	rounds   = 3               // times a question is asked, before nobody knows
	tryFor   = 5 * time.Second // each time; a resolver may be asking half the world
	udpSize  = 1232            // octets; what crosses every path unfragmented
	maxChain = 8               // CNAMEs in a row
	maxMX    = 100             // records that are looked at
	maxAddrs = 64
	maxTXT   = 32
)

// A Resolver asks one validating resolver. It is safe for concurrent use.
type Resolver struct {
	server    string
	now       func() time.Time
	log       *slog.Logger
	validates func(bool) // tells the gauge
	health    atomic.Pointer[Health]
}

// Options of a Resolver. Server is required.
type Options struct {
	Server     netip.AddrPort // on this machine
	Logger     *slog.Logger   // default: none
	Registerer prometheus.Registerer
}

// New makes a Resolver. The AD bit of its server is believed, so nobody must be able to answer in its stead: it is on this machine.
func New(o Options) (*Resolver, error) {
	if !o.Server.Addr().IsLoopback() || o.Server.Port() == 0 {
		return nil, fmt.Errorf("dane: the resolver %s is not on this machine, so anybody on the way could say that he has validated an answer", o.Server)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Resolver{server: o.Server.String(), now: time.Now, log: o.Logger, validates: newValidates(o.Registerer)}, nil
}

// An answer is what the resolver says to one question.
type answer struct {
	records []dns.RR // of the kind asked for, at the end of the chain of CNAMEs; none: there are none
	end     string   // the name at the end of that chain
	exists  bool     // there is such a name
	secure  bool     // validated, all of the chain, or that there is none
}

// ask puts one question. An error is no answer, or one that does not validate.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) (*answer, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.AuthenticatedData = true // RFC 6840 §5.7: tell us, without the signatures
	q.SetEdns0(udpSize, false)
	var last error
	for range rounds {
		m, err := r.exchange(ctx, q)
		if err == nil {
			return read(m, dns.Fqdn(name), kind)
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &net.DNSError{Err: last.Error(), Name: name, Server: r.server, IsTemporary: true}
}

// exchange asks over UDP, and over TCP where the answer is too long for that.
func (r *Resolver) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	for _, network := range []string{"udp", "tcp"} {
		q.Id = dns.Id()
		client := &dns.Client{Net: network, Timeout: tryFor}
		conn, err := client.DialContext(ctx, r.server)
		if err != nil {
			return nil, err
		}
		// The library minds the deadline of ctx and not its end.
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		m, _, err := client.ExchangeWithConnContext(ctx, q, conn)
		if stop() {
			_ = conn.Close()
		}
		if err != nil {
			return nil, err
		}
		if !m.Response || len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name) || m.Question[0].Qtype != q.Question[0].Qtype {
			return nil, errors.New("it answers another question")
		}
		if !m.Truncated || network == "tcp" {
			return m, nil
		}
	}
	panic("unreachable")
}

// read takes an answer apart. It is pure.
func read(m *dns.Msg, name string, kind uint16) (*answer, error) {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, &net.DNSError{Err: refusal(m), Name: bare(name), IsTemporary: true}
	}
	a := &answer{end: name, exists: m.Rcode == dns.RcodeSuccess, secure: m.AuthenticatedData}
	for range maxChain {
		next := ""
		for _, rr := range m.Answer {
			if _, empty := rr.(*dns.RR_Header); empty || !strings.EqualFold(rr.Header().Name, a.end) {
				continue
			}
			if rr.Header().Rrtype == kind {
				a.records = append(a.records, rr)
			} else if alias, ok := rr.(*dns.CNAME); ok {
				next = alias.Target
			}
		}
		if len(a.records) > 0 || next == "" {
			return a, nil
		}
		a.end = next
	}
	return nil, &net.DNSError{Err: "too many aliases in a row", Name: bare(name), IsTemporary: true}
}

// refusal is why a resolver has no answer, as far as it tells. RFC 8914.
func refusal(m *dns.Msg) string {
	text, ok := dns.RcodeToString[m.Rcode]
	if !ok {
		text = fmt.Sprintf("code %d", m.Rcode)
	}
	if m.Rcode == dns.RcodeServerFailure {
		text = "SERVFAIL: the answer does not validate (DNSSEC), or no server of the domain answers"
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				return fmt.Sprintf("%s: %s %s", text, dns.ExtendedErrorCodeToString[ede.InfoCode], ede.ExtraText)
			}
		}
	}
	return text
}

// LookupMX is that of net.Resolver, of names with the final dot.
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := r.ask(ctx, name, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	var out []*net.MX
	for _, rr := range a.records[:min(len(a.records), maxMX)] {
		mx := rr.(*dns.MX)
		out = append(out, &net.MX{Host: mx.Mx, Pref: mx.Preference})
	}
	if len(out) == 0 {
		return nil, notFound(name)
	}
	return out, nil
}

// LookupTXT is that of net.Resolver.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.ask(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, rr := range a.records[:min(len(a.records), maxTXT)] {
		out = append(out, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	if len(out) == 0 {
		return nil, notFound(name)
	}
	return out, nil
}

// LookupNetIP is that of net.Resolver, for "ip", "ip4" and "ip6". A name without
// a dot in it is one of this machine or its search list, and the system's to
// look up.
func (r *Resolver) LookupNetIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	if !strings.Contains(name, ".") {
		return net.DefaultResolver.LookupNetIP(ctx, network, name)
	}
	var kinds []uint16
	if network != "ip6" {
		kinds = append(kinds, dns.TypeA)
	}
	if network != "ip4" {
		kinds = append(kinds, dns.TypeAAAA)
	}
	var out []netip.Addr
	var failed error
	for _, kind := range kinds {
		a, err := r.ask(ctx, name, kind)
		if err != nil {
			failed = err
			continue
		}
		for _, rr := range a.records[:min(len(a.records), maxAddrs)] {
			var raw net.IP
			switch rr := rr.(type) {
			case *dns.A:
				raw = rr.A
			case *dns.AAAA:
				raw = rr.AAAA
			}
			if ip, ok := netip.AddrFromSlice(raw); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case failed != nil:
		return nil, failed
	}
	return nil, notFound(name)
}
