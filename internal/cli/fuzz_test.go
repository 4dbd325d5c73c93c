package cli

import (
	"strings"
	"testing"
	"time"
)

// FuzzAt: what is read as a time is written as one, and means the same when it
// is written out; a day means its end.
func FuzzAt(f *testing.F) {
	for _, s := range []string{
		"2026-10-01", "2026-10-01T12:00:00Z", "2026-10-01T12:00:00+02:00", "2026-10-01 12:00", "2026-10-01T12:00", "2026-02-30", "0000-01-01", "9999-12-31", "9999-12-31T23:59:59Z",
		"HEAD", "v1.2", "2026", "20261001", "main", "", "2026-10-01T12:00:00.999999999Z", "2026-10-01T24:00:00Z", "-2026-10-01", "２０２６-10-01",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime(s)
		if !ok {
			return
		}
		if got.IsZero() && !strings.HasPrefix(s, "0001-01-01") || len(s) < len(time.DateOnly) || got.Year() < -1 || got.Year() > 10_000 {
			t.Errorf("%q is %v", s, got)
		}
		if again, ok := parseTime(got.Format(time.RFC3339Nano)); !ok || !again.Equal(got) {
			t.Errorf("%q is %v, and that is %v", s, got, again)
		}
		if len(s) == len(time.DateOnly) && got.UTC().Format("15:04:05") != "23:59:59" {
			t.Errorf("the day %q is at %v", s, got)
		}
	})
}

// FuzzAddress: of what is written in the place of an address, one comes out, or
// a line to paste.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"141.211.13.21", "141.211.13.21/32", "[2607:f018::1]:25", "fe80::1%eth0", "::ffff:141.211.13.21", "141.211.13.21-29", "printer9", "", "0x7f.1", "141.211.013.021"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := parseAddress([]string{"why", s}, s, nil)
		if err == nil && (!addr.IsValid() || addr.Is4In6() || addr.Zone() != "") {
			t.Errorf("%q is %v", s, addr)
		}
		if err == nil {
			return
		}
		var b strings.Builder
		if tell(&b, err); strings.Count(b.String(), "\n") != strings.Count(b.String(), "gatepost: ") && !strings.Contains(s, "gatepost: ") {
			t.Errorf("%q breaks a line:\n%q", s, b.String())
		}
	})
}
