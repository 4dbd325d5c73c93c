package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// maxSocket is what fits sockaddr_un on every system that the relay runs on.
const maxSocket = 103

// maxBalancers bounds what is looked through for each connection.
const maxBalancers = 64

// rawListen is Listen as the schema has it.
type rawListen struct {
	Relay, Submission, Proxy []string
	HTTP, Socket             string
	Portal                   *ListenPortal
}

func (d *document) listen(raw rawListen) Listen {
	l := Listen{Relay: raw.Relay, Submission: raw.Submission, Proxy: d.balancers("listen.proxy", raw.Proxy), HTTP: raw.HTTP, Socket: raw.Socket, Portal: raw.Portal}
	used := map[string]string{}
	unique := func(path, addr string) {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
			return
		}
		if other, taken := used[addr]; taken {
			d.wrong(path, fmt.Sprintf("%s: %s is taken by %s", path, addr, other))
		}
		used[addr] = path
	}
	for _, part := range []struct {
		path  string
		addrs []string
	}{{"listen.relay", l.Relay}, {"listen.submission", l.Submission}} {
		for i, addr := range part.addrs {
			path := fmt.Sprintf("%s[%d]", part.path, i)
			d.listenAddr(path, addr)
			unique(path, addr)
		}
	}
	if l.HTTP != "" {
		d.listenAddr("listen.http", l.HTTP)
		unique("listen.http", l.HTTP)
	}
	d.portalDoor(l.Portal, unique)
	if len(l.Relay)+len(l.Submission) == 0 && d.has("listen.relay") {
		d.wrong("listen.relay", "the relay listens nowhere")
	}
	if l.Socket = d.absolute("listen.socket", l.Socket); len(l.Socket) > maxSocket {
		d.wrong("listen.socket", fmt.Sprintf("listen.socket is longer than the %d bytes that a unix socket's name may have", maxSocket))
	}
	return l
}

// alone checks that an address is none of those of listen.
func (d *document) alone(path, addr string, l rawListen) {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
		return
	}
	if addr == l.HTTP || l.Portal != nil && addr == l.Portal.Address || slices.Contains(l.Relay, addr) || slices.Contains(l.Submission, addr) {
		d.wrong(path, fmt.Sprintf("%s: %s is taken by listen", path, addr))
	}
}

// balancers reads the load balancers that are believed, so few of them that
// they can be meant one by one.
func (d *document) balancers(path string, list []string) []netip.Prefix {
	if len(list) > maxBalancers {
		d.wrong(path, fmt.Sprintf("%s has %d entries, and may have %d", path, len(list), maxBalancers))
		return nil
	}
	var out []netip.Prefix
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, bare := netip.ParseAddr(s); bare == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		least := 48
		if p.Addr().Is4() {
			least = 16
		}
		switch {
		case s == "" && !d.has(at): // told already
		case err != nil || p.Addr().Is4In6():
			d.wrong(at, fmt.Sprintf("%s: %q is neither an address nor a prefix", at, s))
		case p != p.Masked():
			d.reject(at, fmt.Sprintf("%s: %s has bits behind its length", at, s), "write "+p.Masked().String())
		case p.Bits() < least:
			d.wrong(at, fmt.Sprintf("%s: %s is wider than /%d", at, s, least))
		default:
			out = append(out, p)
		}
	}
	return out
}

// listenAddr checks "ADDRESS:PORT" with the address left out or literal: a name
// would make the start of the relay depend on DNS.
func (d *document) listenAddr(path, s string) {
	if s == "" && !d.has(path) {
		return
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || !portNumber(port, true) {
		d.wrong(path, fmt.Sprintf("%s: %q is no address with a port", path, s))
		return
	}
	if host == "" {
		return
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() != "" {
		d.wrong(path, fmt.Sprintf("%s: %q is no IP address", path, host))
	}
}

// portalDoor checks where the portal asks; p may be nil.
func (d *document) portalDoor(p *ListenPortal, unique func(path, addr string)) {
	if p == nil {
		return
	}
	const path = "listen.portal."
	d.listenAddr(path+"address", p.Address)
	unique(path+"address", p.Address)
	p.TokenFile = d.absolute(path+"tokenFile", p.TokenFile)
	p.OperatorTokenFile = d.absolute(path+"operatorTokenFile", p.OperatorTokenFile)
	if p.TokenFile != "" && p.TokenFile == p.OperatorTokenFile {
		d.reject(path+"operatorTokenFile", "both tokens of listen.portal are in the same file",
			"give the portal another token for what changes something, or leave operatorTokenFile out")
	}
	if !d.has("tls") {
		d.reject("listen.portal", "listen.portal needs a certificate, as its tokens must not travel in clear text",
			"give tls: {certificate: …, key: …}; one that is signed by itself will do where the portal is given it as caFile")
	}
}
