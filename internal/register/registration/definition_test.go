package registration

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestDefinitionDecodes(t *testing.T) {
	d, err := NewDefinition("#Block")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Block struct{ Prefix, Reason string }
	}
	data, problems := d.Decode("x.cue", []byte("block: {\n\tprefix: \"192.0.2.0/24\"\n\treason: \"spam\"\n\tsince: \"2026-11-23T08:00:00Z\"\n}\n"), &got)
	if len(problems) > 0 || got.Block.Prefix != "192.0.2.0/24" || got.Block.Reason != "spam" {
		t.Fatalf("%+v %v", got, problems)
	}
	for _, test := range []struct {
		path []string
		want Pos
	}{
		{nil, Pos{1, 1}},
		{[]string{"block"}, Pos{1, 8}},
		{[]string{"block", "reason"}, Pos{3, 10}},
		{[]string{"block", "until"}, Pos{1, 8}}, // not written: the braces around it
	} {
		if at := data.At(test.path...); at != test.want {
			t.Errorf("%v at %v, want %v", test.path, at, test.want)
		}
	}
	for text, rule := range map[string]Rule{
		"block: {":                              RuleSyntax,
		"block: x":                              RuleNotData,
		strings.Repeat("#", MaxConfiguration+1): RuleTooLarge,
		"block: 5":                              RuleSchema,
		"block: {}":                             RuleMissingField,
		"blok: {}":                              RuleUnknownField,
		"block: {reason: 5, since: \"\"}":       RuleSchema,
	} {
		data, problems := d.Decode("x.cue", []byte(text), &got)
		if len(problems) == 0 || problems[0].Rule != rule || problems[0].File != "x.cue" {
			t.Errorf("%.20q: %v", text, problems)
		}
		if none := rule == RuleSyntax || rule == RuleNotData || rule == RuleTooLarge; (data == nil) != none {
			t.Errorf("%.20q: data %v", text, data)
		}
	}
	if _, err := NewDefinition("#Nothing"); err == nil {
		t.Error("an unknown definition was found")
	}
}

func newRelay(t *testing.T) *Definition {
	t.Helper()
	d, err := NewDefinition("#Relay")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decodeRelay decodes a configuration that is at fault in most cases.
func decodeRelay(t *testing.T, d *Definition, text string, into any) (*Data, string) {
	t.Helper()
	data, problems := d.Decode("relay.cue", []byte(text), into)
	for _, p := range problems {
		if said := p.Message + p.Hint; p.Hint == "" || strings.Contains(said, "registration") || strings.Contains(said, "expires") || strings.Contains(said, "several files") {
			t.Errorf("no word for a configuration: %+v", p)
		}
	}
	return data, textOf(problems)
}

const relayHead = "hostname: \"r.example.edu\", postmaster: \"p@example.edu\", register: repository: \"/r\"\n"

// What does not fit is left out, and nothing else moves.
func TestDecodeStoresWhatFits(t *testing.T) {
	var got struct {
		Hostname, Postmaster string
		Listen               struct{ Relay, Submission []string }
		TLS                  struct{ Certificate, Key string }
		Limits               struct{ Recipients, Sessions int }
	}
	data, problems := decodeRelay(t, newRelay(t), `hostname: "r"
postmaster: 7
listen: {relay: [":1", 2, ":3"], submission: 4}
tls: key: "/k"
limits: {recipients: 0, sessions: 5, sesions: 6}
`, &got)
	if data == nil {
		t.Fatal(problems)
	}
	if n := strings.Count(problems, "hint:"); n != 7 {
		t.Errorf("%d problems:\n%s", n, problems)
	}
	want := got
	want.Hostname, want.Postmaster, want.TLS.Key = "r", "", "/k"
	want.Listen.Relay, want.Listen.Submission = []string{":1", "", ":3"}, []string{":587"}
	want.Limits.Recipients, want.Limits.Sessions = 100, 5
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for path, want := range map[string]string{
		"":                  "given at {1 1}",
		"hostname":          "given at {1 11}",
		"postmaster":        "not given at {2 13}",
		"portal":            "not given at {1 1}",
		"listen relay":      "given at {3 17}",
		"listen relay 0":    "given at {3 18}",
		"listen relay 1":    "not given at {3 24}",
		"listen relay 2":    "given at {3 27}",
		"listen relay 3":    "not given at {3 17}",
		"listen submission": "not given at {3 46}",
		"tls":               "given at {4 6}",
		"tls certificate":   "not given at {4 6}",
		"limits recipients": "not given at {5 22}",
		"limits dataRate":   "not given at {5 9}",
	} {
		names := strings.Fields(path)
		state := "not given"
		if data.Given(names...) {
			state = "given"
		}
		if got := fmt.Sprintf("%s at %v", state, data.At(names...)); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}

func TestComfortsOfAConfiguration(t *testing.T) {
	d := newRelay(t)
	for _, test := range []struct {
		text, problem     string
		bytes, rate, most int
	}{
		{"limits: {}", "", 35 << 20, 100, 1000},
		{"limits: messageBytes: 1Mi\nlimits: dataRate: 2K", "", 1 << 20, 2000, 1000},
		{"limits: {messageBytes: 1.5Mi}, limits: {sessions: 10_000}", "", 3 << 19, 100, 10_000},
		{"limits: sessions: 5\nlimits: sessions: 6", `3:9: schema: "sessions" is written twice, first on line 2`, 35 << 20, 100, 5},
		{"limits: dataRate: 1Gi", `2:19: schema: limits.dataRate must be at most 1Mi, and the number 1073741824 stands here`, 35 << 20, 100, 1000},
		{"limits: dataRate: 99999999999T", `2:19: not-data: 99999999999T is no plain number`, 0, 0, 0},
		{"limits: dataRate: 0.0001Ki", `2:19: not-data: 0.0001Ki is no plain number`, 0, 0, 0},
		{"limits: dataRate: 1e2", `2:19: not-data: 1e2 is no plain number`, 0, 0, 0},
		{"limits: dataRate: 2 * 3", `2:19: not-data: an expression (*) stands here`, 0, 0, 0},
		{"limits: {", `syntax`, 0, 0, 0},
		{"limits: dataRate: x: y", `not-data`, 0, 0, 0},
		{"5", `there is a value without a name`, 0, 0, 0},
		{`x: "\(y)"`, "not-data", 0, 0, 0},
		{"x: [" + strings.Repeat("1,", maxConfigurationNodes) + "]", "too-large", 0, 0, 0},
	} {
		t.Run(fmt.Sprintf("%.30s", test.text), func(t *testing.T) {
			var got struct {
				Limits struct{ MessageBytes, DataRate, Sessions int }
			}
			_, problems := decodeRelay(t, d, relayHead+test.text, &got)
			if (problems == "") != (test.problem == "") || !strings.Contains(problems, test.problem) {
				t.Errorf("got %s, want %s", problems, test.problem)
			}
			if l := got.Limits; l.MessageBytes != test.bytes || l.DataRate != test.rate || l.Sessions != test.most {
				t.Errorf("got %+v", l)
			}
		})
	}
}

func TestHintIsTheSchemasComment(t *testing.T) {
	d := newRelay(t)
	for path, want := range map[string]string{
		"hostname":            "The relay's own name",
		"listen relay":        "Unencrypted SMTP",
		"listen relay 2":      "Unencrypted SMTP",
		"tls key":             "The private key",
		"register poll":       "How often",
		"register poll below": "How often",
	} {
		if got := d.Hint(strings.Fields(path)...); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}
