package limits

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

var (
	noon  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	first = netip.MustParseAddr("192.0.2.1")
)

// terms are those of the schema's defaults.
func terms() Terms {
	return Terms{MinutePart: 0.5, MachinePart: 0.8, RecipientsPerMessage: 5, OctetsPerMessage: 4 << 20,
		MaxRecipients: 100, MaxOctets: 35 << 20, StrangerSessions: 60, StrangerTries: 120}
}

// fresh are budgets that are kept nowhere; a change of the terms may be given.
func fresh(t testing.TB, change ...func(*Terms)) *Budgets {
	t.Helper()
	o := Options{Terms: terms()}
	for _, c := range change {
		c(&o.Terms)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// of is the first of n machines of a registration.
func of(path string, perHour, perDay, n int) policy.Verdict {
	g := &registration.Registration{Path: path, Volume: registration.Volume{PerHour: perHour, PerDay: perDay}}
	for i := range n {
		ip := first
		for range i {
			ip = ip.Next()
		}
		g.Hosts = append(g.Hosts, registration.Host{IP: ip})
	}
	return policy.Verdict{Standing: policy.Registered, Addr: first, Registration: g}
}

func at(v policy.Verdict, ip string) policy.Verdict {
	v.Addr = netip.MustParseAddr(ip)
	return v
}

func stranger1(ip string) policy.Verdict {
	return policy.Verdict{Standing: policy.Unregistered, Addr: netip.MustParseAddr(ip)}
}

var one = Use{Messages: 1, Recipients: 1, Octets: 1000}

// take takes u n times and returns how often that went well, and what was over
// last.
func take(b *Budgets, v policy.Verdict, u Use, now time.Time, n int) (through int, last Over) {
	for range n {
		if over, ok := b.Take(v, u, now); ok {
			through++
		} else {
			last = over
		}
	}
	return through, last
}

func TestEachBudgetHolds(t *testing.T) {
	tests := []struct {
		name            string
		perHour, perDay int
		use             Use
		machines        int
		steps           int           // times that 1000 are asked for
		apart           time.Duration // between two of them
		through         int
		budget, limit   string
		whose           string
		roomIn          time.Duration
	}{
		{name: "a minute takes half of an hour's", perHour: 100, perDay: 1000, use: one, machines: 1, steps: 1,
			through: 50, budget: "messages-minute", limit: "50 messages per minute", whose: "a", roomIn: 1200 * time.Millisecond},
		{name: "but twenty, if the hour has them", perHour: 30, perDay: 1000, use: one, machines: 1, steps: 1,
			through: 20, budget: "messages-minute", limit: "20 messages per minute", whose: "a", roomIn: 3 * time.Second},
		{name: "the hour", perHour: 10, perDay: 1000, use: one, machines: 1, steps: 1,
			through: 10, budget: "messages-hour", limit: "10 messages per hour", whose: "a", roomIn: 6 * time.Minute},
		{name: "the hour, in minutes", perHour: 100, perDay: 1000, use: one, machines: 1, steps: 3, apart: time.Minute,
			through: 103, budget: "messages-hour", limit: "100 messages per hour", whose: "a"},
		{name: "the day", perHour: 10, perDay: 12, use: one, machines: 1, steps: 2, apart: time.Hour,
			through: 12, budget: "messages-day", limit: "12 messages per day", whose: "a"},
		{name: "one message a day", perHour: 1, perDay: 1, use: one, machines: 1, steps: 1,
			through: 1, budget: "messages-day", limit: "1 message per day", whose: "a", roomIn: 24 * time.Hour},
		{name: "recipients", perHour: 100, perDay: 1000, use: Use{Messages: 1, Recipients: 100}, machines: 1, steps: 1,
			through: 2, budget: "recipients-minute", limit: "250 recipients per minute", whose: "a", roomIn: 12 * time.Second},
		{name: "recipients of whom few are expected", perHour: 1, perDay: 10, use: Use{Recipients: 100}, machines: 1, steps: 1,
			through: 1, budget: "recipients-day", limit: "50 recipients per day and 100 at once", whose: "a", roomIn: 48 * time.Hour},
		{name: "octets", perHour: 100, perDay: 100, use: Use{Messages: 1, Recipients: 1, Octets: 35 << 20}, machines: 1, steps: 1,
			through: 11, budget: "octets-day", limit: "400 MiB per day", whose: "a", roomIn: 72 * time.Minute},
		{name: "octets of which few are expected", perHour: 20, perDay: 20, use: Use{Messages: 1, Recipients: 1, Octets: 35 << 20}, machines: 1, steps: 1,
			through: 10, budget: "octets-day", limit: "350 MiB per day", whose: "a"},
		{name: "one machine of two", perHour: 10, perDay: 1000, use: one, machines: 2, steps: 1,
			through: 8, budget: "messages-hour", limit: "8 messages per hour", whose: "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fresh(t)
			v := of("a", tt.perHour, tt.perDay, tt.machines)
			through, now := 0, noon
			var over Over
			for range tt.steps {
				n, last := take(b, v, tt.use, now, 1000)
				through, over = through+n, last
				now = now.Add(tt.apart)
			}
			if through != tt.through || over.Budget != tt.budget || over.Limit != tt.limit || over.Whose != tt.whose {
				t.Errorf("%d went through, and then %+v", through, over)
			}
			if tt.roomIn != 0 && (over.RoomIn-tt.roomIn).Abs() > time.Second {
				t.Errorf("room in %s, want %s", over.RoomIn, tt.roomIn)
			}
			at := now.Add(-tt.apart)
			if !over.RoomAt.Equal(at.Add(over.RoomIn)) {
				t.Errorf("room at %s, which is not %s after %s", over.RoomAt, over.RoomIn, at)
			}
			if _, ok := b.Take(v, tt.use, over.RoomAt.Add(-time.Second)); ok && over.RoomIn > 2*time.Second {
				t.Error("there was room before it was said")
			}
			if over, ok := b.Take(v, tt.use, over.RoomAt); !ok {
				t.Errorf("there was no room when it was said: %+v", over)
			}
		})
	}
}

// A device that sends at its declared rate is never told anything.
func TestWhoKeepsToTheVolumeIsNeverHeldUp(t *testing.T) {
	b := fresh(t)
	v := of("a", 200, 4800, 2)
	other := at(v, "192.0.2.2")
	for i := range 4 * 4800 { // four days
		who := v
		if i%2 == 0 {
			who = other
		}
		use := Use{Messages: 1, Recipients: 5, Octets: 4 << 20}
		if over, ok := b.Take(who, use, noon.Add(time.Duration(i)*18*time.Second)); !ok {
			t.Fatalf("message %d: %+v", i, over)
		}
	}
}

func TestOneMachineLeavesRoomForTheOthers(t *testing.T) {
	b := fresh(t)
	v := of("a", 10, 100, 3)
	if n, over := take(b, v, one, noon, 50); n != 8 || over.Whose != "192.0.2.1" {
		t.Errorf("the first got %d: %+v", n, over)
	}
	if n, over := take(b, at(v, "192.0.2.2"), one, noon, 50); n != 2 || over.Whose != "a" {
		t.Errorf("the second got %d: %+v", n, over)
	}
}

func TestWhatIsRefusedCostsNothing(t *testing.T) {
	b := fresh(t)
	v := of("a", 1, 3, 2)
	take(b, v, one, noon, 100) // 1 through, 99 over the hour
	for hour := 1; hour <= 2; hour++ {
		if n, over := take(b, v, one, noon.Add(time.Duration(hour)*time.Hour), 1); n != 1 {
			t.Errorf("the day was charged for what the hour refused: %+v", over)
		}
	}
}

func TestCheckTakesNothing(t *testing.T) {
	b := fresh(t)
	v := of("a", 1, 1, 1)
	for range 100 {
		if over, ok := b.Check(v, one, noon); !ok {
			t.Fatalf("%+v", over)
		}
	}
	if n, _ := take(b, v, one, noon, 2); n != 1 {
		t.Errorf("%d went through", n)
	}
	if _, ok := b.Check(v, one, noon); ok {
		t.Error("Check sees room where there is none")
	}
}

func TestSettle(t *testing.T) {
	const size = 35 << 20
	b := fresh(t, func(t *Terms) { t.OctetsPerMessage = 1 })
	v := of("a", 100, 100, 2)
	left := func() (l [2]int64) { // octets, of the registration and of the machine
		for _, x := range b.Left(v, noon) {
			if x.Budget == "octets-day" && x.Whose == "a" {
				l[0] = x.Left
			} else if x.Budget == "octets-day" {
				l[1] = x.Left
			}
		}
		return l
	}
	b.Take(v, one, noon)
	b.Settle(v, one, Use{}, noon)
	if l := left(); l[0] != 10*size || l[1] != 10*size {
		t.Errorf("what was given back is not there: %v", l)
	}
	if n, _ := take(b, v, one, noon, 1000); n != 40 { // 80 of the machine's hour; half in a minute
		t.Errorf("%d messages after one was given back", n)
	}
	for range 40 {
		b.Settle(v, Use{Octets: 1000}, Use{Octets: size}, noon)
	}
	if l := left(); l[0] < -10*size || l[0] > -10*size+1 { // not -30: twice the burst is the most
		t.Errorf("overdrawn to %v", l)
	}
	if over, ok := b.Take(v, one, noon.Add(12*time.Hour)); ok || over.Budget != "octets-day" {
		t.Errorf("an overdrawn budget has room: %+v", over)
	}
}

func TestRegistrationsDoNotShare(t *testing.T) {
	b := fresh(t)
	take(b, of("a", 1, 1, 1), one, noon, 5)
	if n, _ := take(b, of("b", 1, 1, 1), one, noon, 5); n != 1 {
		t.Errorf("b got %d", n)
	}
}

func TestTheRegisterChanges(t *testing.T) {
	tests := []struct {
		name                 string
		perHour, perDay      int // after 10 of 10 an hour and 100 a day were used
		after                time.Duration
		through              int
		budget               string
		whileFullAgainWithin time.Duration
	}{
		{"a larger volume gives room at once", 15, 100, 0, 5, "messages-hour", 24 * time.Hour},
		{"and fills up at its own rate", 20, 100, 6 * time.Minute, 11, "messages-hour", 24 * time.Hour},
		{"a smaller one is used up, and no more than that", 2, 100, 0, 0, "messages-hour", 24 * time.Hour},
		{"and fills up at its own rate", 2, 100, 20 * time.Hour, 2, "messages-hour", 45 * time.Hour},
		{"a smaller day", 5, 5, 0, 0, "messages-day", 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fresh(t)
			take(b, of("a", 10, 100, 1), one, noon, 10)
			v := of("a", tt.perHour, tt.perDay, 1)
			if n, over := take(b, v, one, noon.Add(tt.after), 100); n != tt.through || over.Budget != tt.budget {
				t.Errorf("%d went through, and then %+v", n, over)
			}
			for _, l := range b.Left(v, noon.Add(tt.after)) {
				if late := l.FullAt.Sub(noon); late > tt.whileFullAgainWithin {
					t.Errorf("%s is full again after %s", l.Budget, late)
				}
			}
		})
	}
}

func TestAMachineThatMovesToAnotherRegistration(t *testing.T) {
	b := fresh(t)
	take(b, of("a", 10, 10, 2), one, noon, 8)
	if n, over := take(b, of("b", 100, 100, 2), one, noon, 40); n != 32 || over.Whose != "192.0.2.1" {
		t.Errorf("%d went through, and then %+v", n, over)
	}
}

func TestMemoryFollowsWhoSends(t *testing.T) {
	b := fresh(t)
	for _, path := range []string{"a", "b", "c"} {
		take(b, of(path, 10, 10, 2), one, noon, 1)
	}
	b.Take(stranger1("192.0.2.9"), Use{Sessions: 1}, noon)
	take(b, of("d", 10, 10, 2), one, noon.Add(48*time.Hour), 1)
	b.lines(noon.Add(48 * time.Hour))
	if len(b.registrations) != 1 || len(b.machines) != 1 || len(b.strangers) != 0 {
		t.Errorf("%d, %d and %d accounts are kept, want those of d only", len(b.registrations), len(b.machines), len(b.strangers))
	}
}

func TestStrangers(t *testing.T) {
	b := fresh(t)
	v := stranger1("192.0.2.9")
	n, over := take(b, v, Use{Sessions: 1}, noon, 1000)
	if n != 60 || over.Limit != "60 sessions per hour" || over.Whose != "192.0.2.9" || (over.RoomIn-time.Minute).Abs() > time.Millisecond {
		t.Errorf("%d sessions, and then %+v", n, over)
	}
	if n, over := take(b, v, Use{Recipients: 1}, noon, 1000); n != 120 || over.Limit != "120 refused recipients per hour" {
		t.Errorf("%d tries, and then %+v", n, over)
	}
	if n, _ := take(b, stranger1("192.0.2.10"), Use{Sessions: 1}, noon, 1000); n != 60 {
		t.Errorf("another got %d sessions", n)
	}
	expired := of("a", 10, 10, 1)
	expired.Standing = policy.Expired
	if n, over := take(b, expired, Use{Sessions: 1}, noon, 1000); n != 60 || over.Budget != "sessions-hour" {
		t.Errorf("an expired one got %d sessions, and then %+v", n, over)
	}
	if n, over := take(b, of("a", 10, 10, 1), Use{Sessions: 1}, noon, 1000); n != 1000 {
		t.Errorf("a registered one is held to sessions: %+v", over)
	}
}

// A campus full of strangers has a bounded place, and those beyond it share.
func TestStrangersWithoutAPlaceShare(t *testing.T) {
	b := fresh(t)
	ip := netip.MustParseAddr("2001:db8::1")
	through := 0
	for range MaxStrangers + 1000 {
		if _, ok := b.Take(policy.Verdict{Standing: policy.Unregistered, Addr: ip}, Use{Sessions: 1}, noon); ok {
			through++
		}
		ip = ip.Next()
	}
	if through != MaxStrangers+60 || len(b.strangers) != MaxStrangers+1 {
		t.Errorf("%d sessions of %d accounts", through, len(b.strangers))
	}
}

func TestLeft(t *testing.T) {
	b := fresh(t)
	v := of("a", 100, 1000, 2)
	take(b, v, Use{Messages: 1, Recipients: 2, Octets: 1 << 20}, noon, 10)
	var got []string
	for _, l := range b.Left(v, noon) {
		got = append(got, fmt.Sprintf("%s %s %d/%d %s", l.Whose, l.Budget, l.Left, l.AtOnce, l.FullAt.Sub(noon).Round(time.Second)))
	}
	want := `a messages-minute 40/50 12s
a messages-hour 90/100 6m0s
a messages-day 990/1000 14m24s
a recipients-minute 230/250 5s
a recipients-hour 480/500 2m24s
a recipients-day 4980/5000 5m46s
a octets-day 4183818240/4194304000 3m36s
192.0.2.1 messages-minute 30/40 15s
192.0.2.1 messages-hour 70/80 7m30s
192.0.2.1 messages-day 790/800 18m0s
192.0.2.1 recipients-minute 180/200 6s
192.0.2.1 recipients-hour 380/400 3m0s
192.0.2.1 recipients-day 3980/4000 7m12s
192.0.2.1 octets-day 3344957440/3355443200 4m30s`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if l := b.Left(stranger1("192.0.2.7"), noon); len(l) != 2 || l[0].Left != 60 || !l[0].FullAt.Equal(noon) {
		t.Errorf("a stranger has %+v", l)
	}
	if l := b.Left(policy.Verdict{Standing: policy.OffCampus}, noon); len(l) != 0 {
		t.Errorf("somebody from elsewhere has %+v", l)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	b, err := Open(Options{Terms: terms(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	take(b, of("a", 10, 100, 2), one, noon, 10)
	want := `
# HELP gatepost_limits_accounts Accounts of clients whose budgets are not full.
# TYPE gatepost_limits_accounts gauge
gatepost_limits_accounts{kind="machine"} 1
gatepost_limits_accounts{kind="registration"} 1
gatepost_limits_accounts{kind="stranger"} 0
# HELP gatepost_limits_refusals_total Times a budget had no room for what a client asked.
# TYPE gatepost_limits_refusals_total counter
gatepost_limits_refusals_total{budget="messages-hour"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := fresh(t)
	v := of("a", 1000, 1000, 2)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 500 {
				if _, ok := b.Take(v, one, noon); ok {
					b.Settle(v, one, Use{Messages: 1, Recipients: 1}, noon)
				}
				b.Check(v, one, noon)
				b.Left(v, noon)
			}
		})
	}
	group.Wait()
	if l := b.Left(v, noon); l[1].Left != 600 {
		t.Errorf("%+v, want 400 of 1000 used", l[1])
	}
}
