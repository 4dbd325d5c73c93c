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
