package daemon_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/status"
)

// killAt ends this process with SIGKILL when a step is made for the nth time,
// as "NAME:N" says.
func killAt(what string) func(string) {
	name, n, ok := strings.Cut(what, ":")
	if !ok {
		return nil
	}
	left := atomic.Int64{}
	most, _ := strconv.ParseInt(n, 10, 64)
	left.Store(most)
	return func(step string) {
		if step == name && left.Add(-1) <= 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing more is done here
		}
	}
}

// A death is how the daemon is killed in one round.
type death struct {
	step     string        // "": at any moment
	pass     int           // the how manieth time
	after    time.Duration // without a step
	newcomer bool          // a new registration comes in before
}

// rare are the steps that are made only when something happens beside the load.
var rare = []string{"opened", "before-confirmation", "after-confirmation", "before-last-good", "after-last-good", "before-announced", "after-announced",
	"table-synced", "manifest-synced"}

// deaths are so many: one at any moment, one at the next step, and so on.
func deaths(n int, random *rand.Rand) (all []death) {
	steps := slices.DeleteFunc(daemon.Steps(), func(s string) bool { return strings.HasSuffix(s, "-keys") }) // TestKilledInTheFirstSync
	random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for i := range n {
		d := death{newcomer: random.IntN(8) == 0, after: time.Duration(50+random.IntN(700)) * time.Millisecond}
		if i%2 == 1 {
			d.step, d.pass = steps[i/2%len(steps)], 1+random.IntN(20)
			if strings.HasPrefix(d.step, "body-") { // one message in fifty has such a one
				d.pass = 1 + random.IntN(3)
			}
			if slices.Contains(rare, d.step) {
				d.pass, d.newcomer = 1, d.step != "opened"
			}
		}
		all = append(all, d)
	}
	return all
}

// TestKilledInTheFirstSync kills a new relay at each step of its first sync,
// which confirms nobody; nor does the next start. A newcomer after it is
// confirmed.
func TestKilledInTheFirstSync(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"opened", "before-keys", "after-keys", "before-last-good", "after-last-good", "before-announced", "after-announced"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := newLoad(w)
			w.configure()
			w.env = []string{"GATEPOST_TEST_KILL=" + step + ":1"}
			w.launch()
			if !w.dies(neverComes) {
				t.Fatal("the step was never made")
			}
			w.env = nil
			l.first()
			l.newcomer()
			w.start()
			w.waitCommit()
			l.waitAll()
			w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 && !r.Queue.Loading && !r.Register.Unconfirmed })
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.arrived) != 1 || len(l.strange) > 0 {
				t.Errorf("more than the newcomer was confirmed: %v %v", l.arrived, l.strange)
			}
		})
	}
}

// dies waits until the daemon has killed itself, or kills it.
func (w *world) dies(within time.Duration) (byItself bool) {
	w.t.Helper()
	byItself = true
	var mu sync.Mutex
	proc := w.proc
	late := time.AfterFunc(within, func() {
		mu.Lock()
		defer mu.Unlock()
		byItself = false
		_ = proc.Process.Kill()
	})
	defer late.Stop()
	if err := w.proc.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		w.t.Errorf("the daemon ended with %v", err)
	}
	w.proc = nil
	mu.Lock()
	defer mu.Unlock()
	return byItself
}

// A kill is one that was made.
type kill struct {
	step    string // "": at any moment
	at      time.Time
	reached bool // at the step, not for want of it
}

// A tally is what is told of all kills at one step.
type tally struct{ kills, missed, accepted, lost, repeated int }

// judge says what came twice, and whether it may, and prints how each kind of
// kill went.
func (l *load) judge(kills []kill) {
	t := l.w.t
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.strange[:min(20, len(l.strange))] {
		t.Error(s)
	}
	tallies := map[string]*tally{}
	of := func(round int) *tally {
		if round < 0 || round >= len(kills) {
			return &tally{} // of none
		}
		name := cmp.Or(kills[round].step, "(any moment)")
		if tallies[name] == nil {
			tallies[name] = &tally{}
		}
		return tallies[name]
	}
	for round, k := range kills {
		of(round).kills++
		if !k.reached {
			of(round).missed++
		}
	}
	var sum tally
	for id := range l.accepted {
		var round, sender, n int
		fmt.Sscanf(id, "torture-%d-%d-%d", &round, &sender, &n)
		of(round).accepted++
		if len(l.arrived[id]) == 0 {
			of(round).lost++
			sum.lost++
		}
	}
	unpromised := 0
	var longest time.Duration // between a delivery that was repeated and the kill that explains it
	for id, times := range l.arrived {
		if id == posted {
			continue // they are all alike
		}
		if strings.HasPrefix(id, "torture-") && !l.accepted[id] {
			unpromised++
		}
		for i := range times[1:] {
			round, apart, ok := explained(kills, times[i], times[i+1])
			if !ok || apart > lastMoments {
				t.Errorf("%s came %d times, and no kill explains it: %v", id, len(times), times)
			}
			longest = max(longest, apart)
			of(round).repeated++
			sum.repeated++
		}
	}
	if len(l.accepted) == 0 {
		t.Error("no message was accepted in any round")
	}
	if len(kills) == 0 {
		return
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-22s %6s %9s %6s %9s\n", "killed at", "kills", "accepted", "lost", "repeated")
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		y := tallies[name]
		note := ""
		if y.missed > 0 {
			note = fmt.Sprintf("  (%d times the step did not come)", y.missed)
		}
		if y.missed == y.kills {
			t.Errorf("the step %s was never made in %d rounds", name, y.kills)
		}
		fmt.Fprintf(&table, "%-22s %6d %9d %6d %9d%s\n", name, y.kills, y.accepted, y.lost, y.repeated, note)
	}
	fmt.Fprintf(&table, "%-22s %6d %9d %6d %9d\n", "all", len(kills), len(l.accepted), sum.lost, sum.repeated)
	t.Logf("\n%s%d more arrived of which the client did not learn; what was repeated was delivered at most %v from a kill; %d newcomers were confirmed",
		&table, unpromised, longest.Round(time.Millisecond), len(l.newcomers))
}

// explained is which kill may be the reason for the next delivery of what was
// delivered before, and how far they are apart. What was on the wire at the kill
// arrives after it.
func explained(kills []kill, delivery, next time.Time) (round int, apart time.Duration, ok bool) {
	round = -1
	for i, k := range kills {
		if d := k.at.Sub(delivery).Abs(); k.at.Before(next) && (!ok || d < apart) {
			round, apart, ok = i, d, true
		}
	}
	return round, apart, ok
}
