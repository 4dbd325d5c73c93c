package portal

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
)

// TestCourse walks a request from its form to its confirmation.
func TestCourse(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 25, 10, minute, 0, 0, time.UTC) }
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	c := course{State: forge.Open, Opened: at(0), By: "Dana", Checked: true, Added: []netip.Addr{one, two}, Relays: []liveness{{Relay: "r1", Known: true}, {Relay: "r2", Known: true}}}
	look := func() string {
		var b strings.Builder
		for _, s := range c.steps() {
			fmt.Fprintf(&b, "%s %s\n", s.Mark, s.Title)
		}
		return b.String()
	}
	for _, tt := range []struct {
		what   string
		change func()
		want   string
		over   bool
	}{
		{"sent", func() {}, "done Submitted\ndone Checked\nnow Control of the address shown\nnow Approved by the Postmaster team\ntodo Live on the relays\ntodo Confirmation sent\n", false},
		{"faulty", func() { c.Errors = 2 }, "done Submitted\nbad Checked\nnow Control of the address shown\ntodo Approved by the Postmaster team\ntodo Live on the relays\ntodo Confirmation sent\n", false},
		{"mended, and one is proved", func() { c.Errors = 0; c.Proved = map[netip.Addr]time.Time{one: at(1)} }, "done Submitted\ndone Checked\nnow Control of the address shown\nnow Approved by the Postmaster team\ntodo Live on the relays\ntodo Confirmation sent\n", false},
		{"proved", func() { c.Proved[two] = at(2) }, "done Submitted\ndone Checked\ndone Control of the address shown\nnow Approved by the Postmaster team\ntodo Live on the relays\ntodo Confirmation sent\n", false},
		{"merged", func() { c.State, c.Merged = forge.Merged, at(3) }, "done Submitted\ndone Checked\ndone Control of the address shown\ndone Approved by the Postmaster team\nnow Live on 0 of 2 relays\nnow Confirmation sent\n", false},
		{"live on one", func() { c.Relays[0] = liveness{Relay: "r1", Known: true, Live: true, Since: at(4)} }, "done Submitted\ndone Checked\ndone Control of the address shown\ndone Approved by the Postmaster team\nnow Live on 1 of 2 relays\nnow Confirmation sent\n", false},
		{"live", func() { c.Relays[1] = liveness{Relay: "r2", Known: true, Live: true, Since: at(5)} }, "done Submitted\ndone Checked\ndone Control of the address shown\ndone Approved by the Postmaster team\ndone Live on 2 of 2 relays\nnow Confirmation sent\n", false},
		{"confirmed", func() { c.Told = map[netip.Addr]time.Time{one: at(5), two: at(6)} }, "done Submitted\ndone Checked\ndone Control of the address shown\ndone Approved by the Postmaster team\ndone Live on 2 of 2 relays\ndone Confirmation sent\n", true},
	} {
		tt.change()
		if got := look(); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.what, got, tt.want)
		}
		if c.over() != tt.over {
			t.Errorf("%s: over is %t", tt.what, c.over())
		}
	}
	if list := c.awaited(); len(list) != 0 {
		t.Errorf("relays are asked about %v when all is known", list)
	}
	delete(c.Told, two)
	if list := c.awaited(); len(list) != 1 || list[0] != two {
		t.Errorf("relays are asked about %v, where a confirmation is missing", list)
	}
	c.State, c.Proved = forge.Open, map[netip.Addr]time.Time{two: at(1)}
	if list := c.awaited(); len(list) != 1 || list[0] != one {
		t.Errorf("relays are asked about %v, where a proof is missing", list)
	}
	c.State, c.Closed = forge.Closed, at(9)
	if got := look(); !strings.HasSuffix(got, "bad Closed without being approved\n") || !c.over() {
		t.Errorf("closed:\n%s", got)
	}
	c = course{State: forge.Merged, Merged: at(0), Relays: []liveness{{Relay: "r1", Known: true, Live: true, Since: at(0).Add(41 * time.Second)}}}
	if s := c.steps()[3]; s.Text != "41 seconds after it was approved." {
		t.Errorf("%+v", s)
	}
	c.Relays[0] = liveness{Relay: "r1", Known: true, Why: "it withholds a.cue"}
	if s := c.steps()[3]; s.Mark != bad || !strings.Contains(s.Text, "r1: it withholds a.cue") {
		t.Errorf("a file that a relay keeps out: %+v", s)
	}
	c.Relays[0] = liveness{Relay: "r1"}
	if s := c.steps()[3]; !strings.Contains(s.Text, "No answer from r1") {
		t.Errorf("a silent relay: %+v", s)
	}
}
