package registration

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// caseSource reads testdata/NNN-name.cue. Its first lines may say where the
// register has it and what it is there, "//path: registrations/…" and "//mode:
// symlink"; otherwise it is a regular file at goodPath.
func caseSource(t testing.TB, file string) Source {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Path: goodPath, Size: int64(len(data)), Data: data}
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		line := strings.TrimSpace(string(line))
		if path, ok := strings.CutPrefix(line, "//path: "); ok {
			src.Path = path
		} else if mode, ok := strings.CutPrefix(line, "//mode: "); ok {
			src.Mode = map[string]Mode{"regular": Regular, "symlink": Symlink, "submodule": Submodule, "other": Other}[mode]
		} else {
			break
		}
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
		if r.Bounces != "" {
			fmt.Fprintf(&b, "  bounces  %s\n", r.Bounces)
		}
		fmt.Fprintf(&b, "  senders  %q\n  volume   %+v\n  until    %s\n  accept   %+v\n  at       %v\n", r.Senders, r.Volume, r.Expires, r.Accept, r.At)
	case f.Campus != nil:
		fmt.Fprintf(&b, "campus\n")
		if f.Campus.Portal != (Account{}) {
			fmt.Fprintf(&b, "  portal   %+v\n", f.Campus.Portal)
		}
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

// TestPositions: a problem stands at the very word that is wrong. The places
// were found by eye: each is the text around it with a bar before the word, and
// is looked up here without parsing anything.
func TestPositions(t *testing.T) {
	p := newParser(t, "")
	for name, want := range map[string][]string{
		"100-syntax-missing-quote":      {"syntax whyNoAuth: The |firmware"},
		"114-syntax-missing-colon":      {`syntax purpose    |"Scan`},
		"115-syntax-equals":             {"syntax purpose |="},
		"120-not-data-unquoted-word":    {"not-data department: |physics"},
		"123-not-data-duplicate-field":  {`not-data |expires: "2027-12-30"`},
		"130-not-data-date":             {"not-data expires: |2027"},
		"152-path-other-department":     {`path department: |"its"`},
		"201-schema-enum":               {`schema kind: |"printr"`, `schema bareLF: |"Fix"`, `schema tls: |"TLS1.0"`, `schema commands: |"lax"`},
		"205-schema-email":              {`schema email: |"Physics`},
		"207-schema-dates":              {`schema expires: |"2027`},
		"209-schema-host-names":         {`schema name: |"mfp1"`, `schema name: |"mfp2_`},
		"213-schema-entry":              {`schema |"141.211.13.21",`},
		"221-missing-field-nested":      {`missing-field contact: |{`, `missing-field |{ip: "141`, `missing-field volume: |{`, `missing-field accept: |{`},
		"230-unknown-field-typo":        {"unknown-field |contcat"},
		"232-unknown-field-other-place": {"unknown-field |perHour: 200\nvolume"},
		"233-unknown-field-in-device":   {"unknown-field |tsl"},
		"250-ip-duplicate":              {"ip-duplicate \"printer\"},\n\t{ip: |\"141"},
		"260-accept-false":              {"accept policies: |false", "accept notBulk: |false", "accept notWorkstation: |false", "accept noMailServer: |false"},
		"270-volume-order":              {"volume perDay: |100"},
		"302-campus-duplicate":          {"not-data |departments: its"},
		"304-campus-types":              {`schema campus: |"`, "schema networks: |[", "schema departments: |null"},
		"312-block-bad-address":         {`bad-ip {ip: |"141`},
		"005-valid-crlf":                nil,
	} {
		t.Run(name, func(t *testing.T) {
			src := caseSource(t, filepath.Join("testdata", name+".cue"))
			text := string(src.Data)
			var places []string
			for _, w := range want {
				rule, w, _ := strings.Cut(w, " ")
				before, after, _ := strings.Cut(w, "|")
				if strings.Count(text, before+after) != 1 {
					t.Fatalf("%q is not there once", before+after)
				}
				at := strings.Index(text, before+after) + len(before)
				line, column := 1+strings.Count(text[:at], "\n"), at-strings.LastIndex(text[:at], "\n")
				places = append(places, fmt.Sprintf("%d:%d %s", line, column, rule))
			}
			var got []string
			for _, problem := range p.Parse(src).Problems {
				got = append(got, fmt.Sprintf("%d:%d %s", problem.Line, problem.Column, problem.Rule))
			}
			if !slices.Equal(got, places) {
				t.Errorf("got %v, want %v", got, places)
			}
		})
	}
}

// TestRulesListsEveryRule reads the constants from the source, so that a new
// rule cannot be left out of Rules.
func TestRulesListsEveryRule(t *testing.T) {
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	var constants []Rule
	for _, m := range regexp.MustCompile(`(?m)^\tRule\w+ +Rule += "([a-z-]+)"$`).FindAllSubmatch(source, -1) {
		constants = append(constants, Rule(m[1]))
	}
	slices.Sort(constants)
	if got := slices.Sorted(slices.Values(Rules())); len(got) < 21 || !slices.Equal(got, constants) {
		t.Errorf("Rules: %v\nconstants: %v", got, constants)
	}
}
