package evidence

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A DNS source asks whether the name and the address of a machine point at one
// another: forward-confirmed reverse DNS. It asks a resolver itself, and
// neither /etc/hosts nor a search list, which say nothing of the world.
type DNS struct {
	servers []string // host:port, tried in order
}

var _ Source = (*DNS)(nil)

const (
	resolvConf  = "/etc/resolv.conf"
	maxServers  = 3
	dnsRounds   = 2               // through all servers
	dnsTry      = 2 * time.Second // for one datagram
	udpSize     = 1232            // octets; what crosses every path unfragmented
	maxChain    = 8               // CNAMEs in a row
	shownNames  = 3               // of a list
	probeLabel  = "gatepost-wildcard-probe"
	dnsPortName = "53"
)

// NewDNS makes a source that asks one server, an address with or without a
// port, or the system's resolvers if server is "".
func NewDNS(server string) (*DNS, error) {
	if server != "" {
		at, err := serverAddr(server)
		if err != nil {
			return nil, fmt.Errorf("evidence: the DNS server: %w", err)
		}
		return &DNS{servers: []string{at}}, nil
	}
	d := &DNS{}
	if conf, err := dns.ClientConfigFromFile(resolvConf); err == nil {
		for _, s := range conf.Servers[:min(len(conf.Servers), maxServers)] {
			d.servers = append(d.servers, net.JoinHostPort(s, conf.Port))
		}
	}
	if len(d.servers) == 0 {
		// As resolv.conf(5) has it: the name server of this machine.
		d.servers = []string{net.JoinHostPort("127.0.0.1", dnsPortName)}
	}
	return d, nil
}

func serverAddr(server string) (string, error) {
	if at, err := netip.ParseAddrPort(server); err == nil && at.Port() != 0 {
		return at.String(), nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(server, "[]")); err == nil {
		return net.JoinHostPort(ip.String(), dnsPortName), nil
	}
	return "", fmt.Errorf("%q is no address such as 192.0.2.53 or [2001:db8::53]:53", word(server))
}

// Name is "dns".
func (d *DNS) Name() string { return "dns" }

// Observe asks for the address's names, for the registered name's addresses,
// and whether what agrees proves anything.
func (d *DNS) Observe(ctx context.Context, c Claim) (Finding, error) {
	f, err := d.observe(ctx, c)
	if refused, ok := errors.AsType[*rcodeError](err); ok {
		// The resolver is there and this one name is broken: no failure of the service.
		return Finding{Text: refused.Error()}, nil
	}
	return f, err
}

func (d *DNS) observe(ctx context.Context, c Claim) (Finding, error) {
	name := canonical(c.Name)
	names, err := d.names(ctx, c.IP)
	if err != nil {
		return Finding{}, err
	}
	addrs, err := d.addrs(ctx, name, c.IP)
	if err != nil {
		return Finding{}, err
	}
	if len(names) == 0 && len(addrs) == 0 {
		// A resolver in a closed network may deny that anything exists.
		if top, err := d.unknownTop(ctx, name); err != nil || top != "" {
			return Finding{Text: fmt.Sprintf("the resolver knows neither %s nor %s, and not even the domain %s: it does not see the public DNS", c.IP, word(c.Name), word(top))}, err
		}
	}
	back, forth := slices.Contains(names, name), slices.Contains(addrs, c.IP)
	host := word(c.Name)
	switch {
	case back && forth:
		return d.agreed(ctx, c, host)
	case back:
		return Finding{Outcome: Contradicted, Text: fmt.Sprintf("%s calls itself %s, but %s has %s", c.IP, host, host, listed(addrs))}, nil
	case len(names) == 0 && forth:
		return Finding{Outcome: Contradicted, Text: fmt.Sprintf("%s has no name in the DNS (no PTR record), though %s has this address", c.IP, host)}, nil
	case len(names) == 0:
		return Finding{Outcome: Contradicted, Text: fmt.Sprintf("%s has no name in the DNS (no PTR record), and %s has %s", c.IP, host, listed(addrs))}, nil
	}
	f := Finding{Outcome: Contradicted, Text: fmt.Sprintf("%s is %s in the DNS, not %s", c.IP, listed(names), host)}
	f.Detail = append(f.Detail, fmt.Sprintf("%s has %s", host, listed(addrs)))
	if why := poolName(names[0], c.IP); why != "" {
		f.Detail = append(f.Detail, fmt.Sprintf("%s looks like a name of a pool: %s", listed(names[:1]), why))
	}
	return f, nil
}

// agreed is the finding where name and address point at one another, unless
// they would do so whoever had the address.
func (d *DNS) agreed(ctx context.Context, c Claim, host string) (Finding, error) {
	if why := poolName(c.Name, c.IP); why != "" {
		return Finding{Text: fmt.Sprintf("%s is %s and back, but the name looks like one of a pool (%s), which proves nothing", c.IP, host, why)}, nil
	}
	_, parent, _ := strings.Cut(canonical(c.Name), ".")
	if strings.Contains(strings.TrimSuffix(parent, "."), ".") {
		made, err := d.addrs(ctx, probeLabel+"."+parent, c.IP)
		if err != nil {
			return Finding{}, err
		}
		if slices.Contains(made, c.IP) {
			return Finding{Text: fmt.Sprintf("every name below %s has the address %s (a wildcard), which proves nothing", word(strings.TrimSuffix(parent, ".")), c.IP)}, nil
		}
	}
	return Finding{Outcome: Confirmed, Text: fmt.Sprintf("%s is %s, and %s has this address", c.IP, host, host)}, nil
}

// canonical is how names are compared: small letters, with the final dot.
func canonical(name string) string { return dns.CanonicalName(name) }

// listed shows the first few of a list; "no address" for none.
func listed[T any](items []T) string {
	if len(items) == 0 {
		return "no address"
	}
	var shown []string
	for _, item := range items[:min(len(items), shownNames)] {
		shown = append(shown, word(strings.TrimSuffix(fmt.Sprint(item), ".")))
	}
	text := strings.Join(shown, ", ")
	if more := len(items) - shownNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// names are those that the reverse zone has for ip, in canonical form.
func (d *DNS) names(ctx context.Context, ip netip.Addr) ([]string, error) {
	reverse, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return nil, err
	}
	answers, err := d.lookup(ctx, reverse, dns.TypePTR)
	var names []string
	for _, rr := range answers {
		if ptr, ok := rr.(*dns.PTR); ok {
			names = append(names, canonical(ptr.Ptr))
		}
	}
	return names, err
}

// addrs are the addresses of a name, of the family of ip.
func (d *DNS) addrs(ctx context.Context, name string, ip netip.Addr) ([]netip.Addr, error) {
	kind := dns.TypeAAAA
	if ip.Is4() {
		kind = dns.TypeA
	}
	answers, err := d.lookup(ctx, name, kind)
	var addrs []netip.Addr
	for _, rr := range answers {
		var raw net.IP
		switch rr := rr.(type) {
		case *dns.A:
			raw = rr.A
		case *dns.AAAA:
			raw = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, err
}

// unknownTop returns the top-level domain of a name if the resolver knows no
// such domain, else "".
func (d *DNS) unknownTop(ctx context.Context, name string) (string, error) {
	labels := dns.SplitDomainName(name)
	if len(labels) == 0 {
		return "", nil
	}
	top := labels[len(labels)-1]
	servers, err := d.lookup(ctx, top, dns.TypeNS)
	if len(servers) > 0 {
		return "", err
	}
	return top, err
}

// rcodeError is a resolver's answer that is no answer.
type rcodeError struct {
	name string
	code int
}

func (e *rcodeError) Error() string {
	code, ok := dns.RcodeToString[e.code]
	if !ok {
		code = fmt.Sprintf("code %d", e.code)
	}
	return fmt.Sprintf("the resolver has no answer for %s: %s", word(strings.TrimSuffix(e.name, ".")), code)
}

// lookup returns the records of one type at the end of the chain of CNAMEs from
// name; none where there is no such name.
func (d *DNS) lookup(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(udpSize, false)
	var last error
	for range dnsRounds {
		for _, server := range d.servers {
			r, err := ask(ctx, q, server)
			if err == nil && r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
				err = &rcodeError{name, r.Rcode}
			}
			if err == nil {
				return follow(r.Answer, dns.Fqdn(name), kind), nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			last = err
		}
	}
	return nil, last
}

// ask puts one question to one server, over TCP where the answer is too long
// for a datagram.
func ask(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		r, err := exchange(ctx, q, network, server)
		if err != nil {
			return nil, err
		}
		if !r.Truncated || network == "tcp" {
			return r, nil
		}
	}
	panic("unreachable")
}

func exchange(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTry)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: dnsTry}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("DNS server %s: %w", server, err)
	}
	// The library minds the deadline of ctx and not its end.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if stop() {
			conn.Close()
		}
	}()
	q = q.Copy()
	q.Id = dns.Id()
	r, _, err := client.ExchangeWithConnContext(ctx, q, conn)
	if err != nil {
		return nil, fmt.Errorf("DNS server %s: %w", server, err)
	}
	if !r.Response || len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, q.Question[0].Name) || r.Question[0].Qtype != q.Question[0].Qtype {
		return nil, fmt.Errorf("DNS server %s answers another question", server)
	}
	return r, nil
}

// follow picks the records that answer the question: RFC 2317 has the names of
// small networks behind a CNAME.
func follow(answers []dns.RR, name string, kind uint16) []dns.RR {
	var found []dns.RR
	for range maxChain {
		next := ""
		for _, rr := range answers {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			if rr.Header().Rrtype == kind {
				found = append(found, rr)
			} else if alias, ok := rr.(*dns.CNAME); ok {
				next = alias.Target
			}
		}
		if len(found) > 0 || next == "" {
			break
		}
		name = next
	}
	return found
}
