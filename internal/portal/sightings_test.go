package portal

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/status"
)

// aLine is a history without branches: a commit's first digit is its place.
type aLine struct{ asked int }

func (l *aLine) Relation(_ context.Context, old, new gitsync.Hash) (gitsync.Relation, error) {
	l.asked++
	switch {
	case old == new:
		return gitsync.Same, nil
	case new[0] > old[0]:
		return gitsync.Descends, nil
	}
	return gitsync.Rewound, nil
}

// TestLive: a relay that is at a commit, one before it and one after it, and one
// that keeps a file of it out.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		commit := func(n byte) string { return gitsync.Hash{n}.String() }
		accepted := time.Now().Add(-time.Minute)
		said := map[string]*relaySaid{}
		var sources []fleet.Source
		for name, at := range map[string]byte{"a": 5, "b": 4, "c": 6, "d": 5} {
			said[name] = &relaySaid{report: status.Report{Host: name, At: time.Now(), Register: status.Register{Commit: commit(at), AcceptedAt: accepted}}}
			sources = append(sources, fleet.Source{Name: name})
		}
		said["d"].report.Register.Withheld = []status.Withheld{{File: "registrations/lab/a.cue"}}
		f, err := fleet.New(fleet.Options{Sources: sources, Dial: func(s fleet.Source) (fleet.Client, error) { return said[s.Name], nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		<-time.After(20 * time.Second)
		history := &aLine{}
		r := &fleetRelays{fleet: f, history: history, now: time.Now}
		for range 3 {
			got := map[string]liveness{}
			for _, l := range r.Live(t.Context(), commit(5), []string{"registrations/lab/a.cue"}) {
				got[l.Relay] = l
			}
			if !got["a"].Live || !got["a"].Since.Equal(accepted) || got["b"].Live || !got["c"].Live || !got["c"].Since.IsZero() || got["d"].Live || got["d"].Why == "" || !got["d"].Known {
				t.Errorf("%+v", got)
			}
		}
		if history.asked != 2 {
			t.Errorf("git was asked %d times about two pairs", history.asked)
		}
		if proved, told := r.Seen(t.Context(), []netip.Addr{netip.MustParseAddr("192.0.2.1")}); len(proved)+len(told) != 0 {
			t.Errorf("of relays that do not answer: %v %v", proved, told)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
