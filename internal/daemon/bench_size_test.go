package daemon_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

// TestBenchRegisters prints the rate of 20 sessions beside registers of many
// sizes: of a relay for each, turn by turn, over that of the smallest. Nothing
// is asserted but that all mail arrives.
func TestBenchRegisters(t *testing.T) {
	needs(t, "smtp-sink")
	sizes := []int{10, 300}
	if *phase > 0 {
		sizes = []int{10, 1000, 100_000, 1_000_000}
	}
	to := newSink(t)
	var relays []*gatepostRelay
	for _, n := range sizes {
		g := newGatepost(t)
		defer g.end()
		g.hop.addr = to.addr
		g.addresses(n)
		g.configure()
		began := time.Now()
		g.launch()
		until(t, "the register is in force", func() bool {
			code, _ := g.page("/readyz")
			return code == 200 && g.report().Register.Addresses >= n
		})
		now, peak := g.world.memory()
		fmt.Printf("a register of %d addresses: in force %.1f s after the first start, RSS %d MiB then and %d at most\n",
			n, time.Since(began).Seconds(), now>>20, peak>>20)
		relays = append(relays, g)
	}
	rates := make([][]float64, len(sizes))
	for round := range 3 * *rounds {
		for turn := range relays {
			i := (turn + round) % len(relays)
			g := relays[i]
			n := 50
			if *phase > 0 {
				n = 5000 // of the 100,000 that the machines of one registration may send in an hour
			}
			c := benchCase{own: true, source: source{sessions: 20, octets: 4096, reuse: true, from: registeredAt}}
			to.run(t, g, c, n/10)
			rates[i] = append(rates[i], to.run(t, g, c, n).accepted)
		}
	}
	for i, n := range sizes {
		fmt.Printf("with %7d addresses: %.0f messages a second, %.2f of that with %d (medians)\n", n, median(rates[i]), median(rates[i])/median(rates[0]), sizes[0])
	}
}

// registeredAt is the address of a session: all are of the first registration.
func registeredAt(session int) string { return fmt.Sprintf("127.1.0.%d", session%10+1) }

// perFile is how many addresses a registration of TestBenchRegisters has.
const perFile = 64

// addresses registers n addresses, from 127.1.0.1 on.
func (w *world) addresses(n int) {
	w.t.Helper()
	w.write("registrations/campus/campus.cue", `
campus: ["127.0.0.0/8"]
networks: "127.0.0.0/8": {department: "lab", use: "static"}
departments: lab: {name: "Laboratory", speakers: [{github: "octocat", id: 583231}], contactDomains: ["lab.example"]}
`)
	for first := 0; first < n; first += perFile {
		var hosts strings.Builder
		for i := first + 1; i <= min(n, first+perFile); i++ {
			fmt.Fprintf(&hosts, "\t{ip: \"127.%d.%d.%d\", name: \"m%d.lab.example\", kind: \"printer\"},\n", 1+i>>16, i>>8&255, i&255, i)
		}
		w.write(fmt.Sprintf("registrations/lab/many/r%d.cue", first/perFile), fmt.Sprintf(`
department: "lab"
contact: {name: "Lab IT", email: "it@lab.example"}
purpose:   "Scan to mail."
whyNoAuth: "No SMTP AUTH in the firmware."
hosts: [
%s]
volume: {perHour: 100000, perDay: 1000000}
expires: %q
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, hosts.String(), time.Now().AddDate(1, 0, 0).Format(time.DateOnly)))
	}
	w.commit("Many addresses")
	w.push()
}

// TestBenchLatency prints how long a message takes at 200 a second, a connection
// each, from the moment that it is due to its 250: of Gatepost and of Postfix.
func TestBenchLatency(t *testing.T) {
	needs(t, "postfix", "smtp-sink")
	to := newSink(t)
	g := newGatepost(t)
	defer g.end()
	g.hop.addr = to.addr
	p := newPostfix(t, to.addr, "")
	defer p.end()
	const perSecond = 200
	n := 20
	if *phase > 0 {
		n = int(phase.Seconds() * perSecond)
	}
	g.fresh()
	times := map[string][]time.Duration{}
	for range *rounds {
		for _, r := range []contender{g, p} {
			before := to.messages()
			times[r.name()] = append(times[r.name()], steady(t, r.addr(), perSecond, n)...)
			until(t, "all have arrived", func() bool { return to.messages()-before >= n })
		}
	}
	for _, r := range []contender{g, p} {
		all := times[r.name()]
		slices.Sort(all)
		at := func(part float64) float64 { return all[int(part*float64(len(all)-1))].Seconds() * 1000 }
		fmt.Printf("%s, %d messages a second: median %.2f ms, p99 %.2f ms, at most %.2f ms\n", r.name(), perSecond, at(.5), at(.99), at(1))
	}
}

// steady sends n messages at a rate, whether or not those before are done.
func steady(t *testing.T, addr string, perSecond, n int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	var all sync.WaitGroup
	began := time.Now()
	text := benchText(4096)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		for time.Now().Before(due) {
			<-tick.C
		}
		all.Go(func() {
			s := &source{addr: addr}
			c, err := s.open(0)
			if err == nil {
				err = c.message(text)
			}
			took[i] = time.Since(due)
			if err == nil {
				err = c.quit()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return took
}

// TestBenchLarge prints what messages of 25 MB cost of memory: one, and eight at
// a time, which a slow next hop keeps in the relay.
func TestBenchLarge(t *testing.T) {
	g := newGatepost(t)
	defer g.end()
	g.hop = newHop(t)
	g.hop.keep = func(string, string) {}
	octets := 2_000_000
	if *phase > 0 {
		octets = 25_000_000
	}
	g.fresh()
	send := func(n int) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if err := (&source{addr: g.relay, sessions: 1, octets: octets}).send(1); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		g.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
	}
	if err := (&source{addr: g.relay, sessions: 4, octets: 4096}).send(200); err != nil { // what any message costs is there
		t.Fatal(err)
	}
	for _, n := range []int{1, 8} {
		before, _ := g.world.memory()
		g.forgetPeak()
		send(n)
		_, peak := g.world.memory()
		fmt.Printf("%d messages of %d octets at a time: RSS %.1f MiB at most, %.1f before\n", n, octets, float64(peak)/(1<<20), float64(before)/(1<<20))
	}
}

// forgetPeak begins the daemon's peak of memory anew.
func (w *world) forgetPeak() {
	w.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", w.proc.Process.Pid), []byte("5"), 0o200); err != nil {
		w.t.Fatal(err)
	}
}
