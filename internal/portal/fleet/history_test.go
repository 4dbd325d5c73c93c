package fleet

import (
	"math"
	"testing"
	"time"
)

var (
	noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	boot = noon.Add(-time.Hour)
)

// said is a point after some seconds, with so many accepted since a start.
func said(seconds int, accepted int64, started time.Time) Point {
	return Point{At: noon.Add(time.Duration(seconds) * time.Second), Up: true, Started: started, Accepted: accepted, Queue: int(accepted)}
}

// like holds values to what is wanted; -1 is NaN.
func like(t *testing.T, got []float64, want ...float64) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = math.Abs(got[i]-want[i]) < 0.01 || want[i] == -1 && math.IsNaN(got[i])
	}
	if !ok {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRates(t *testing.T) {
	again := noon.Add(50 * time.Second)
	down := Point{At: noon.Add(45 * time.Second)}
	for name, tc := range map[string]struct {
		list []Point
		want []float64
	}{
		"nothing":                     {nil, []float64{-1, -1, -1}},
		"one point":                   {[]Point{said(0, 100, boot)}, []float64{-1, -1, -1}},
		"steady":                      {[]Point{said(0, 100, boot), said(30, 110, boot), said(60, 120, boot), said(120, 120, boot), said(180, 140, boot)}, []float64{20, 0, 20}},
		"over a border":               {[]Point{said(30, 0, boot), said(90, 60, boot)}, []float64{60, 60, -1}},
		"before the first":            {[]Point{said(-60, 0, boot), said(60, 60, boot)}, []float64{30, -1, -1}},
		"behind the last":             {[]Point{said(120, 0, boot), said(240, 60, boot)}, []float64{-1, -1, 30}},
		"a restart":                   {[]Point{said(0, 1000, boot), said(60, 10, again)}, []float64{10, -1, -1}},
		"a restart that is seen late": {[]Point{said(0, 5, boot), said(60, 10, again)}, []float64{10, -1, -1}},
		"a count that went down":      {[]Point{said(0, 1000, boot), said(60, 10, boot)}, []float64{10, -1, -1}},
		"away for a while":            {[]Point{said(0, 0, boot), down, said(120, 60, boot)}, []float64{30, 30, -1}},
		"out of order":                {[]Point{said(60, 10, boot), said(60, 20, boot), said(0, 30, boot)}, []float64{-1, -1, -1}},
	} {
		t.Run(name, func(t *testing.T) { like(t, Rates(tc.list, Accepted, noon, time.Minute, 3), tc.want...) })
	}
}

func TestLevels(t *testing.T) {
	list := []Point{said(-1, 99, boot), said(0, 3, boot), said(30, 7, boot), said(59, 5, boot), {At: noon.Add(61 * time.Second)}, said(125, 0, boot), said(180, 99, boot)}
	like(t, Levels(list, Queued, noon, time.Minute, 3), 7, -1, 0)
	like(t, Add([]float64{1, math.NaN(), math.NaN()}, []float64{2, 3}, nil), 3, 3, -1)
}

// TestRing: a point a step, the newest day, whatever the clock does.
func TestRing(t *testing.T) {
	var g ring
	for i := range 3 * points {
		g.add(Point{At: noon.Add(time.Duration(i) * Step / 2), Up: i%4 != 3, Queue: i})
	}
	all := g.since(time.Time{})
	if len(all) != 3*points/2 && len(all) != points {
		t.Fatalf("%d points", len(all))
	}
	for i, p := range all {
		if !p.Up || i > 0 && !p.At.After(all[i-1].At) {
			t.Fatalf("point %d is %+v behind %+v", i, p, all[max(0, i-1)])
		}
	}
	last := all[len(all)-1]
	if want := 3*points - 2; last.Queue != want {
		t.Errorf("the newest is %d, not %d: one without an answer has replaced it", last.Queue, want)
	}
	if some := g.since(last.At.Add(-time.Hour)); len(some) != int(time.Hour/Step)+1 {
		t.Errorf("of the last hour are %d points", len(some))
	}
}
