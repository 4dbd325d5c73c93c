package form

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// hostile are texts that have broken forms before.
var hostile = []string{ // read only
	"", " ", "\x00", "\xff\xfe", "\u202egnp.exe", "\u2028department: \"its\"", "\"", "\\", "\\(x)", `"}`, "]\n}", "\"\nhosts: []\n\"", `", notBulk: false, x: "`, "// c", "/* */", "#\"\"\"#",
	"<script>alert(1)</script>", "{{.}}", "${jndi:x}", "$(id)", "`id`", "'; DROP TABLE x; --", "../../etc/passwd", "registrations/its/storage.cue", "registrations/lsa-physics/mfp.cue",
	"Ünïcödé 物理 😀", "a@b", "a@b.c\r\nBcc: d@e.f", "*", "*@umich.edu", "-1", "0", "007", "1e9", "0x10", "1_000", "99999999999999999999", "true", "null", "_|_", "int & >0",
	"2027-11-23", "2027-02-30", "2027-11-23T00:00:00Z", "10000-01-01", "0000-00-00", "141.211.13.177", "141.211.13.178/32", "::ffff:141.211.13.1", "fe80::1%eth0", "0.0.0.0",
	"mfp7.physics.lsa.umich.edu", "MFP7.Physics.LSA.umich.edu", "a..b", strings.Repeat("a", 300), strings.Repeat("物", 3000), "lsa-physics", "campus", "blocks", "printer", "sender", "contact", "legacy", "off", "fix", "sloppy", "false",
	"Something of more than ten characters with \t a tab, \"quotes\" and \\ in it",
}

// holds judges what was sent, and holds it to what a form promises: a problem
// beside a field that the form has, or a file that says what was typed.
func holds(t *testing.T, sent url.Values) {
	t.Helper()
	base := sampleOf(t)
	v := Parse(sent)
	if v.Pasted != "" {
		v = v.Paste()
	}
	j, err := Judge(base, v, Options{Now: today()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range j.Findings {
		if f.Message == "" || f.Hint == "" || strings.ContainsAny(f.Message+f.Hint, "\n\r\x00\x1b\u202e\u2028") {
			t.Errorf("%+v", f)
		}
		if rank(f.Field) < -1 || f.Field != "" && !sentField(v, f.Field) {
			t.Errorf("there is no field %q", f.Field)
		}
	}
	if !j.Fine() {
		if len(j.Findings) == 0 {
			t.Errorf("refused without a word: %q", sent)
		}
		return
	}
	sameAsTyped(t, base, v, j)
	r := j.Request(Asker{Name: v.ContactName, Email: v.ContactEmail}, v.Comment)
	if strings.ContainsAny(r.Title, "\n`@#<") || len(r.Title) > 200 || mention.MatchString(r.Body) || reference.MatchString(r.Body) {
		t.Errorf("%q\n%s", r.Title, r.Body)
	}
}

// sentField reports whether a form has a field.
func sentField(v Values, name string) bool {
	_, texts := v.Encode()[name]
	_, boxes := v.acceptances()[name]
	return texts || boxes
}

// Hostile texts in every field, one at a time, and in all at once.
func TestHostileTexts(t *testing.T) {
	fine := filled().Encode()
	v := filled()
	names := []string{}
	for name := range fine {
		names = append(names, name)
	}
	for name := range v.acceptances() {
		names = append(names, name)
	}
	for _, text := range hostile {
		all := url.Values{}
		for _, name := range names {
			sent := url.Values{}
			for n, value := range fine {
				sent[n] = value
			}
			sent[name] = []string{text}
			all[name] = []string{text}
			holds(t, sent)
		}
		holds(t, all)
	}
}

// FuzzForm is the same with whatever comes to mind, in the fields that mask
// names by their bits.
func FuzzForm(f *testing.F) {
	fine := filled()
	sent := fine.Encode()
	for name := range fine.acceptances() {
		sent[name] = nil
	}
	names := slices.Sorted(maps.Keys(sent))
	for i, text := range hostile { // TestHostileTexts has them in every field
		f.Add(text, uint64(1)<<(i%len(names)))
	}
	f.Fuzz(func(t *testing.T, text string, mask uint64) {
		sent := fine.Encode()
		for i, name := range names {
			if mask&(1<<i) != 0 {
				sent.Set(name, text)
			}
		}
		holds(t, sent)
	})
}

func TestKindsAreThoseOfTheSchema(t *testing.T) {
	base := sampleOf(t)
	v := filled()
	for _, kind := range Kinds() {
		v.Hosts[0].Kind = kind
		if j, err := Judge(base, v, Options{Now: today()}); err != nil || !j.Fine() {
			t.Errorf("%s: %v, %v", kind, err, j.Findings)
		}
	}
	v.Hosts[0].Kind = "none"
	j, err := Judge(base, v, Options{Now: today()})
	if err != nil || len(j.Findings) != 1 || strings.Count(j.Findings[0].Message, `"`) != 2*(len(Kinds())+1) {
		t.Errorf("%v %+v", err, j.Findings)
	}
}
