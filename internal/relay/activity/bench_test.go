package activity

import (
	"net/netip"
	"testing"
)

// BenchmarkSenders sums up 100,000 addresses that each sent.
func BenchmarkSenders(b *testing.B) {
	w := newWorld(b)
	book := w.open()
	for i := range 100_000 {
		book.Accepted(netip.AddrFrom4([4]byte{141, byte(i >> 16), byte(i >> 8), byte(i)}), Message{Recipients: 1, Octets: 1000})
	}
	for b.Loop() {
		n := 0
		book.Senders(func(netip.Addr, Sums, int) { n++ })
		if n != 100_000 {
			b.Fatal(n)
		}
	}
}
