package queue

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A mixed recipient is one of TestFiveDaysOfEverything, and what must come of it.
type mixed struct {
	to      string
	notify  string
	fate    mail.Outcome // Delivered or Failed
	late    bool         // told by a delay DSN, if anybody may be
	relayed bool
}

// aMix is a world of next hops, each with a temper, and what each does to a
// recipient that was first tried at began.
type aMix struct {
	start time.Time
	mu    sync.Mutex
	tries map[string][]time.Time // of each recipient
	now   map[string]int         // attempts under way, by domain
	most  map[string]int
}

const busyAt = 3 // attempts at the same time that the busy next hop takes

func (m *aMix) enter(domain string, rcpts []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now[domain]++
	m.most[domain] = max(m.most[domain], m.now[domain])
	for _, to := range rcpts {
		m.tries[to] = append(m.tries[to], time.Now())
	}
}

func (m *aMix) answer(to mail.Address, nth int) mail.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	age := time.Since(m.start)
	later := mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450, Enhanced: mail.Enhanced{4, 2, 1}, Text: "later"}}
	took := mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx", Status: mail.Status{Code: 250}, DSN: to.Domain == "tells.example"}
	no := mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550, Enhanced: mail.Enhanced{5, 1, 1}}}
	switch to.Domain {
	case "dead.example":
		return mail.Result{Cause: "connection refused"}
	case "down.example": // for a day and a half
		if age > 12*time.Hour && age < 48*time.Hour {
			return mail.Result{Cause: "connection timed out"}
		}
	case "busy.example":
		if m.now[to.Domain] > busyAt {
			return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 421, Text: "too many connections"}}
		}
	case "grey.example":
		if nth == 1 {
			return later
		}
	case "full.example":
		return later
	}
	if strings.HasPrefix(to.Local, "bad") {
		return no
	}
	return took
}

// TestFiveDaysOfEverything lets registrations send for three days to next hops
// that are dead, down for a while, busy, greylist, are full, refuse and take,
// with and without NOTIFY, senders and contacts, over restarts. After five more
// days each recipient has come to one end, which is told to whom it must be and
// to nobody else, once.
func TestFiveDaysOfEverything(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fiveDays(t, rand.New(rand.NewPCG(seed, 47))) })
		})
	}
}

func fiveDays(t *testing.T, random *rand.Rand) {
	mix := &aMix{start: time.Now(), tries: map[string][]time.Time{}, now: map[string]int{}, most: map[string]int{}}
	mem, c := newMemory(), newCourier()
	c.takes = 2 * time.Second
	c.outcomes = mix.answer
	c.hook = func(e *spool.Entry, rcpts []int) {
		var to []string
		for _, i := range rcpts {
			to = append(to, e.Envelope.To[i].Address.String())
		}
		mix.enter(e.Envelope.To[rcpts[0]].Address.Domain, to)
	}
	c.after = func(domain string) {
		mix.mu.Lock()
		defer mix.mu.Unlock()
		mix.now[domain]--
	}
	o := Options{Workers: 32, PerDestination: 8}
	b := run(t, o, mem, c)

	domains := []string{"good.example", "tells.example", "dead.example", "down.example", "busy.example", "grey.example", "full.example"}
	notifies := []string{"", "", "", "NEVER", "SUCCESS,FAILURE,DELAY", "FAILURE"}
	type sent struct {
		from, contact string
		at            time.Time
		rcpts         []mixed
	}
	var all []sent
	var restarts []time.Time
	for n := range 600 {
		s := sent{from: fmt.Sprintf("s%d@sender.example", n), at: time.Now()}
		env := message(fmt.Sprintf("registrations/r%d.cue", random.IntN(7)), "x@y.example")
		env.From, _ = mail.ParseAddress(s.from, false)
		env.Client = netip.MustParseAddr("192.0.2.7")
		if random.IntN(10) == 0 {
			env.From, s.from = mail.Address{}, ""
		}
		if random.IntN(4) == 0 {
			s.contact = fmt.Sprintf("c%d@sender.example", n)
			env.Contact, _ = mail.ParseAddress(s.contact, false)
		}
		env.To = nil
		for k := range 1 + random.IntN(4) {
			r := mixed{notify: notifies[random.IntN(len(notifies))], fate: mail.Delivered}
			domain := domains[random.IntN(len(domains))]
			r.to = fmt.Sprintf("x%d-%d@%s", n, k, domain)
			switch {
			case domain == "dead.example" || domain == "full.example":
				r.fate, r.late = mail.Failed, true
			case domain == "good.example" && random.IntN(5) == 0:
				r.to, r.fate = fmt.Sprintf("bad%d-%d@%s", n, k, domain), mail.Failed
			default:
				r.relayed = strings.Contains(r.notify, "SUCCESS") && domain != "tells.example"
			}
			a, err := mail.ParseAddress(r.to, false)
			if err != nil {
				t.Fatal(err)
			}
			env.To = append(env.To, mail.Recipient{Address: a, Notify: r.notify})
			s.rcpts = append(s.rcpts, r)
		}
		all = append(all, s)
		b.Accept(b.mem.put(env, []byte(text)))
		if random.IntN(20) == 0 {
			pass(time.Duration(random.Int64N(int64(4 * time.Hour))))
		}
		if n%150 == 149 { // a new version
			b.stop()
			restarts = append(restarts, time.Now())
			b = run(t, o, mem, c)
		}
	}
	pass(3*day - time.Since(mix.start)%time.Hour)
	pass(6 * day)
	b.check()
	if mem.len() != 0 || b.sched.running != 0 || len(b.sched.shares) != 0 || len(b.sched.dests) != 0 {
		t.Errorf("%d are left; %d running, %d shares, %d destinations", mem.len(), b.sched.running, len(b.sched.shares), len(b.sched.dests))
	}
	b.stop()

	// What was told, of whom, to whom.
	told := map[string][]string{} // "action recipient" → readers
	for _, k := range c.dsns() {
		if !strings.Contains(k.body, "Reporting-MTA") {
			continue // a client's without a sender
		}
		var rcpt string
		for line := range strings.SplitSeq(k.body, "\r\n") {
			if a, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok {
				rcpt = a
			}
			if a, ok := strings.CutPrefix(line, "Action: "); ok {
				told[a+" "+rcpt] = append(told[a+" "+rcpt], k.to[0])
			}
		}
	}
	expect := func(action string, r mixed, reader string, may bool) {
		got := told[action+" "+r.to]
		switch {
		case reader == "" && len(got) != 0, reader != "" && len(got) == 0 && !may, len(got) > 1, len(got) == 1 && reader != "" && got[0] != reader:
			t.Errorf("%s %s (NOTIFY=%s): told %v, not %q", r.to, action, r.notify, got, reader)
		}
		delete(told, action+" "+r.to)
	}
	for _, s := range all {
		for _, r := range s.rcpts {
			if n := c.delivered(r.to); (n == 1) != (r.fate == mail.Delivered) || n > 1 {
				t.Errorf("%s: delivered %d times", r.to, n)
			}
			wants := func(word string, unasked bool) bool {
				return r.notify == "" && unasked || strings.Contains(r.notify, word)
			}
			failed := s.from
			if failed == "" {
				failed = s.contact
			}
			if failed == "" {
				failed = "postmaster@relay.example"
			}
			if r.fate != mail.Failed || !wants("FAILURE", true) {
				failed = ""
			}
			expect("failed", r, failed, false)
			delayed := s.from
			if !wants("DELAY", true) || !r.late && !strings.HasSuffix(r.to, "@down.example") && !strings.HasSuffix(r.to, "@busy.example") {
				delayed = ""
			}
			expect("delayed", r, delayed, !r.late) // a busy or broken next hop may be that late
			relayed := s.from
			if !r.relayed || r.fate != mail.Delivered {
				relayed = ""
			}
			expect("relayed", r, relayed, false)
			checkTries(t, r, s.at, mix.tries[r.to], restarts)
		}
	}
	for what, readers := range told {
		t.Errorf("%s: %v", what, readers)
	}
	for domain, n := range mix.most {
		if n > o.PerDestination {
			t.Errorf("%s had %d attempts at the same time", domain, n)
		}
	}
	spread(t, mix.tries)
}

// checkTries holds the attempts of one recipient to the schedule: never sooner
// than it says, the jitter included, and not after the end. What was due first
// of a message is when all of it is due after a restart.
func checkTries(t *testing.T, r mixed, at time.Time, tries, restarts []time.Time) {
	t.Helper()
	waits := []time.Duration{5, 10, 20, 40, 80, 160, 240}
	for i := 1; i < len(tries); i++ {
		least := waits[min(i, len(waits))-1] * time.Minute * 9 / 10
		restarted := slices.ContainsFunc(restarts, func(at time.Time) bool { return !at.Before(tries[i-1]) && !at.After(tries[i]) })
		if gap := tries[i].Sub(tries[i-1]); gap < least && !restarted {
			t.Errorf("%s: attempt %d comes %v after the one before, and not %v", r.to, i+1, gap, least)
			return
		}
	}
	if last := tries[len(tries)-1]; last.Sub(at) > 5*day+time.Hour {
		t.Errorf("%s is tried %v after it came", r.to, last.Sub(at))
	}
	if r.fate == mail.Failed && strings.HasSuffix(r.to, "@full.example") && len(tries) < 30 {
		t.Errorf("%s was tried %d times in five days", r.to, len(tries))
	}
}

// spread: what failed together does not come back together.
func spread(t *testing.T, tries map[string][]time.Time) {
	t.Helper()
	at := map[time.Time]int{}
	for to, all := range tries {
		if strings.HasSuffix(to, "@full.example") && len(all) > 5 {
			at[all[5]]++
		}
	}
	most := slices.Max(slices.AppendSeq([]int{0}, func(yield func(int) bool) {
		for _, n := range at {
			if !yield(n) {
				return
			}
		}
	}))
	if most > 8 { // a transaction has a few recipients
		t.Errorf("%d recipients are tried for the sixth time in the same moment", most)
	}
}
