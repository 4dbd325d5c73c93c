// Package history_test plays made-up histories of a register, thousands of
// steps of merges, mistakes, force-pushes, crashes and operators' words, on a
// real git repository, and holds gitsync, reconcile and confirm together to what
// they promise:
//
//   - an address is live only by a version of a file that an accepted commit
//     holds, and that is allowed by the campus and the site's rules in force; or
//     by the last good version of a file that is at fault there;
//   - what an accepted commit removes is live no longer;
//   - what is not at fault is in force, whatever others do;
//   - a block wins, that of a commit that waits too;
//   - the register never goes back, but by an operator's word;
//   - an ordinary commit never takes away more than maxRemovals;
//   - a confirmation is sent once, for what is live;
//   - a restart changes nothing, and a round fails only if something around it
//     does.
//
// There is nothing here but tests.
package history_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/reconcile"
)

var (
	seeds   = flag.Int("seeds", 6, "how many random histories are played")
	steps   = flag.Int("steps", 40, "how long each is, in steps")
	seed    = flag.Uint64("seed", 0, "play the history of this seed only")
	files   = flag.Int("files", 1000, "how many files the largest commit holds")
	lasting = flag.Duration("for", 0, "play random histories for so long")
)

// TestHistories plays random histories. A failure names the seed and the steps
// that are left when all that does not matter is taken out.
func TestHistories(t *testing.T) {
	if *seed != 0 {
		playSeed(t, *seed)
		return
	}
	if *lasting == 0 {
		for i := range *seeds {
			playSeed(t, uint64(i+1))
		}
		return
	}
	const batch = 8 // a batch is over before the next begins
	began, first, played := time.Now(), rand.Uint64()>>16, 0
	for ; time.Since(began) < *lasting && !t.Failed(); played += batch {
		t.Run("batch", func(t *testing.T) {
			for i := range batch {
				playSeed(t, first+uint64(played+i))
			}
		})
	}
	t.Logf("%d histories of %d steps each", played, *steps)
}

func playSeed(t *testing.T, seed uint64) {
	t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
		t.Parallel()
		data := script(seed)
		log, err := play(t, data)
		if err == nil {
			if testing.Verbose() && *lasting == 0 {
				t.Log(strings.Join(log, "\n"))
			}
			return
		}
		t.Errorf("seed %d (go test -run TestHistories ./internal/register/history -seed=%d -steps=%d): %v\nall steps:\n%s", seed, seed, *steps, err, strings.Join(log, "\n"))
		shorter, log, err := shrink(t, data, err)
		t.Errorf("the same in %d steps, %x: %v\n%s", len(shorter)/4, shorter, err, strings.Join(log, "\n"))
	})
}

// script is the history of a seed.
func script(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 42))
	data := make([]byte, 4**steps)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// shrink leaves steps out as long as something still goes wrong.
func shrink(t *testing.T, data []byte, err error) ([]byte, []string, error) {
	var log []string
	until := time.Now().Add(time.Minute)
	for size := len(data) / 8; size >= 1; size /= 2 {
		for at := 0; at+4*size <= len(data) && time.Now().Before(until); {
			less := append(append([]byte{}, data[:at]...), data[at+4*size:]...)
			if tried, failed := play(t, less); failed != nil {
				data, log, err = less, tried, failed
				continue
			}
			at += 4 * size
		}
	}
	return data, log, err
}

// TestManyFiles: a commit of a great many registrations comes, with a fault among
// them, and most of it goes again.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
		}
	}
	must(m.begin())
	path := func(i int) string { return fmt.Sprintf("registrations/its/many/%02d/%d.cue", i/100, i) }
	ip := netip.MustParsePrefix("2607:f018:2::/64")
	m.write(networksFile, newNetworks(m.id(), append(ordinaryNetworks(), held{ip, "its", "static"})...))
	at := ip.Addr()
	many := maps.Clone(m.work)
	for i := range *files {
		at = at.Next()
		many[path(i)] = node{regularMode, newRegistration(m.id(), "its", []netip.Addr{at}, 100, farDay)}
	}
	bad := many[path(77)].v.spoilt(0)
	many[path(77)] = node{regularMode, bad}
	must(m.commit(many))
	must(m.round())
	if got := m.live.Load().Len(); got != 8+*files-1 {
		t.Fatalf("%d addresses are in force", got)
	}
	must(m.start())
	few := maps.Clone(m.work)
	for i := range *files * 9 / 10 {
		delete(few, path(i))
	}
	must(m.commit(few))
	must(m.round())
	if state := m.r.State(); state.Condition != reconcile.Held {
		t.Fatalf("%+v", state)
	}
	must(m.accept(m.head))
	if got := m.live.Load().Len(); got != 8+*files/10 {
		t.Errorf("%d addresses are in force", got)
	}
}

// FuzzHistory lets the fuzzer choose the steps.
func FuzzHistory(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(script(seed + 1)[:64])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if log, err := play(t, data[:min(len(data), 4*60)]); err != nil {
			t.Errorf("%v\n%s", err, strings.Join(log, "\n"))
		}
	})
}
