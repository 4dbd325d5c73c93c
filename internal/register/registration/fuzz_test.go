package registration

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
)

func seeds(f *testing.F) {
	for _, file := range cases(f) {
		src := caseSource(f, file)
		if len(src.Data) <= 4<<10 { // small ones are the better seeds
			f.Add(src.Path, src.Data)
		}
	}
}

// FuzzParse: Parse never panics, says where and why, and what it accepts means
// the same after Format.
func FuzzParse(f *testing.F) {
	seeds(f)
	p := newParser(f, "")
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		file := p.Parse(Source{Path: path, Size: int64(len(data)), Data: data})
		checkFile(t, file)
		for _, problem := range file.Problems {
			if bytes.Contains([]byte(problem.Message), []byte("cannot be judged")) {
				t.Fatal(problem)
			}
		}
		if file.Registration != nil {
			roundTrip(t, p, file.Registration)
		}
	})
}

// FuzzFormatSource: formatting twice changes nothing, keeps the meaning, and
// refuses the same files as Parse.
func FuzzFormatSource(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		out, err := FormatSource(path, data)
		r := &report{file: path}
		n := read(data, limitsOf(Kind(path)), r)
		var problems *ProblemError
		if err != nil {
			if errors.As(err, &problems) && n != nil {
				t.Fatalf("data was refused: %v", err)
			}
			return
		}
		again, err := FormatSource(path, out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("not settled: %v\n%q\n%q", err, out, again)
		}
		if n == nil || !n.same(read(out, limitsOf(Kind(path)), r)) {
			t.Fatalf("the meaning has changed:\n%q\n%q", data, out)
		}
	})
}

// FuzzGate: what the gate lets through is data, whatever it looks like: CUE
// makes of it the very values that stand there, and nothing refers to anything.
func FuzzGate(f *testing.F) {
	for _, file := range cases(f) {
		if src := caseSource(f, file); len(src.Data) <= 2<<10 {
			f.Add(src.Data, false)
		}
	}
	for _, text := range []string{
		`x: "\(y)"`, `x: #"\(y)"#`, `x: y`, `x: [for a in b {a}]`, `x: {...}`, `#x: 1`, `_x: 1`, `x?: 1`, `x: 1 & 2`, `x: *1 | 2`, `"\(x)": 1`, `x: 5Mi`, `x: 1_000`, `x: -5`, `x: 0.5`,
		`x: """` + "\n\ta\n\t\"\"\"", `@x(y)`, `x: y: z: 1`, `let x = 1`, `import "x"`, `package x`, `x: len("a")`, `x: 'a'`, `x: null`, `if true {x: 1}`, `[string]: 1`, `x: [...]`, `x: 1, x: 2`,
	} {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}
	ctx := cuecontext.New()
	f.Fuzz(func(t *testing.T, data []byte, config bool) {
		r := &report{file: "x.cue", config: config}
		n := read(data, limits{MaxFile, maxNodes}, r)
		if len(data) > MaxFile {
			return
		}
		if n == nil {
			if r.errors == 0 {
				t.Fatal("refused without a word")
			}
			return
		}
		if n.tooWide() != nil {
			return
		}
		value := ctx.BuildExpr(n.expr())
		if err := value.Validate(cue.Concrete(true), cue.Final()); err != nil {
			t.Fatalf("admitted, and no data: %v\n%q", err, data)
		}
		checkValue(t, n, value)
	})
}

// checkValue holds a value of CUE to the node that it is built of.
func checkValue(t *testing.T, n *node, v cue.Value) {
	t.Helper()
	switch n.kind {
	case textNode:
		if got, err := v.String(); err != nil || got != n.text {
			t.Fatalf("the text %q became %q (%v)", n.text, got, err)
		}
	case numberNode:
		if v.IncompleteKind()&cue.NumberKind == 0 {
			t.Fatalf("the number %s became %v", n.text, v)
		}
	case boolNode:
		if got, err := v.Bool(); err != nil || got != n.truth {
			t.Fatalf("%v became %v (%v)", n.truth, got, err)
		}
	case nullNode:
		if v.Null() != nil {
			t.Fatalf("null became %v", v)
		}
	case listNode:
		if length, err := v.Len().Int64(); err != nil || int(length) != len(n.elems) {
			t.Fatalf("%d elements became %d (%v)", len(n.elems), length, err)
		}
		for i, e := range n.elems {
			checkValue(t, e, v.LookupPath(cue.MakePath(cue.Index(i))))
		}
	default:
		fields, err := v.Fields(cue.All())
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for fields.Next() {
			count++
		}
		if count != len(n.fields) {
			t.Fatalf("%d fields became %d", len(n.fields), count)
		}
		for _, f := range n.fields {
			checkValue(t, f.value, v.LookupPath(cue.MakePath(cue.Str(f.name))))
		}
	}
}

// FuzzBlock: a block that is accepted is one address or one network, with a
// reason, and ends after it begins.
func FuzzBlock(f *testing.F) {
	for _, text := range []string{
		`block: {ip: "141.211.13.21", reason: "spam", since: "2026-11-23T08:00:00Z"}`,
		`block: {prefix: "2607:f018::/32", reason: "spam", since: "2026-11-23T08:00:00+02:00", until: "2026-12-01T00:00:00Z"}`,
		`block: {prefix: "0.0.0.0/0", reason: "spam", since: "0000-01-01T00:00:00Z", until: "9999-12-31T23:59:59Z"}`,
		`block: {ip: "::ffff:141.211.13.21", prefix: "10.0.0.1/8", reason: "", since: "now"}`, `block: {}`, `block: 5`,
	} {
		f.Add([]byte(text))
	}
	p := newParser(f, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		file := p.Parse(Source{Path: "registrations/blocks/x.cue", Size: int64(len(data)), Data: data})
		checkFile(t, file)
		b := file.Block
		if b == nil {
			return
		}
		switch {
		case !b.Prefix.IsValid(), b.Prefix != b.Prefix.Masked(), b.Prefix.Addr().Is4In6(), b.Prefix.Addr().Zone() != "":
			t.Errorf("prefix %v", b.Prefix)
		case len(b.Reason) < 3, b.Since.IsZero(), !b.Until.IsZero() && !b.Until.After(b.Since), b.At.Line < 1:
			t.Errorf("%+v", b)
		}
	})
}

// FuzzReplaceNetworks: the networks are those given and no others, the rest of
// the file means what it did, and doing it again changes nothing.
func FuzzReplaceNetworks(f *testing.F) {
	f.Add([]byte(""), "192.0.2.0/24 its static")
	f.Add([]byte("// The campus.\ncampus: [\"192.0.2.0/24\"] // all\nnetworks: {\n\t// above\n\t\"192.0.2.0/25\": {department: \"its\", use: \"static\"} // behind\n}\n"), "192.0.2.0/25 its dhcp,192.0.2.128/25 its static")
	f.Add([]byte("networks: \"192.0.2.0/24\": use: \"static\"\n"), "")
	f.Add([]byte("networks: {}, campus: []"), "2607:f018::/32 its wireless")
	f.Add([]byte("networks: 5"), "10.0.0.0/8 its static")
	f.Fuzz(func(t *testing.T, data []byte, list string) {
		var networks []Network
		seen := map[netip.Prefix]bool{}
		for entry := range strings.SplitSeq(list, ",") {
			words := strings.Fields(entry)
			if len(words) != 3 || len(networks) > 50 {
				continue
			}
			prefix, err := netip.ParsePrefix(words[0])
			if err != nil || prefix != prefix.Masked() || prefix.Addr().Is4In6() || seen[prefix] {
				continue
			}
			seen[prefix] = true
			networks = append(networks, Network{Prefix: prefix, Department: words[1], Use: words[2]})
		}
		out, _, err := ReplaceNetworks(networksPath, data, networks)
		if err != nil {
			return
		}
		r := &report{file: networksPath}
		now, was := read(out, limitsOf(KindCampus), r), read(data, limitsOf(KindCampus), r)
		if now == nil {
			t.Fatalf("no data: %v\n%q", r.problems, out)
		}
		if got := len(now.get("networks").fields); got != len(networks) {
			t.Fatalf("%d networks, want %d:\n%s", got, len(networks), out)
		}
		for i, n := range networks {
			f := now.get("networks").fields[i]
			if f.name != n.Prefix.String() || f.value.get("department").text != n.Department || f.value.get("use").text != n.Use {
				t.Fatalf("network %d is not %v:\n%s", i, n, out)
			}
		}
		for f := range was.each() {
			if f.name != "networks" && !f.value.same(now.get(f.name)) {
				t.Fatalf("%s has changed:\n%q\n%q", f.name, data, out)
			}
		}
		again, lost, err := ReplaceNetworks(networksPath, out, networks)
		if err != nil || !bytes.Equal(again, out) || len(lost) > 0 {
			t.Fatalf("not settled: %v, lost %q\n%q\n%q", err, lost, out, again)
		}
	})
}

// siteRules are what a site may write, good and bad, one of them at a time or
// several together.
var siteRules = []string{
	`volume: perDay: <=500`, `volume: perDay: <=99999999`, `volume: perHour: >=0`, `volume: {perHour: int, perDay: <=(perHour*4)}`, `volume: perDay: *5 | int`,
	`{...}`, `[string]: _`, `_`, `contact: {...}`, `contact: email: =~"umich"`, `contact: name: *"x" | string`, `expires?: string`, `expires: *"2027-11-30" | string`, `expires: <"2028"`,
	`accept: policies: *true | bool`, `accept: policies: bool`, `hosts: [...{kind: "printer" | "server"}]`, `hosts: [...{kind: *"printer" | string}]`, `hosts: [...{device: tls: "modern"}]`,
	`hosts: [_, ...]`, `hosts: [...{...}]`, `hosts: [...{name: =~"^m"}]`, `senders!: [...]`, `senders?: [...=~"umich"]`, `senders: *["*@x.edu"] | [...string]`, `purpose: !="x"`, `purpose: string | int`,
	`department: "lsa-physics"`, `department: *"its" | string`, `whyNoAuth: _`,
}

// FuzzSiteRules puts rules together and a file: what passes with the site's
// rules passes without them, and means the same.
func FuzzSiteRules(f *testing.F) {
	for i := range siteRules {
		f.Add([]byte{byte(i)}, []byte(good))
		f.Add([]byte{byte(i), byte(i + 1)}, []byte(strings.Replace(good, "expires: \"2027-11-30\"\n", "", 1)))
	}
	f.Add([]byte{4, 10, 12}, []byte(`department: "lsa-physics"`))
	plain := newParser(f, "")
	parsers := map[string]*Parser{}
	f.Fuzz(func(t *testing.T, rules, data []byte) {
		var site strings.Builder
		for _, r := range rules[:min(len(rules), 3)] {
			site.WriteString("#Registration: " + siteRules[int(r)%len(siteRules)] + "\n")
		}
		p, known := parsers[site.String()]
		if !known {
			p, _ = NewParser([]byte(site.String())) // nil if it is refused
			if len(parsers) < 500 {
				parsers[site.String()] = p
			}
		}
		if p == nil {
			return
		}
		src := Source{Path: goodPath, Size: int64(len(data)), Data: data}
		with := p.Parse(src)
		checkFile(t, with)
		if with.Registration == nil {
			return
		}
		without := plain.Parse(src)
		if !reflect.DeepEqual(with.Registration, without.Registration) {
			t.Fatalf("with %s%+v\nwithout %+v %v", site.String(), with.Registration, without.Registration, without.Problems)
		}
	})
}
