package demo

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"example.edu/gatepost/internal/relay/activity"
)

// TestPast: what the demo's relay remembers is what the pages tell of.
func TestPast(t *testing.T) {
	state, now := t.TempDir(), today()
	if err := remember(state, now); err != nil {
		t.Fatal(err)
	}
	book, err := activity.Open(activity.Options{File: filepath.Join(state, activityFile), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Register: func() func(netip.Addr) bool { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]bool{}
	for _, r := range requests {
		for _, h := range r.hosts {
			registered[h.ip] = true
		}
	}
	for _, h := range habits {
		of := book.Of(netip.MustParseAddr(h.ip))
		silent := now.Sub(of.Last)
		if !registered[h.ip] || silent < time.Duration(h.until)*24*time.Hour || silent > time.Duration(h.until+2)*24*time.Hour {
			t.Errorf("%s was last heard of %v ago; registered: %v", h.ip, silent, registered[h.ip])
		}
		if h.until == 0 && of.Week < 6 {
			t.Errorf("%s has sent %d messages this week", h.ip, of.Week)
		}
	}
}
