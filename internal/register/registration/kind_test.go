package registration

import (
	"strings"
	"testing"
)

func TestKind(t *testing.T) {
	for path, want := range map[string]FileKind{
		"registrations/lsa-physics/mfp.cue":                        KindRegistration,
		"registrations/its/print/room-1/mfp_2.cue":                 KindRegistration,
		"registrations/its/a.b+c@d.cue":                            KindRegistration,
		"registrations/campus/networks.cue":                        KindCampus,
		"registrations/campus/anything.cue":                        KindCampus,
		"registrations/blocks/2026-11-23-mfp1.cue":                 KindBlock,
		"registrations/README.md":                                  KindIgnored,
		"registrations/its/README.md":                              KindIgnored,
		"README.md":                                                KindIgnored,
		"schema/site.cue":                                          KindIgnored,
		"registrations":                                            KindIgnored,
		"registrationsx/its/a.cue":                                 KindIgnored,
		"":                                                         KindIgnored,
		"registrations/mfp.cue":                                    KindMisplaced,
		"registrations/its/mfp.yaml":                               KindMisplaced,
		"registrations/its/mfp.CUE":                                KindMisplaced,
		"registrations/its/.mfp.cue":                               KindMisplaced,
		"registrations/its/../mfp.cue":                             KindMisplaced,
		"registrations/its/a b.cue":                                KindMisplaced,
		"registrations/its/ä.cue":                                  KindMisplaced,
		"registrations/ITS/mfp.cue":                                KindMisplaced,
		"registrations/-its/mfp.cue":                               KindMisplaced,
		"registrations/its//mfp.cue":                               KindMisplaced,
		"registrations/campus/a/networks.cue":                      KindMisplaced,
		"registrations/blocks/a/b.cue":                             KindMisplaced,
		"registrations/its/" + strings.Repeat("a/", 250) + "x.cue": KindMisplaced,
	} {
		if got := Kind(path); got != want {
			t.Errorf("%q: kind %d, want %d", path, got, want)
		}
	}
}

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
		"block: {":                        RuleSyntax,
		"block: x":                        RuleNotData,
		"block: {}":                       RuleMissingField,
		"blok: {}":                        RuleUnknownField,
		strings.Repeat("#", MaxFile+1):    RuleTooLarge,
		"block: {reason: 5, since: \"\"}": RuleSchema,
	} {
		data, problems := d.Decode("x.cue", []byte(text), &got)
		if data != nil || len(problems) == 0 || problems[0].Rule != rule || problems[0].File != "x.cue" {
			t.Errorf("%.20q: %v", text, problems)
		}
	}
	relay, err := NewDefinition("#Relay")
	if err != nil {
		t.Fatal(err)
	}
	var into map[string]any
	if _, problems := relay.Decode("relay.cue", []byte("hostnam: \"x\"\nlisten: relay: \":25\"\n"), &into); len(problems) < 3 || problems[0].Hint == "" {
		t.Errorf("%v", problems)
	}
	if _, err := NewDefinition("#Nothing"); err == nil {
		t.Error("an unknown definition was found")
	}
}
