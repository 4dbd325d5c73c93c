package daemon_test

import (
	"strings"
	"testing"
)

// TestBudgets: a department is held to its volume, is told so in words, and
// still is after a restart; a larger volume in the register gives room at once.
func TestBudgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.registered("scanner", "127.0.0.2")
	declare := func(volume string) {
		t.Helper()
		const name = "registrations/lab/scanner.cue"
		before := w.git(w.checkout, "show", ":"+name)
		i := strings.Index(before, "volume:")
		end := i + strings.IndexByte(before[i:], '\n')
		w.write(name, before[:i]+"volume: "+volume+before[end:])
	}
	w.git(w.checkout, "add", "-A")
	declare("{perHour: 3, perDay: 10}")
	w.commit("A scanner")
	w.push()
	w.start()

	const over = "451 4.7.1 127.0.0.2 is over its limit of 3 messages per hour (registrations/lab/scanner.cue); there is room again in "
	for range 3 {
		w.accepted("127.0.0.2", "within")
	}
	w.refused("127.0.0.2", over)
	left := func(budget string) (left int64) {
		t.Helper()
		for _, b := range w.about("127.0.0.2").Budgets {
			if b.Name == budget {
				return b.Left
			}
		}
		t.Fatalf("status knows no %s", budget)
		return 0
	}
	if hour, day := left("messages-hour"), left("messages-day"); hour != 0 || day != 7 {
		t.Errorf("%d are left of the hour and %d of the day", hour, day)
	}
	if _, out := w.gatepost("status", "127.0.0.2"); !strings.Contains(out, "  messages   0 of 3 a minute, 0 of 3 an hour, 7 of 10 a day") {
		t.Errorf("gatepost status says\n%s", out)
	}

	w.stop()
	w.start()
	w.refused("127.0.0.2", over)
	declare("{perHour: 5, perDay: 10}")
	w.commit("More")
	w.push()
	w.waitCommit()
	w.accepted("127.0.0.2", "more")
	if hour := left("messages-hour"); hour != 1 {
		t.Errorf("%d are left of the hour after the volume was raised", hour)
	}
}

// TestStrangersAreHeldToTheirTries: a machine that is set up wrongly is told so
// for a while, and then not served at all.
func TestStrangersAreHeldToTheirTries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = "limits: unregistered: {sessionsPerHour: 2, recipientsPerHour: 100}"
	w.start()
	for range 2 {
		w.refused("127.0.0.3", "550 5.7.1 127.0.0.3 is not registered with this relay; register at ")
	}
	d, greeting := w.dial("127.0.0.3")
	d.expect(greeting, "421 4.7.1 127.0.0.3 is not registered with this relay and has used up its 2 sessions per hour; the next is in 30m, at ")
	w.accepted("127.0.0.1", "others are served")
	if _, out := w.gatepost("status", "127.0.0.3"); !strings.Contains(out, "  sessions   0 of 2 an hour") {
		t.Errorf("gatepost status says\n%s", out)
	}
}
