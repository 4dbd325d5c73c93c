package demo

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.edu/gatepost/internal/relay/activity"
)

// habits is how much mail some of the machines sent a day, so that the pages
// have something to tell of. Who is not among them has never sent.
var habits = []struct {
	ip      string
	perDay  int
	tls     string
	until   int // days ago
	needsLF bool
}{
	{"127.0.6.10", 9, "TLS 1.3", 0, false},
	{"127.0.6.11", 7, "TLS 1.3", 0, false},
	{"127.0.0.3", 31, "TLS 1.2", 0, false},
	{"127.0.0.4", 12, "TLS 1.2", 0, false},
	{"127.0.0.5", 1, "", 0, true},
	{"127.0.0.6", 2, "", 3, false},
	{"127.0.1.10", 1, "", 0, false},
	{"127.0.1.11", 1, "", 0, false},
	{"127.0.1.20", 6, "", 2, false},
	{"127.0.2.10", 18, "TLS 1.2", 0, false},
	{"127.0.2.11", 22, "TLS 1.2", 0, false},
	{"127.0.2.20", 60, "TLS 1.3", 0, false},
	{"127.0.3.10", 3, "", 0, false},
	{"127.0.3.20", 1, "", 8, false},
	{"127.0.4.10", 1, "", 400, false}, // silent for more than a year
}

// remember writes what the relay would know of the machines' last weeks, had it
// run that long, into its state folder.
func remember(state string, now time.Time) error {
	const days = 30
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	at := now
	book, err := activity.Open(activity.Options{
		File: filepath.Join(state, activityFile), Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler),
		Register: func() func(netip.Addr) bool { return nil },
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for _, h := range habits {
		for day := days; day >= 1; day-- {
			for i := range h.perDay {
				at = now.AddDate(0, 0, -day-h.until).Add(time.Duration(i) * 24 * time.Hour / time.Duration(h.perDay))
				book.Accepted(netip.MustParseAddr(h.ip), activity.Message{Recipients: 1, Octets: 80_000, TLS: h.tls, Needed: activity.Needed{BareLF: h.needsLF}})
			}
		}
	}
	at = now
	if err := book.Save(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// activityFile is where the relay keeps it, in its state folder.
const activityFile = "activity"

// morning is what arrives by itself when the demo begins.
var morning = []Mail{
	{From: netip.MustParseAddr("127.0.0.5"), Sender: "telescope@physics." + domain, To: "observers@physics." + domain, Subject: "Night report: 212 frames, seeing 1.1 arcsec", Text: "Dome closed at 05:48. 212 frames written.\nNo faults."},
	{From: netip.MustParseAddr("127.0.2.20"), Sender: "catalogue@library." + domain, To: "reader@" + domain, Subject: "A book that you wanted has arrived", Text: "It is kept for you at the desk for ten days."},
	{From: netip.MustParseAddr("127.0.1.11"), Sender: "freezer2@chemistry." + domain, To: "stores@chemistry." + domain, Subject: "Freezer 2: the door was open for 3 minutes", Text: "Temperature now: -78.4 C. No action is needed."},
	{From: netip.MustParseAddr("127.0.3.99"), Sender: "meter@facilities." + domain, To: "control@facilities." + domain, Subject: "Meter reading"}, // not registered
}

// liven sends the morning's mail once the relay has its register. That some of
// it is refused is part of it.
func liven(ctx context.Context, relay string, box *inbox) {
	const tries = 200
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, m := range morning {
		m.Server = relay
		box.hush(m.Subject)
		for range tries {
			var said lastReply
			_, err := Send(ctx, &said, m)
			if err == nil && !said.later {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// lastReply knows whether a dialog asked to try again.
type lastReply struct{ later bool }

func (l *lastReply) Write(p []byte) (int, error) {
	l.later = l.later || strings.HasPrefix(string(p), "  ← 4")
	return len(p), nil
}
