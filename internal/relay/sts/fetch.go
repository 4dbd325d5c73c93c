package sts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	fetchFor   = 20 * time.Second // one policy, look-up and connection included
	maxHeader  = 16 << 10         // octets
	maxAddress = 4                // that are tried
)

// A Resolver answers what the DNS says. Names are absolute. *net.Resolver and
// *dane.Resolver are two.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A Dialer makes TCP connections. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

var (
	_ Resolver = (*net.Resolver)(nil)
	_ Dialer   = (*net.Dialer)(nil)
)

// Why nobody knows the policy of a domain that says that it has one.
var (
	ErrFetch   = errors.New("the policy cannot be fetched")
	ErrInvalid = errors.New("it is no policy") // … as what was fetched is none
)

// A fetcher gets policies over HTTPS. Who mails a stranger's domain lets the
// stranger choose the host, so it connects to public addresses only, follows no
// redirect, says nothing but the name of the host, and reads little.
type fetcher struct {
	resolver Resolver
	dialer   Dialer
	client   *http.Client
}

func newFetcher(resolver Resolver, dialer Dialer, roots *x509.CertPool) *fetcher {
	f := &fetcher{resolver: resolver, dialer: dialer}
	f.client = &http.Client{
		Transport: &http.Transport{ // no proxy: it would connect to wherever it is told
			DialContext:            f.dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // RFC 8461 §3.3
	}
	return f
}

// fetch gets the policy of a domain, whatever was cached on the way. RFC 8461 §3.3.
func (f *fetcher) fetch(ctx context.Context, domain string) (*Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "gatepost")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d, and only 200 counts", resp.StatusCode)
	}
	if kind := resp.Header.Get("Content-Type"); !isText(kind) {
		return nil, fmt.Errorf("it is %.60q, and not text/plain", kind)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("it is longer than %d octets", maxPolicy)
	}
	p, err := parsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p, nil
}

// dial connects to a host's public addresses.
func (f *fetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := f.resolver.LookupNetIP(ctx, "ip", host+".")
	if err != nil {
		return nil, err
	}
	err = errors.New("it has no address")
	for _, addr := range addrs[:min(len(addrs), maxAddress)] {
		if addr = addr.Unmap(); !public(addr) {
			err = fmt.Errorf("%s is no public address, and nothing is fetched from there", addr)
			continue
		}
		var conn net.Conn
		if conn, err = f.dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// nat64 is how an IPv6-only site sees the rest. RFC 6052 §2.1.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// notPublic are networks, besides those that netip knows, that lead to this
// machine, to the site, or through a translator to where IPv4 would.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), // Teredo
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("fec0::/10"),
}

// public reports whether an address, unmapped, is one of the world's.
func public(a netip.Addr) bool {
	if nat64.Contains(a) { // where it leads through a translator
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Zone() != "" {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
