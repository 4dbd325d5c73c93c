package registration

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// caseSource reads testdata/NNN-name.cue. Its first line may say where the
// register has it: "//path: registrations/…"; otherwise it stands at goodPath.
func caseSource(t testing.TB, file string) Source {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Path: goodPath, Size: int64(len(data)), Data: data}
	first, _, _ := bytes.Cut(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n"))
	if path, ok := strings.CutPrefix(strings.TrimSpace(string(first)), "//path: "); ok {
		src.Path = path
	}
	return src
}

func cases(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.cue")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases in testdata", err)
	}
	return files
}

// textOf is the text form of problems, as "gatepost check" prints them.
func textOf(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s\n  hint: %s\n", p, p.Hint)
	}
	return b.String()
}

// TestGolden holds each case to its golden text, all with one parser. A case
// that is valid has the values it means.
func TestGolden(t *testing.T) {
	p := newParser(t, "")
	for _, file := range cases(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".cue")
		t.Run(name, func(t *testing.T) {
			src := caseSource(t, file)
			f := p.Parse(src)
			got := textOf(f.Problems) + valueOf(f)
			golden := strings.TrimSuffix(file, ".cue") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			checkFile(t, f)
			checkKept(t, f)
		})
	}
}

// checkFile holds what is true of every File.
func checkFile(t testing.TB, f *File) {
	t.Helper()
	failed := slices.ContainsFunc(f.Problems, func(p Problem) bool { return p.Severity == Error })
	values := 0
	for _, set := range []bool{f.Registration != nil, f.Campus != nil, f.Block != nil} {
		if set {
			values++
		}
	}
	switch {
	case failed && values != 0:
		t.Error("a file with an error has a value")
	case !failed && values != 1 && Kind(f.Path) != KindIgnored:
		t.Errorf("a file without an error has %d values", values)
	case len(f.Problems) > maxProblems+1:
		t.Errorf("%d problems", len(f.Problems))
	}
	for i, p := range f.Problems {
		if p.File != f.Path || p.Line < 1 || p.Column < 1 || p.Rule == "" || p.Severity == "" || p.Message == "" || p.Hint == "" {
			t.Errorf("a problem lacks something: %+v", p)
		}
		if strings.ContainsAny(p.Message+p.Hint, "\n\r\x1b\u202e") {
			t.Errorf("a problem breaks its line: %q %q", p.Message, p.Hint)
		}
		if i > 0 && f.Problems[i-1].Line > p.Line {
			t.Error("the problems are not in order")
		}
	}
}

// valueOf writes what a file means, for the golden texts of valid files.
func valueOf(f *File) string {
	var b strings.Builder
	switch {
	case f.Registration != nil:
		r := f.Registration
		fmt.Fprintf(&b, "registration of %s\n  contact  %s <%s>\n  purpose  %q\n  because  %q\n", r.Department, r.Contact.Name, r.Contact.Email, r.Purpose, r.WhyNoAuth)
		for _, h := range r.Hosts {
			fmt.Fprintf(&b, "  host     %s %s %s %+v at %d:%d\n", h.IP, h.Name, h.Kind, h.Device, h.At.Line, h.At.Column)
		}
		fmt.Fprintf(&b, "  senders  %q\n  volume   %+v\n  until    %s\n  accept   %+v\n  at       %v\n", r.Senders, r.Volume, r.Expires, r.Accept, r.At)
	case f.Campus != nil:
		fmt.Fprintf(&b, "campus\n")
		for _, p := range f.Campus.Prefixes {
			fmt.Fprintf(&b, "  prefix   %s at %v\n", p.Prefix, p.At)
		}
		for _, n := range f.Campus.Networks {
			fmt.Fprintf(&b, "  network  %s %s %s at %v\n", n.Prefix, n.Department, n.Use, n.At)
		}
		for _, d := range f.Campus.Departments {
			fmt.Fprintf(&b, "  unit     %+v\n", d)
		}
	case f.Block != nil:
		fmt.Fprintf(&b, "block of %s\n  reason   %q\n  since    %s\n  until    %s\n  at       %v\n", f.Block.Prefix, f.Block.Reason, f.Block.Since, f.Block.Until, f.Block.At)
	}
	return b.String()
}

// TestEveryRuleHasACase holds that each rule this package can raise has a
// golden case; not-regular needs a mode and has TestHostile.
func TestEveryRuleHasACase(t *testing.T) {
	var golden []byte
	for _, file := range cases(t) {
		text, err := os.ReadFile(strings.TrimSuffix(file, ".cue") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		golden = append(golden, text...)
	}
	for _, rule := range []Rule{
		RuleSyntax, RuleNotData, RuleTooLarge, RulePath, RuleSchema, RuleMissingField,
		RuleUnknownField, RuleBadIP, RuleIPDuplicate, RuleAccept, RuleVolume,
	} {
		if !bytes.Contains(golden, []byte(": "+rule+": ")) {
			t.Errorf("no golden case raises %s", rule)
		}
	}
}

// checkKept: a file is as it was after a stay on the disk, where reconcile keeps
// what it has parsed.
func checkKept(t *testing.T, f *File) {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var kept File
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&kept, f) {
		t.Errorf("kept as\n%+v\nwas\n%+v", kept, *f)
	}
}
