package dane

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer holds that no answer of a resolver makes a panic, or a record of
// another kind than was asked for.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{"a.example. 60 IN MX 10 b.example.", "a.example. 60 IN CNAME a.example.", "a.example. 60 IN TLSA 3 1 1 aa"} {
		m := new(dns.Msg)
		m.SetQuestion("a.example.", dns.TypeMX)
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		for _, kind := range []uint16{dns.TypeMX, dns.TypeTLSA, dns.TypeTXT, dns.TypeA} {
			a, err := read(m, "a.example.", kind)
			if err != nil {
				continue
			}
			for _, rr := range a.records {
				if rr.Header().Rrtype != kind || !strings.EqualFold(rr.Header().Name, a.end) {
					t.Fatalf("%v for %d", rr, kind)
				}
			}
			switch kind {
			case dns.TypeTLSA:
				usable(tlsaRecords(a.records))
			case dns.TypeMX:
				for _, rr := range a.records {
					_ = rr.(*dns.MX).Mx
				}
			case dns.TypeTXT:
				for _, rr := range a.records {
					_ = rr.(*dns.TXT).Txt
				}
			}
		}
	})
}
