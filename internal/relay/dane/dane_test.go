package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A cert is a certificate with its key.
type cert struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes a certificate, by itself if by is nil.
func issue(t *testing.T, name string, authority bool, by *cert, end time.Time) *cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		IsCA: authority, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if authority {
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		template.DNSNames = []string{name}
	}
	parent := &cert{template, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Certificate, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &cert{c, key}
}

func (c *cert) record(usage, selector, matching uint8) Record {
	part := c.Raw
	if selector == selectKey {
		part = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case matchSHA256:
		sum := sha256.Sum256(part)
		part = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(part)
		part = sum[:]
	}
	return Record{usage, selector, matching, part}
}

func TestVerify(t *testing.T) {
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	root := issue(t, "root", true, nil, later)
	middle := issue(t, "middle", true, root, later)
	leaf := issue(t, "mx.example.org", false, middle, later)
	foreign := issue(t, "mx.evil.example", false, middle, later)
	ended := issue(t, "mx.example.org", false, middle, before)
	other := issue(t, "mx.example.org", false, nil, later)
	domain := issue(t, "example.org", false, middle, later)
	chain := []*cert{leaf, middle, root}
	wrong := other.record(3, 1, 1)
	for _, c := range []struct {
		name    string
		records []Record
		chain   []*cert
		err     string // "": it is well
	}{
		{"no certificate", []Record{leaf.record(3, 1, 1)}, nil, "no certificate"},
		{"3 0 0", []Record{leaf.record(3, 0, 0)}, chain, ""},
		{"3 0 1", []Record{leaf.record(3, 0, 1)}, chain, ""},
		{"3 0 2", []Record{leaf.record(3, 0, 2)}, chain, ""},
		{"3 1 0", []Record{leaf.record(3, 1, 0)}, chain, ""},
		{"3 1 1", []Record{leaf.record(3, 1, 1)}, chain, ""},
		{"3 1 2", []Record{leaf.record(3, 1, 2)}, chain, ""},
		{"one of two, while the key changes", []Record{wrong, leaf.record(3, 1, 1)}, chain, ""},
		{"another key", []Record{wrong}, chain, "no TLSA record matches"},
		{"a host's own certificate may have ended", []Record{ended.record(3, 1, 1)}, []*cert{ended}, ""},
		{"… and have any name", []Record{foreign.record(3, 1, 1)}, []*cert{foreign}, ""},
		{"a host's own is the first one", []Record{middle.record(3, 1, 1)}, chain, "no TLSA record matches"},
		{"2 0 1", []Record{middle.record(2, 0, 1)}, chain, ""},
		{"2 1 1", []Record{middle.record(2, 1, 1)}, chain, ""},
		{"2 1 1, the root", []Record{root.record(2, 1, 1)}, chain, ""},
		{"2 1 1, the root is not sent", []Record{root.record(2, 1, 1)}, chain[:2], "no TLSA record matches"},
		{"2 0 0, the root is in the record", []Record{root.record(2, 0, 0)}, chain[:2], ""},
		{"an authority, for the domain's name", []Record{middle.record(2, 1, 1)}, []*cert{domain, middle}, ""},
		{"an authority, another name", []Record{middle.record(2, 1, 1)}, []*cert{foreign, middle}, "and not for any of"},
		{"an authority, ended", []Record{middle.record(2, 1, 1)}, []*cert{ended, middle}, "expired"},
		{"an authority that did not sign it", []Record{middle.record(2, 1, 1)}, []*cert{other, middle}, "unknown authority"},
		{"an authority is none of its own", []Record{leaf.record(2, 1, 1)}, chain, "no TLSA record matches"},
		{"own or authority", []Record{wrong, middle.record(2, 1, 1)}, chain, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &Finding{records: usable(c.records), names: []string{"example.org", "mx.example.org"}, now: time.Now}
			var state tls.ConnectionState
			for _, c := range c.chain {
				state.PeerCertificates = append(state.PeerCertificates, c.Certificate)
			}
			err := f.Verify(state)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

func TestUsableRecords(t *testing.T) {
	c := issue(t, "mx", false, nil, time.Now().Add(time.Hour))
	many := make([]Record, 10*maxRecords)
	for i := range many {
		many[i] = c.record(3, 1, 1)
	}
	for _, tt := range []struct {
		name string
		in   []Record
		want int
	}{
		{"none", nil, 0},
		{"as it should be", []Record{c.record(3, 1, 1), c.record(2, 0, 1)}, 2},
		{"with public authorities", []Record{c.record(0, 1, 1), c.record(1, 1, 1)}, 0},
		{"another usage", []Record{c.record(255, 1, 1)}, 0},
		{"another part", []Record{{3, 2, 1, make([]byte, 32)}}, 0},
		{"another digest", []Record{{3, 1, 3, make([]byte, 32)}}, 0},
		{"a digest too short", []Record{{3, 1, 1, make([]byte, 31)}, {3, 1, 2, make([]byte, 32)}, {3, 1, 1, nil}}, 0},
		{"no certificate, no key", []Record{{3, 0, 0, []byte("x")}, {3, 1, 0, []byte("x")}}, 0},
		{"the stronger digest", []Record{c.record(3, 1, 1), c.record(3, 1, 2), c.record(3, 0, 1)}, 2},
		{"… unless it is none", []Record{c.record(3, 1, 1), {3, 1, 2, []byte("short")}}, 1},
		{"many", many, maxRecords},
	} {
		if got := usable(tt.in); len(got) != tt.want {
			t.Errorf("%s: %d are usable, want %d", tt.name, len(got), tt.want)
		}
	}
}

// A resolver that others can answer for is none.
func TestTheResolverIsOnThisMachine(t *testing.T) {
	for at, want := range map[string]bool{"127.0.0.1:53": true, "[::1]:5353": true, "127.0.0.53:53": true, "192.0.2.1:53": false, "0.0.0.0:53": false, "127.0.0.1:0": false} {
		if _, err := New(Options{Server: netip.MustParseAddrPort(at)}); (err == nil) != want {
			t.Errorf("%s: %v", at, err)
		}
	}
}
