package dane

import (
	"cmp"
	"crypto"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// needs finds a program, which CI must have.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("GATEPOST_NO_SKIP") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// records parses the lines of a zone.
func records(t *testing.T, text string) []dns.RR {
	t.Helper()
	var out []dns.RR
	zp := dns.NewZoneParser(strings.NewReader(text), ".", "test")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		out = append(out, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func soa(zone string) string {
	return zone + " 60 IN SOA ns." + zone + " h." + zone + " 1 60 60 60 60\n" + zone + " 60 IN NS ns." + zone + "\nns." + zone + " 60 IN A 127.0.0.1\n"
}

// sign makes a signed zone of the lines of one, with a chain of NSEC, and its
// key. spoil is called with a name and a type for each signature that is made:
// where it returns true, the signature is wrong.
func sign(t *testing.T, zone, text string, spoil func(name string, kind uint16) bool) (file string, key *dns.DNSKEY) {
	t.Helper()
	key = &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string]map[uint16][]dns.RR{}
	add := func(rr dns.RR) {
		name := strings.ToLower(rr.Header().Name)
		if sets[name] == nil {
			sets[name] = map[uint16][]dns.RR{}
		}
		sets[name][rr.Header().Rrtype] = append(sets[name][rr.Header().Rrtype], rr)
	}
	for _, rr := range append(records(t, soa(zone)+text), key) {
		add(rr)
	}
	var names []string
	for name := range sets {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { // RFC 4034 §6.1
		la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
		slices.Reverse(la)
		slices.Reverse(lb)
		return slices.Compare(la, lb)
	})
	for i, name := range names {
		kinds := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
		for kind := range sets[name] {
			kinds = append(kinds, kind)
		}
		slices.Sort(kinds)
		add(&dns.NSEC{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 60}, NextDomain: names[(i+1)%len(names)], TypeBitMap: kinds})
	}
	var b strings.Builder
	for _, name := range names {
		for kind, set := range sets[name] {
			sig := &dns.RRSIG{
				Hdr:       dns.RR_Header{Name: name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 60},
				Algorithm: key.Algorithm, Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(time.Hour).Unix()),
				KeyTag: key.KeyTag(), SignerName: zone,
			}
			if err := sig.Sign(private.(crypto.Signer), set); err != nil {
				t.Fatal(err)
			}
			if spoil != nil && spoil(name, kind) {
				sig.Signature = strings.Repeat("A", 86) + "=="
			}
			for _, rr := range append(set, sig) {
				fmt.Fprintln(&b, rr)
			}
		}
	}
	return b.String(), key
}

// A zone is one that unbound serves; without a key it is not signed.
type zone struct {
	text string
	key  *dns.DNSKEY
}

// startUnbound runs Debian's resolver, validating, with zones of its own.
func startUnbound(t *testing.T, zones map[string]zone) *Resolver {
	t.Helper()
	program, dir := needs(t, "unbound"), t.TempDir()
	for range 5 { // somebody else may take the port in between
		at := freePort(t)
		if unboundAt(t, program, dir, at, zones) {
			r, err := New(Options{Server: at})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	t.Fatal("unbound does not start")
	return nil
}

// freePort is one that is free for TCP and for UDP.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		_ = l.Close()
		if err == nil {
			_ = c.Close()
			return l.Addr().(*net.TCPAddr).AddrPort()
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// unboundAt starts unbound, and reports false if it ends at once.
func unboundAt(t *testing.T, program, dir string, at netip.AddrPort, zones map[string]zone) bool {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, "-d", "-c", unboundConf(t, dir, at, zones))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-late.C:
			t.Fatal("unbound does not answer")
		case <-tick.C:
		}
		if conn, err := net.Dial("tcp", at.String()); err == nil {
			_ = conn.Close()
			select {
			case <-ended: // that was somebody else
				return false
			default:
				return true
			}
		}
	}
}

// unboundConf writes its configuration and the zones.
func unboundConf(t *testing.T, dir string, at netip.AddrPort, zones map[string]zone) string {
	t.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, "server:\n interface: 127.0.0.1@%d\n do-daemonize: no\n use-syslog: no\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n", at.Port())
	conf.WriteString(" directory: \"/\"\n verbosity: 0\n num-threads: 1\n module-config: \"validator iterator\"\n access-control: 127.0.0.0/8 allow\n do-not-query-localhost: yes\n ede: yes\n")
	for name, z := range zones {
		if z.key != nil {
			fmt.Fprintf(&conf, " trust-anchor: %q\n", strings.ReplaceAll(z.key.String(), "\t", " "))
		} else {
			fmt.Fprintf(&conf, " domain-insecure: %q\n", name)
		}
	}
	conf.WriteString("remote-control:\n control-enable: no\n")
	for name, z := range zones {
		file := filepath.Join(dir, strings.Trim(name, "."))
		if err := os.WriteFile(file, []byte(z.text), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&conf, "auth-zone:\n name: %q\n zonefile: %q\n for-downstream: no\n for-upstream: yes\n fallback-enabled: no\n", name, file)
	}
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const someKey = "3 1 1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// What the DNS says of a host is believed as far as it is signed, and what is
// forged or suppressed stops the mail. RFC 7672 §2.2. The resolver is real.
func TestFindAgainstUnbound(t *testing.T) {
	var many strings.Builder // too long for a datagram
	for i := range 40 {
		fmt.Fprintf(&many, "_25._tcp.many.signed.example. 60 IN TLSA 3 1 1 %064x\n", i)
	}
	signed, key := sign(t, "signed.example.", `
signed.example.              60 IN MX 10 mx.signed.example.
signed.example.              60 IN MX 20 mx.plain.example.
signed.example.              60 IN MX 30 none.signed.example.
signed.example.              60 IN MX 40 pkix.signed.example.
signed.example.              60 IN MX 50 alias.signed.example.
signed.example.              60 IN MX 60 alias2.signed.example.
signed.example.              60 IN MX 70 out.signed.example.
signed.example.              60 IN MX 80 badtlsa.signed.example.
signed.example.              60 IN MX 90 badaddr.signed.example.
signed.example.              60 IN MX 97 cname.signed.example.
signed.example.              60 IN MX 95 badaaaa.signed.example.
mx.signed.example.           60 IN A 192.0.2.1
_25._tcp.mx.signed.example.  60 IN TLSA `+someKey+`
none.signed.example.         60 IN A 192.0.2.2
pkix.signed.example.         60 IN A 192.0.2.3
_25._tcp.pkix.signed.example. 60 IN TLSA 1 1 1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
alias.signed.example.        60 IN CNAME mx.signed.example.
alias2.signed.example.       60 IN CNAME none.signed.example.
_25._tcp.alias2.signed.example. 60 IN TLSA `+someKey+`
out.signed.example.          60 IN CNAME mx.plain.example.
_25._tcp.out.signed.example. 60 IN TLSA `+someKey+`
badtlsa.signed.example.      60 IN A 192.0.2.4
_25._tcp.badtlsa.signed.example. 60 IN TLSA `+someKey+`
badaddr.signed.example.      60 IN A 192.0.2.5
_25._tcp.badaddr.signed.example. 60 IN TLSA `+someKey+`
badaaaa.signed.example.      60 IN A 192.0.2.6
badaaaa.signed.example.      60 IN AAAA 2001:db8::6
_25._tcp.badaaaa.signed.example. 60 IN TLSA `+someKey+`
implicit.signed.example.     60 IN A 192.0.2.7
_25._tcp.implicit.signed.example. 60 IN TLSA `+someKey+`
moved.signed.example.        60 IN CNAME signed.example.
cname.signed.example.        60 IN A 192.0.2.8
_25._tcp.cname.signed.example. 60 IN CNAME _25._tcp.mx.plain.example.
many.signed.example.         60 IN A 192.0.2.10
signed.example.              60 IN MX 98 many.signed.example.
txt.signed.example.          60 IN TXT "one " "text"
`+many.String(), func(name string, kind uint16) bool {
		return name == "_25._tcp.badtlsa.signed.example." && kind == dns.TypeTLSA ||
			name == "badaddr.signed.example." && kind == dns.TypeA ||
			name == "badaaaa.signed.example." && kind == dns.TypeAAAA
	})
	plain := soa("plain.example.") + `
plain.example.              60 IN MX 10 mx.plain.example.
plain.example.              60 IN MX 20 mx.signed.example.
mx.plain.example.           60 IN A 192.0.2.9
_25._tcp.mx.plain.example.  60 IN TLSA ` + someKey + "\n"
	bogus, _ := sign(t, "bogus.example.", "bogus.example. 60 IN MX 10 mx.signed.example.\n", nil)
	_, other := sign(t, "bogus.example.", "", nil)
	r := startUnbound(t, map[string]zone{"signed.example.": {signed, key}, "plain.example.": {plain, nil}, "bogus.example.": {bogus, other}})

	for _, c := range []struct {
		domain, host string
		want         Standing
		base         string
		secureMX     bool
		err          string
		records      int
	}{
		{domain: "signed.example", host: "mx.signed.example", want: Usable, base: "mx.signed.example", secureMX: true},
		{domain: "signed.example", host: "none.signed.example", want: None, secureMX: true},
		{domain: "signed.example", host: "pkix.signed.example", want: Unusable, base: "pkix.signed.example", secureMX: true},
		{domain: "signed.example", host: "mx.plain.example", want: Insecure, secureMX: true},
		{domain: "signed.example", host: "alias.signed.example", want: Usable, base: "mx.signed.example", secureMX: true},
		{domain: "signed.example", host: "alias2.signed.example", want: Usable, base: "alias2.signed.example", secureMX: true},
		{domain: "signed.example", host: "out.signed.example", want: Usable, base: "out.signed.example", secureMX: true},
		{domain: "signed.example", host: "cname.signed.example", want: Insecure, secureMX: true},
		{domain: "signed.example", host: "many.signed.example", want: Usable, base: "many.signed.example", secureMX: true, records: 40},
		{domain: "signed.example", host: "badtlsa.signed.example", err: "SERVFAIL"},
		{domain: "signed.example", host: "badaddr.signed.example", err: "SERVFAIL"},
		{domain: "signed.example", host: "badaaaa.signed.example", err: "SERVFAIL"},
		{domain: "signed.example", host: "mx.evil.example", err: "not among the MX records"},
		{domain: "implicit.signed.example", host: "implicit.signed.example", want: Usable, base: "implicit.signed.example", secureMX: true},
		{domain: "moved.signed.example", host: "mx.signed.example", want: Usable, base: "mx.signed.example", secureMX: true},
		{domain: "plain.example", host: "mx.signed.example", want: Insecure},
		{domain: "plain.example", host: "mx.plain.example", want: Insecure},
		{domain: "bogus.example", host: "mx.signed.example", err: "DNSKEY Missing"},
		{domain: "", host: "mx.signed.example", want: Usable, base: "mx.signed.example", secureMX: true},
		{domain: "", host: "mx.plain.example", want: Insecure, secureMX: true},
	} {
		t.Run(c.domain+" "+c.host, func(t *testing.T) {
			f, err := r.Find(t.Context(), c.domain, c.host, "25")
			if err != nil || c.err != "" {
				if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if f.Standing != c.want || f.Base != c.base || f.SecureMX != c.secureMX || (f.Standing == Usable) != (len(f.records) > 0) || c.records > 0 && len(f.Records()) != c.records {
				t.Errorf("%+v", f)
			}
		})
	}

	mxs, err := r.LookupMX(t.Context(), "moved.signed.example.")
	slices.SortFunc(mxs, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	if err != nil || len(mxs) != 12 || mxs[0].Host != "mx.signed.example." || mxs[0].Pref != 10 {
		t.Errorf("%v, %v", mxs, err)
	}
	if addrs, err := r.LookupNetIP(t.Context(), "ip", "alias.signed.example."); err != nil || len(addrs) != 1 || addrs[0].String() != "192.0.2.1" {
		t.Errorf("%v, %v", addrs, err)
	}
	if _, err := r.LookupNetIP(t.Context(), "ip6", "mx.signed.example."); !isNotFound(err) {
		t.Errorf("%v", err)
	}
	if txt, err := r.LookupTXT(t.Context(), "txt.signed.example."); err != nil || len(txt) != 1 || txt[0] != "one text" {
		t.Errorf("%q, %v", txt, err)
	}
	if _, err := r.LookupMX(t.Context(), "nowhere.signed.example."); !isNotFound(err) {
		t.Errorf("%v", err)
	}
	if _, err := r.LookupMX(t.Context(), "bogus.example."); err == nil || isNotFound(err) {
		t.Errorf("%v", err)
	}
}

func isNotFound(err error) bool {
	e, ok := err.(*net.DNSError)
	return ok && e.IsNotFound
}
