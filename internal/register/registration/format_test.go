package registration

import (
	"errors"
	"net/netip"

	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// placeless returns r without the positions, which a new text moves.
func placeless(r *Registration) Registration {
	c := *r
	c.At = Positions{}
	c.Hosts = append([]Host(nil), r.Hosts...)
	for i := range c.Hosts {
		c.Hosts[i].At = Pos{}
	}
	return c
}

// roundTrip parses the canonical text of r and compares.
func roundTrip(t testing.TB, p *Parser, r *Registration) {
	t.Helper()
	text := Format(r, "A remark.")
	again := p.Parse(source(r.Path, string(text)))
	if again.Registration == nil {
		t.Fatalf("the canonical text is refused: %s\n%s", textOf(again.Problems), text)
	}
	if a, b := placeless(r), placeless(again.Registration); !reflect.DeepEqual(a, b) {
		t.Fatalf("the canonical text means something else:\n%+v\n%+v\n%s", a, b, text)
	}
	settled, err := FormatSource(r.Path, text)
	if err != nil || string(settled) != string(text) {
		t.Fatalf("the canonical text is not settled: %v\n%s\n%s", err, text, settled)
	}
}

func TestFormatIsTheExample(t *testing.T) {
	p := newParser(t, "")
	f := p.Parse(source(goodPath, good))
	got := string(Format(f.Registration, "Scan-to-email in the physics print room.\n"))
	if got != good {
		t.Errorf("got\n%s\nwant\n%s", got, good)
	}
	roundTrip(t, p, f.Registration)
}

func TestFormatKeepsEveryText(t *testing.T) {
	p := newParser(t, "")
	base := p.Parse(source(goodPath, good)).Registration
	for _, s := range []string{
		`"quotes" and 'quotes'`, `back\slash`, `\(department)`, `#"raw"#`, `"""`, "a // comment", "}\nhosts: []", `", notBulk: false`,
		"three\nlines\nof text", "a tab\tin text", "trailing blank ", " leading", "物理 Zürich 😀", "\u00a0\u00a0non-breaking", `\u202e`, "${x} $(x) `x`", "*", "_", "true",
	} {
		r := *base
		r.Bounces = BouncesToContact
		r.Purpose, r.WhyNoAuth = s+" 0123456789", "0123456789 "+s
		if !strings.ContainsAny(s, "\n\t") {
			r.Contact.Name = s
		}
		roundTrip(t, p, &r)
	}
}

func TestFormatOfDevices(t *testing.T) {
	p := newParser(t, "")
	r := *p.Parse(source(goodPath, good)).Registration
	for _, test := range []struct {
		device Device
		want   string
	}{
		{Device{}, `kind: "sensor"}`}, // nobody has filled it in: the defaults hold
		{Device{"reject", "modern", "strict", true}, `kind: "sensor"}`},
		{Device{"fix", "modern", "strict", true}, `device: {bareLF: "fix"}`},
		{Device{"reject", "modern", "sloppy", true}, `device: {commands: "sloppy"}`},
		{Device{"reject", "off", "strict", false}, `device: {tls: "off", addHeaders: false}`},
	} {
		r.Hosts = []Host{{IP: netip.MustParseAddr("192.0.2.1"), Name: "a.example.edu", Kind: "sensor", Device: test.device}}
		text := string(Format(&r, ""))
		if !strings.Contains(text, test.want) {
			t.Errorf("%+v: no %s in\n%s", test.device, test.want, text)
		}
		f := p.Parse(source(goodPath, text))
		if f.Registration == nil {
			t.Fatal(f.Problems)
		}
		want := test.device
		if want == (Device{}) {
			want = Device{"reject", "modern", "strict", true}
		}
		if got := f.Registration.Hosts[0].Device; got != want {
			t.Errorf("%+v became %+v", want, got)
		}
	}
}

func TestFormatOfComments(t *testing.T) {
	p := newParser(t, "")
	r := p.Parse(source(goodPath, good)).Registration
	for _, comment := range []string{
		"one line", "two\nlines", "a gap\n\nbetween", "windows\r\nlines", "an\rold mac", "\x1b[2J and \u202e and \x00", "\n\n", `*/ #" """ }`, "\u2028department: 1", "tail  \nblank",
	} {
		text := Format(r, comment)
		f := p.Parse(source(goodPath, string(text)))
		if f.Registration == nil || !reflect.DeepEqual(placeless(r), placeless(f.Registration)) {
			t.Errorf("comment %q: %v\n%s", comment, f.Problems, text)
		}
		if settled, err := FormatSource(goodPath, text); err != nil || string(settled) != string(text) {
			t.Errorf("comment %q is not settled: %v\n%q\n%q", comment, err, text, settled)
		}
	}
}

func TestFormatExpiresOnTheLastDay(t *testing.T) {
	r := *newParser(t, "").Parse(source(goodPath, good)).Registration
	r.Expires = time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC) // a leap year
	if text := string(Format(&r, "")); !strings.Contains(text, `expires: "2028-02-29"`) {
		t.Error(text)
	}
}

// Each valid golden case keeps its meaning and its comments, and settles at
// once.
func TestFormatSourceOfTheCases(t *testing.T) {
	p := newParser(t, "")
	for _, file := range cases(t) {
		src := caseSource(t, file)
		out, err := FormatSource(src.Path, src.Data)
		name := filepath.Base(file)
		if err != nil {
			var problems *ProblemError
			first := p.Parse(src).Problems
			if Kind(src.Path) == KindMisplaced || Kind(src.Path) == KindIgnored {
				continue
			}
			if !errors.As(err, &problems) || len(first) == 0 || len(problems.Problems) == 0 || first[0] != problems.Problems[0] {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		again, err := FormatSource(src.Path, out)
		if err != nil || string(again) != string(out) {
			t.Errorf("%s does not settle: %v", name, err)
		}
		for line := range strings.SplitSeq(string(src.Data), "\n") {
			if _, remark, ok := strings.Cut(line, "// "); ok && !strings.Contains(string(out), strings.TrimSpace(remark)) {
				t.Errorf("%s has lost the comment %q", name, remark)
			}
		}
		if string(out) == string(src.Data) {
			continue
		}
		a, b := p.Parse(src), p.Parse(source(src.Path, string(out)))
		if (a.Registration == nil) != (b.Registration == nil) {
			t.Errorf("%s is judged differently after formatting", name)
		}
		if a.Registration != nil && !reflect.DeepEqual(placeless(a.Registration), placeless(b.Registration)) {
			t.Errorf("%s means something else after formatting", name)
		}
	}
}

func TestFormatSourceLaysOut(t *testing.T) {
	in := "\ufeff// top\r\ndepartment:\"its\"\r\n\r\n\r\n\r\nvolume:{perHour:1,perDay:2} // why\r\nhosts:[{ip:\"192.0.2.1\"}\r\n// the second\r\n{ip:\"192.0.2.2\"}]\r\n// end"
	want := "// top\ndepartment: \"its\"\n\nvolume: {perHour: 1, perDay: 2} // why\nhosts: [{ip: \"192.0.2.1\"}\n\t// the second\n\t{ip: \"192.0.2.2\"}]\n// end\n"
	got, err := FormatSource(goodPath, []byte(in))
	if err != nil || string(got) != want {
		t.Errorf("%v\n%q\n%q", err, got, want)
	}
}

func TestFormatSourceRefusesWhatIsNotData(t *testing.T) {
	for _, text := range []string{"x: y", "import \"list\"", "x: [", "x: 1 @a()", "a?: 1", strings.Repeat("/", MaxFile+1)} {
		out, err := FormatSource(goodPath, []byte(text))
		var problems *ProblemError
		if !errors.As(err, &problems) || out != nil || len(problems.Problems) == 0 || problems.Error() == "" {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// The examples in the schema's comments, which hints show, are valid: a file of
// them is accepted.
func TestExamplesOfTheSchemaAreValid(t *testing.T) {
	p := newParser(t, "")
	for _, test := range []struct {
		path string
		d    *Definition
		skip string
	}{
		{goodPath, p.registration, ""},
		{"registrations/campus/all.cue", p.campus, ""},
		{"registrations/blocks/x.cue", p.block, ""},
	} {
		var b strings.Builder
		for _, name := range test.d.shape.names {
			b.WriteString(test.d.shape.fields[name].example + "\n")
		}
		if f := p.Parse(source(test.path, b.String())); len(f.Problems) > 0 {
			t.Errorf("%s\n%s", b.String(), textOf(f.Problems))
		}
		var walk func(path string, s *shape)
		walk = func(path string, s *shape) {
			for _, name := range s.names {
				f := s.fields[name]
				if f.doc == "" || !strings.HasPrefix(f.example, name+":") {
					t.Errorf("%s.%s has no comment or no example: %q %q", path, name, f.doc, f.example)
				}
				if read([]byte(f.example), limits{MaxFile, maxNodes}, &report{}) == nil {
					t.Errorf("%s.%s: the example is no data: %s", path, name, f.example)
				}
				walk(path+"."+name, f)
				if f.elem != nil {
					walk(path+"."+name, f.elem)
				}
			}
		}
		walk(test.path, test.d.shape)
	}
}
