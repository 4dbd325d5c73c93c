package registration

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// A daemon's configuration is read like a file of the register, with two
// comforts that the register has no use for: a group may be opened more than
// once, as in "listen: http: …" below "listen: relay: …", and a number may carry
// a multiplier, as in 35Mi. Messages about it have examples of its own.

// again deals with a field that is there already. In a configuration, what a
// group says when it is opened again is added to the first; anything else that
// is written twice is told, and the first stands.
func (g *gate) again(first, f *field) {
	message := fmt.Sprintf("%s is written twice, first on line %d", show(f.name), first.at.Line)
	switch {
	case !g.report.config:
		g.refuse(f.at, message, "keep one of the two; what belongs together goes into one pair of braces")
		return
	case first.value.kind != recordNode || f.value.kind != recordNode:
		g.report.add(f.at, RuleSchema, message, "keep one of the two")
		return
	}
	for inner := range f.value.each() {
		group := first.value
		if i := slices.IndexFunc(group.fields, func(have field) bool { return have.name == inner.name }); i >= 0 {
			g.again(&group.fields[i], inner)
		} else {
			group.fields = append(group.fields, *inner)
		}
	}
}

// digits writes out what a number of a configuration abbreviates: 35Mi and
// 36_700_160 are 36700160. Anything else comes back as it is.
func digits(s string) string {
	if len(s) > maxNumber {
		return s
	}
	plain := strings.ReplaceAll(s, "_", "")
	factor := big.NewRat(1000, 1)
	if cut, binary := strings.CutSuffix(plain, "i"); binary {
		plain = cut
		factor.SetInt64(1024)
	}
	number := strings.TrimRight(plain, "KMGT")
	if len(number) == len(plain) {
		return plain
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok || len(plain)-len(number) != 1 || strings.Trim(number, "0123456789.") != "" {
		return s
	}
	for range 1 + strings.IndexByte("KMGT", plain[len(plain)-1]) {
		value.Mul(value, factor)
	}
	if !value.IsInt() {
		return s
	}
	return value.Num().String()
}

// like gives an example of a field: this one, for the register.
func (r *report) like(field string) string {
	if r.config {
		field = `hostname: "relay.example.edu"`
	}
	return "like " + field
}

// shrink says what to do about a file that is too large.
func (r *report) shrink() string {
	if r.config {
		return "a configuration is a page of text; is this the right file?"
	}
	return "split it into several files"
}

// compare says where the fields are described.
func (r *report) compare() string {
	if r.config {
		return "compare the file with the comments in the folder schema"
	}
	return "compare the file with registrations/README.md"
}
