package limits

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	library "golang.org/x/time/rate"
)

// The library's limiter is the model: whatever is asked when, both say the same,
// as far as their rounding lets them.
func TestMeterIsATokenBucket(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := rate{n: float64(1 + random.IntN(5000)), span: []time.Duration{time.Minute, hour, day}[random.IntN(3)]}
		r.burst = r.n
		if random.IntN(2) == 0 {
			r.burst += float64(random.IntN(1000))
		}
		model := library.NewLimiter(library.Limit(r.n/r.span.Seconds()), int(r.burst))
		var m meter
		now := noon
		for step := range 2000 {
			now = now.Add(time.Duration(random.Int64N(int64(4 * r.each()))))
			n := 1 + random.IntN(1+int(r.burst)/20)
			want := model.TokensAt(now)
			if got := m.left(r, now); math.Abs(got-want) > 1e-3 {
				t.Fatalf("seed %d, step %d: %v are left, the library has %v", seed, step, got, want)
			}
			has := m.has(r, now, float64(n))
			if math.Abs(want-float64(n)) < 1e-3 { // on the edge either is right, and both must go on alike
				has = model.AllowN(now, n)
			} else if model.AllowN(now, n) != has {
				t.Fatalf("seed %d, step %d: %d of %v: %v", seed, step, n, want, has)
			}
			if has {
				m = m.spend(r, now, float64(n))
			}
		}
	}
}

func TestAClockThatIsSetBackHoldsNobodyUpForLong(t *testing.T) {
	r := rate{n: 10, burst: 10, span: time.Hour}
	m := meter(0).spend(r, noon, 10)
	early := noon.AddDate(0, 0, -100)
	if left := m.left(r, early); left != -10 {
		t.Errorf("%v are left", left)
	}
	m = m.spend(r, early, 1)
	if left := m.left(r, early.Add(2*time.Hour)); left != 10 {
		t.Errorf("two hours later %v are left", left)
	}
}

func TestRoomIsThereWhenItIsSaid(t *testing.T) {
	for _, n := range []float64{1, 3, 7, 1000, 1e6, 5e6, 4e12} {
		for _, span := range []time.Duration{time.Minute, hour, day} {
			r := rate{n: n, burst: n, span: span}
			m := meter(0).spend(r, noon, n)
			wait := m.wait(r, noon, 1)
			if at := noon.Add(wait); !m.has(r, at, 1) && r.each() >= 1 {
				t.Errorf("%v in %s: after %s there are %v", n, span, wait, m.left(r, at))
			}
		}
	}
}
