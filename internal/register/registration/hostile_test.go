package registration

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A hostile file is refused before anything is evaluated: what the evaluator
// would make of it takes gigabytes or for ever, and cannot be stopped.
func TestHostile(t *testing.T) {
	doubling := "a0: \"aaaaaaaaaa\"\n"
	laughs := "l0: {a: 1}\n"
	for i := range 40 {
		doubling += fmt.Sprintf("a%d: \"\\(a%d)\\(a%d)\"\n", i+1, i, i)
		laughs += fmt.Sprintf("l%d: {a: l%d, b: l%d, c: l%d}\n", i+1, i, i, i)
	}
	var disjunctions strings.Builder
	for i := range 24 {
		fmt.Fprintf(&disjunctions, "x%d: {a: 1} | {b: 2} | {c: 3}\n", i)
	}
	addresses := func(n int) string {
		var b strings.Builder
		b.WriteString("hosts: [\n")
		for i := range n {
			fmt.Fprintf(&b, "\"10.%d.%d.%d\",\n", i>>16&255, i>>8&255, i&255)
		}
		return b.String() + "]\n"
	}
	link := Source{Path: goodPath, Mode: Symlink, Size: 11, Data: []byte("/etc/passwd")}
	module := Source{Path: "registrations/lsa-physics", Mode: Submodule}
	device := Source{Path: goodPath, Mode: Other, Data: []byte(good)}
	folder := Source{Path: "registrations", Mode: Symlink, Data: []byte("/")}
	cut := Source{Path: goodPath, Size: 1 << 40, Data: []byte(good)}
	file := func(text string) Source { return source(goodPath, text) }

	p := newParser(t, "")
	for _, test := range []struct {
		name string
		src  Source
		rule Rule
	}{
		{"strings doubled by interpolation", file(doubling), RuleNotData},
		{"list.Range", file("import \"list\"\nx: list.Range(0, 1e9, 1)\n"), RuleNotData},
		{"nested comprehensions", file("x: [for a in l for b in l for c in l for d in l {a}]\nl: [1, 2, 3]\n"), RuleNotData},
		{"24 disjunctions", file(disjunctions.String()), RuleNotData},
		{"structs that laugh", file(laughs), RuleNotData},
		{"20,000 plain addresses", file(addresses(20_000)), RuleTooLarge},
		{"150 plain addresses", file(addresses(150)), RuleMissingField},
		{"300 plain addresses", file(addresses(300)), RuleTooLarge},
		{"4,100 plain addresses", file(strings.ReplaceAll(addresses(4_100), "10.", "")), RuleTooLarge},
		{"a symbolic link", link, RuleNotRegular},
		{"a submodule", module, RuleNotRegular},
		{"a device", device, RuleNotRegular},
		{"a link in place of the register", folder, RuleNotRegular},
		{"a blob that was cut", cut, RuleTooLarge},
		{"an embedded file", file("x: _ @embed(file=/etc/passwd)\n"), RuleNotData},
		{"an embedded file for the package", file("@extern(embed)\npackage x\n"), RuleNotData},
		{"400 KB of brackets", file("x: " + strings.Repeat("[", 400_000)), RuleTooLarge},
		{"60 KB of brackets", file("x: " + strings.Repeat("[", 60_000)), RuleTooLarge},
		{"6 KB of closed brackets", file("x: " + strings.Repeat("[", 3_000) + strings.Repeat("]", 3_000)), RuleTooLarge},
		{"12 KB of braces", file("x: " + strings.Repeat("{x:", 3_000) + "1" + strings.Repeat("}", 3_000)), RuleTooLarge},
		{"9 KB of shorthand", file(strings.Repeat("x: ", 3_000) + "1\n"), RuleTooLarge},
		{"12 KB of operators", file("x: 1" + strings.Repeat("&1", 6_000)), RuleNotData},
		{"9 KB of minus signs", file("x: " + strings.Repeat("-", 9_000) + "1"), RuleNotData},
		{"2 KB of parentheses", file("x: " + strings.Repeat("(", 1_000) + "1" + strings.Repeat(")", 1_000)), RuleNotData},
		{"6,000 errors", file(strings.Repeat("x\n", 6_000)), RuleNotData},
		{"a huge exponent", file("x: 1e1000000000\n"), RuleNotData},
		{"a huge number", file("x: " + strings.Repeat("9", 60_000) + "\n"), RuleNotData},
		{"a huge multiplier", file("x: 9Ki\n"), RuleNotData},
		{"a repeated text", file("import \"strings\"\nx: strings.Repeat(\"x\", 4000000000)\n"), RuleNotData},
		{"a text times a number", file("x: \"A\"*500000000\n"), RuleNotData},
		{"a reference", file("department: contact.name\ncontact: name: \"x\"\n"), RuleNotData},
		{"a reference to itself", file("x: x\n"), RuleNotData},
		{"an import", file("import \"tool/exec\"\n"), RuleNotData},
		{"an import of a module", file("import \"example.com/x@v1\"\n"), RuleNotData},
		{"an attribute", file(strings.Replace(good, "1000}", "1000} @go(x)", 1)), RuleNotData},
		{"an attribute of the file", file("@if(prod)\n" + good), RuleNotData},
		{"an experiment of the language", file("@experiment(aliasv2)\n" + good), RuleNotData},
		{"a hidden field", file("_x: 1\n" + good), RuleNotData},
		{"a definition", file("#X: 1\n" + good), RuleNotData},
		{"a quoted definition", file("\"#X\": 1\n" + good), RuleUnknownField},
		{"a pattern constraint", file("[=~\"x\"]: 1\n" + good), RuleNotData},
		{"a pattern for all", file("[string]: 1\n" + good), RuleNotData},
		{"an ellipsis", file(good + "...\n"), RuleNotData},
		{"an ellipsis in a list", file("x: [...]\n" + good), RuleNotData},
		{"a typed ellipsis", file("x: [...string]\n" + good), RuleNotData},
		{"an optional field", file("x?: 1\n" + good), RuleNotData},
		{"a required field", file("x!: 1\n" + good), RuleNotData},
		{"an alias of a field", file("X=x: 1\n" + good), RuleNotData},
		{"an alias of a value", file("x: X={a: 1}\n" + good), RuleNotData},
		{"a dynamic field", file("(\"x\"): 1\n" + good), RuleNotData},
		{"an interpolated field", file("\"\\(1)\": 1\n" + good), RuleNotData},
		{"a let clause", file("let x = 1\n" + good), RuleNotData},
		{"a bound", file("x: >1\n" + good), RuleNotData},
		{"a regular expression", file("x: =~\"((a{100}){100}){100}\"\n" + good), RuleNotData},
		{"a default", file("x: *1 | 2\n" + good), RuleNotData},
		{"top", file("x: _\n" + good), RuleNotData},
		{"bottom", file("x: _|_\n" + good), RuleNotData},
		{"octets", file("x: '\\xff'\n" + good), RuleNotData},
		{"a function", file("x: len(\"x\")\n" + good), RuleNotData},
		{"an index", file("x: [1, 2][0]\n" + good), RuleNotData},
		{"a slice", file("x: [1, 2][0:1]\n" + good), RuleNotData},
		{"a struct with braces about all", file("{" + good + "}"), RuleNotData},
		{"an embedded scalar", file("5\n"), RuleNotData},
		{"a second package clause", file("package x\npackage y\n" + good), RuleSyntax},
		{"a zero octet", file("x: \"\x00\"\n" + good), RuleNotData},
		{"an escape sequence of a terminal", file("// \x1b[2J\n" + good), RuleNotData},
		{"a lone carriage return", file("// all is well\rdepartment: 1\n" + good), RuleNotData},
		{"a campus with a comprehension", source("registrations/campus/x.cue", "networks: {for i in [1] {\"\\(i)\": {}}}\n"), RuleNotData},
		{"a campus of brackets", source("registrations/campus/x.cue", "campus: "+strings.Repeat("[", 30_000)), RuleTooLarge},
		{"a path that breaks a line", source("registrations/a\nb/c.cue", good), RulePath},
		{"a path that climbs", source("registrations/../schema/site.cue", good), RulePath},
		{"a path with an empty part", source("registrations//x.cue", good), RulePath},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f := p.Parse(test.src)
			runtime.ReadMemStats(&after)
			if f.Registration != nil || f.Campus != nil || f.Block != nil || len(f.Problems) == 0 {
				t.Fatal("accepted")
			}
			if got := f.Problems[0].Rule; got != test.rule {
				t.Errorf("rule %s, want %s: %s", got, test.rule, f.Problems[0])
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used >= 64 {
				t.Errorf("%d MiB allocated", used)
			}
			if n := len(f.Problems); n > maxProblems+1 {
				t.Errorf("%d problems", n)
			}
			checkFile(t, f)
		})
	}
}

// A file under campus/ may be large enough to fill the stack of CUE's parser,
// which ends the program, or to keep its evaluator busy for hours.
func TestHostileCampus(t *testing.T) {
	const path = "registrations/campus/networks.cue"
	p := newParser(t, "")
	for _, test := range []struct {
		head, link, tail string
		rule             Rule
	}{
		{"x: ", "a:\n", "", RuleTooLarge},
		{"x: ", "1&", "1", RuleTooLarge},
		{"x: ", "a.", "a", RuleTooLarge},
		{"x: ", "[a]:", "", RuleTooLarge},
		{"x: ", "{} & ", "{}", RuleTooLarge},
		{"x: ", `"a," + `, `""`, RuleTooLarge},
		{"x: ", "if a {", "", RuleTooLarge},
		{"x: ", "[", "", RuleTooLarge},
		{"x: ", "@a(", "", RuleNotData},
		{"x: ", "@a({", "", RuleNotData},
		{"x: ", "// ,\n@a(", "", RuleNotData},
		{"x: ", `"\(a), " + `, `""`, RuleNotData},
		{"campus: [", `"10.0.0.0/8",`, "]", RuleIPDuplicate},
		{"campus: [", "1,", "]", RuleTooLarge},
		{`departments: x: {name: "x", team: {slug: "x", id: 1}, contactDomains: [`, `"x.example",`, "]}", RuleTooLarge},
	} {
		t.Run(test.link, func(t *testing.T) {
			links := (MaxCampusFile - len(test.head) - len(test.tail)) / len(test.link)
			if strings.HasSuffix(test.link, ",") { // a list that the gate lets through
				links = 60_000
			}
			f := p.Parse(source(path, test.head+strings.Repeat(test.link, links)+test.tail))
			if len(f.Problems) == 0 || f.Problems[0].Rule != test.rule {
				t.Errorf("want %s, got %v", test.rule, f.Problems)
			}
			checkFile(t, f)
		})
	}
}

// A campus list may be as long as a file has room for.
func TestLongCampusList(t *testing.T) {
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, "\"10.%d.%d.0/24\",\n", i>>8, i&255)
	}
	f := newParser(t, "").Parse(source("registrations/campus/networks.cue", "campus: [\n"+b.String()+"]\n"))
	if f.Campus == nil || len(f.Campus.Prefixes) != 20_000 {
		t.Errorf("%v", f.Problems)
	}
}

// The gate's nodes are all that the evaluator gets to see; whatever a string or
// a name holds, it stays one.
func TestWhatIsEvaluatedIsData(t *testing.T) {
	p := newParser(t, "")
	for _, text := range []string{`"\\(department)"`, `#"\(department)"#`, `"\u005c(department)"`, `"*true | 1"`} {
		file := strings.Replace(good, `"Physics IT"`, text, 1)
		f := p.Parse(source(goodPath, file))
		if f.Registration == nil {
			t.Errorf("%s: %v", text, f.Problems)
			continue
		}
		if name := f.Registration.Contact.Name; name == "lsa-physics" || name == "" {
			t.Errorf("%s was evaluated to %q", text, name)
		}
	}
}

// A parser keeps nothing of the files it has read.
func TestParserKeepsNothing(t *testing.T) {
	p := newParser(t, "")
	src, bad := source(goodPath, good), source(goodPath, strings.ReplaceAll(good, "printer", "printr"))
	read := func(n int) uint64 {
		for range n {
			p.Parse(src)
			p.Parse(bad)
		}
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	start := read(10)
	if grown := int64(read(30)) - int64(start); grown > 1_000_000 { // compiling would keep 23 KB of each
		t.Errorf("the heap has grown by %d KB over 60 files", grown/1000)
	}
}
