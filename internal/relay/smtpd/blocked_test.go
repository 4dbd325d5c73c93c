package smtpd

import (
	"net/netip"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// TestWhatABlockedClientIsTold: a block of the register is named by its file, an
// operator's by its day, and no text of either reaches the client.
func TestWhatABlockedClientIsTold(t *testing.T) {
	s := &Server{postmaster: "postmaster@example.edu"}
	since := time.Date(2026, 11, 25, 23, 30, 0, 0, time.FixedZone("", -2*3600))
	for name, tc := range map[string]struct {
		block *registration.Block
		want  string
	}{
		"of the register": {&registration.Block{Path: "registrations/blocks/2026-11-23-mfp1.cue", Reason: "secret", Since: since}, "2026-11-23-mfp1"},
		"an operator's":   {&registration.Block{Reason: "secret", Since: since}, "on this relay, 2026-11-26"},
		"of a local file": {&registration.Block{Reason: "secret"}, "on this relay"},
		"not known":       {nil, "on this relay"},
	} {
		got := s.sayBlocked(policy.Verdict{Addr: netip.MustParseAddr("192.0.2.21"), Block: tc.block}).String()
		if want := "554 5.7.1 192.0.2.21 is blocked (" + tc.want + "); write to postmaster@example.edu"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
