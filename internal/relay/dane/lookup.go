package dane

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Find says what the DNS has on the certificates of one host of a domain, at a
// port. Names are in lower case and A-labels, without the final dot; domain is
// "" for a host that the configuration names. An error is a resolver that does
// not answer, or an answer that does not validate: then nobody knows, and no
// mail goes there. RFC 7672 §2.2.
func (r *Resolver) Find(ctx context.Context, domain, host, port string) (*Finding, error) {
	f := &Finding{now: r.now}
	if domain == "" {
		f.SecureMX = true
	} else {
		secure, names, err := r.nextHops(ctx, domain, host)
		if err != nil {
			return nil, err
		}
		if !secure {
			return f, nil // RFC 7672 §2.2.1: a forged MX makes records of the host worthless
		}
		f.SecureMX, f.names = true, names
	}
	bases, err := r.bases(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		tlsa, err := r.ask(ctx, "_"+port+"._tcp."+base, dns.TypeTLSA)
		if err != nil {
			return nil, err
		}
		if !tlsa.secure {
			return f, nil
		}
		f.Standing = None
		if len(tlsa.records) == 0 {
			continue
		}
		f.Standing, f.Base = Unusable, base
		if f.records = usable(tlsaRecords(tlsa.records)); len(f.records) > 0 {
			f.Standing = Usable
		}
		f.names = append(f.names, base)
		return f, nil
	}
	return f, nil
}

// nextHops reports whether it is signed that a host is one of a domain's, and
// which names of the domain stand for it: as it is, and at the end of a chain
// of aliases. RFC 7672 §2.2.1, §3.2.2.
func (r *Resolver) nextHops(ctx context.Context, domain, host string) (secure bool, names []string, err error) {
	mx, err := r.ask(ctx, domain, dns.TypeMX)
	if err != nil || !mx.secure {
		return false, nil, err
	}
	names = []string{domain}
	if end := bare(mx.end); end != domain {
		names = append(names, end)
	}
	if len(mx.records) == 0 && host == domain {
		return true, names, nil // the implicit MX
	}
	if !slices.ContainsFunc(mx.records, func(rr dns.RR) bool { return bare(rr.(*dns.MX).Mx) == host }) {
		return false, nil, fmt.Errorf("dane: %s is not among the MX records of %s any more", host, domain)
	}
	return true, names, nil
}

// bases are the names below which a host's records may be, the first one first;
// none if it has no signed address. RFC 7672 §2.2.2, §2.2.3: an alias that is
// signed all the way goes by its end, and then by itself; one that is signed
// only itself, by itself.
func (r *Resolver) bases(ctx context.Context, host string) ([]string, error) {
	a, errA := r.ask(ctx, host, dns.TypeA)
	aaaa, errAAAA := r.ask(ctx, host, dns.TypeAAAA)
	end, secure := "", true
	for _, one := range []struct {
		*answer
		err error
	}{{a, errA}, {aaaa, errAAAA}} {
		if one.err != nil {
			continue
		}
		secure = secure && one.secure
		if e := bare(one.end); e != host {
			end = e
		}
	}
	switch {
	case secure && (errA != nil || errAAAA != nil):
		// One question that somebody suppresses must not make the other one count.
		if errA != nil {
			return nil, errA
		}
		return nil, errAAAA
	case secure && end != "":
		return []string{end, host}, nil
	case secure:
		return []string{host}, nil
	case end == "":
		return nil, nil
	}
	alias, err := r.ask(ctx, host, dns.TypeCNAME)
	if err != nil || !alias.secure {
		return nil, err
	}
	return []string{host}, nil
}

func tlsaRecords(rrs []dns.RR) []Record {
	var out []Record
	for _, rr := range rrs[:min(len(rrs), maxRecords)] {
		tlsa := rr.(*dns.TLSA)
		data, err := hex.DecodeString(tlsa.Certificate)
		if err != nil {
			data = nil // which no usable record has
		}
		out = append(out, Record{tlsa.Usage, tlsa.Selector, tlsa.MatchingType, data})
	}
	return out
}

// bare is a name as the rest of the relay writes it.
func bare(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// notFound is the error of net for what is not there.
func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}
