package blocks

import (
	"net/netip"
	"os"
	"testing"
)

// BenchmarkAddAtTheBound is a block by command among as many as there may be,
// with a disk that costs nothing.
func BenchmarkAddAtTheBound(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir(), Write: func(string, []byte, os.FileMode) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	var s *Set
	for i := range MaxCommands {
		s = s.with(Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), Reason: "sends 40 messages a second"})
	}
	l.set.Store(s)
	for b.Loop() {
		if _, _, err := l.Add(netip.MustParsePrefix("10.0.0.1/32"), "again", 0); err != nil {
			b.Fatal(err)
		}
	}
}
