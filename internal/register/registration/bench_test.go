package registration

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	many := func(n int) string {
		var hosts strings.Builder
		for i := range n {
			fmt.Fprintf(&hosts, "\t{ip: \"141.211.13.%d\", name: \"h%d.umich.edu\", kind: \"server\"},\n", i+1, i)
		}
		head, rest, _ := strings.Cut(good, "hosts: [\n")
		_, tail, _ := strings.Cut(rest, "]\nsenders")
		return head + "hosts: [\n" + hosts.String() + "]\nsenders" + tail
	}
	var campus strings.Builder
	campus.WriteString("networks: {\n")
	for i := range 10_000 {
		fmt.Fprintf(&campus, "\t\"10.%d.%d.0/24\": {department: \"d%d\", use: \"static\"}\n", i>>8, i&255, i%100)
	}
	campus.WriteString("}\n")
	for _, bench := range []struct {
		name, site string
		src        Source
	}{
		{"example", "", source(goodPath, good)},
		{"example with a site", "#Registration: volume: perDay: <=5000", source(goodPath, good)},
		{"64 hosts", "", source(goodPath, many(64))},
		{"faulty", "", source(goodPath, strings.ReplaceAll(good, "printer\"", "printr\""))},
		{"10,000 networks", "", source("registrations/campus/networks.cue", campus.String())},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p := newParser(b, bench.site)
			b.ReportAllocs()
			b.SetBytes(bench.src.Size)
			for b.Loop() {
				p.Parse(bench.src)
			}
		})
	}
}

func BenchmarkNewParser(b *testing.B) {
	for b.Loop() {
		newParser(b, "")
	}
}
