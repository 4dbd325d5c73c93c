package tlspolicy

import (
	"fmt"
	"testing"

	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
)

// BenchmarkDemand is what a new connection costs: 1,000 rules, and a policy that
// is kept.
func BenchmarkDemand(b *testing.B) {
	rules := map[string]Rule{}
	for i := range 1000 {
		rules[fmt.Sprintf(".d%d.example", i)] = Rule{Level: Encrypt}
	}
	p := New(Options{Rules: rules, STS: policies{"a.b.c.example.org": {Mode: sts.Enforce, MX: []string{"*.example.org"}}}})
	hop := deliver.Hop{Domain: "a.b.c.example.org", Host: "mx.example.org", Port: "25"}
	for b.Loop() {
		if d := p.Demand(b.Context(), hop); d.As != deliver.STS {
			b.Fatalf("%+v", d)
		}
	}
}
