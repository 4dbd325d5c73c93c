package registration

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestFormatBlock: what is written is read again, is laid out as fmt does it, and
// no reason becomes anything but a reason.
func TestFormatBlock(t *testing.T) {
	t.Parallel()
	p, err := NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)
	for _, want := range []Block{
		{Prefix: netip.MustParsePrefix("141.211.13.21/32"), Reason: "sent spam overnight", Since: since, Until: since.AddDate(0, 0, 7)},
		{Prefix: netip.MustParsePrefix("2001:db8::/48"), Reason: `"quotes", \(1+1), { braces }, \u0041 // no comment`, Since: since},
	} {
		const path = "registrations/blocks/2026-11-25-x.cue"
		data := FormatBlock(&want, "made by\na machine */ x: 1")
		f := p.Parse(Source{Path: path, Size: int64(len(data)), Data: data})
		if f.Block == nil || len(f.Problems) > 0 {
			t.Fatalf("%v\n%s", f.Problems, data)
		}
		got := *f.Block
		got.Path, got.At = "", Pos{}
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if again, err := FormatSource(path, data); err != nil || string(again) != string(data) {
			t.Errorf("fmt makes of it:\n%s%v", again, err)
		}
		if !strings.HasPrefix(string(data), "// made by\n// a machine") {
			t.Errorf("%s", data)
		}
	}
}
