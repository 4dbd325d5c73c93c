package mail

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseAddressReadsMailboxes(t *testing.T) {
	long := strings.Repeat("x", 63)
	for in, want := range map[string]Address{
		"user@example.org":                       {"user", "example.org"},
		"User@Example.ORG":                       {"User", "Example.ORG"},
		"a.b+c!#$%&'*/=?^_`{|}~-d@example.org":   {"a.b+c!#$%&'*/=?^_`{|}~-d", "example.org"},
		"Postmaster":                             {"Postmaster", ""},
		"a@[192.0.2.1]":                          {"a", "[192.0.2.1]"},
		"a@[IPv6:2001:db8::1]":                   {"a", "[IPv6:2001:db8::1]"},
		"a@under_score.example":                  {"a", "under_score.example"},
		"a@localhost":                            {"a", "localhost"},
		`"john smith"@example.org`:               {"john smith", "example.org"},
		`"a@b"@example.org`:                      {"a@b", "example.org"},
		`"a\"b\\c"@example.org`:                  {`a"b\c`, "example.org"},
		`"\a"@example.org`:                       {"a", "example.org"},
		`">"@example.org`:                        {">", "example.org"},
		`"plain"@example.org`:                    {"plain", "example.org"},
		`".a..b."@example.org`:                   {".a..b.", "example.org"},
		"jürgen@bücher.example":                  {"jürgen", "bücher.example"},
		strings.Repeat("x", 64) + "@example.org": {strings.Repeat("x", 64), "example.org"},
		"a@" + long + ".example":                 {"a", long + ".example"},
	} {
		got, err := ParseAddress(in, true)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseAddressRefusesWhatIsNone(t *testing.T) {
	for _, in := range []string{
		"", "@", "a", "a@", "@example.org", "a@b@c", "a b@c", " a@c", "a@c ", "a@ c", "a@b c", "<a@c>", "a@c>",
		".a@c", "a.@c", "a..b@c", "a@.c", "a@c.", "a@c..d", "a@-c", "a@c-", "a@c,d", "a@c;d", "a@c/d", "a@c:d",
		"a\r@c", "a\n@c", "a\x00@c", "a\x7f@c", "a\t@c", "a@c\r\nRCPT", "a@c\x00", "\"a\r\nb\"@c", "\"a\x00\"@c",
		`"a@c`, `"a"`, `"a"@`, `"a"c`, `"a"b@c`, `""@c`, `"a\`, `"a\"@c`, `"`, `"postmaster"@`, "postmaster@",
		"a@[]", "a@[192.0.2]", "a@[192.0.2.1", "a@[2001:db8::1]", "a@[IPv6:192.0.2.1]", "a@[IPv6:fe80::1%eth0]", "a@[x]",
		"a\xff@c", "a@\xff", "\"\xff\"@c",
		strings.Repeat("x", 65) + "@c", "a@" + strings.Repeat("x", 64), "a@" + strings.Repeat("x.", 130) + "x", strings.Repeat("x", 1<<20),
	} {
		if got, err := ParseAddress(in, true); err == nil {
			t.Errorf("%.60q was read as %+v", in, got)
		}
	}
}

func TestNonASCIINeedsUTF8(t *testing.T) {
	for _, in := range []string{"ü@example.org", "a@ü.example", `"ü"@example.org`} {
		a, err := ParseAddress(in, true)
		if err != nil || a.IsASCII() {
			t.Errorf("%s: %v, IsASCII %v", in, err, a.IsASCII())
		}
		if _, err := ParseAddress(in, false); err == nil {
			t.Errorf("%s passed as ASCII", in)
		}
	}
}

func TestAddressIsQuotedWhereItMustBe(t *testing.T) {
	for a, want := range map[Address]string{
		{}:                            "<>",
		{"a", "c.d"}:                  "<a@c.d>",
		{"postmaster", ""}:            "<postmaster>",
		{"a b> SIZE=9", "c.d"}:        `<"a b> SIZE=9"@c.d>`,
		{`a"b\c`, "c.d"}:              `<"a\"b\\c"@c.d>`,
		{"a@b", "c.d"}:                `<"a@b"@c.d>`,
		{"a..b", "c.d"}:               `<"a..b"@c.d>`,
		{"ü", "ü.example"}:            "<ü@ü.example>",
		{"a", "[IPv6:2001:db8::1]"}:   "<a@[IPv6:2001:db8::1]>",
		{strings.Repeat(`"`, 3), "c"}: `<"\"\"\""@c>`,
	} {
		if got := a.Path(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestEnvelopeSurvivesJSON(t *testing.T) {
	for _, a := range []Address{{}, {"a", "c.d"}, {"a b", "c.d"}, {"Postmaster", ""}, {"ü", "ü.d"}} {
		data, err := json.Marshal(Envelope{From: a})
		if err != nil {
			t.Fatal(err)
		}
		var back Envelope
		if err := json.Unmarshal(data, &back); err != nil || back.From != a {
			t.Errorf("%s: %+v, %v", data, back.From, err)
		}
	}
	for _, o := range []Outcome{Deferred, Delivered, Failed} {
		text, _ := o.MarshalText()
		var back Outcome
		if err := back.UnmarshalText(text); err != nil || back != o {
			t.Errorf("%s became %s", o, back)
		}
	}
	var unknown Outcome = Failed
	if err := unknown.UnmarshalText([]byte("exploded")); err != nil || unknown != Deferred {
		t.Error("an unknown outcome is not temporary")
	}
}

// FuzzAddress holds that whatever is read is written so that it reads the same
// again, and that nothing in it is syntax.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b.c", `"a b"@c.d`, `"\""@c`, "postmaster", "a@[192.0.2.1]", "ü@ü.d", `">"@c`, "a@b@c", ""} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		a, err := ParseAddress(s, utf8)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String(), utf8)
		if err != nil || again != a {
			t.Fatalf("%q is written %q, which reads %+v, %v", s, a, again, err)
		}
		if strings.ContainsAny(a.Path(), "\r\n\x00\t") || !utf8 && !a.IsASCII() {
			t.Fatalf("%q holds what no path may", a.Path())
		}
		if a.IsNull() {
			t.Fatalf("%q is the null path", s)
		}
	})
}
