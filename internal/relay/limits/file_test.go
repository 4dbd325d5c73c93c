package limits

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// open reads a file at a time.
func open(t testing.TB, file string, now time.Time, log *bytes.Buffer, change ...func(*Terms)) *Budgets {
	t.Helper()
	o := Options{File: file, Terms: terms(), Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	for _, c := range change {
		c(&o.Terms)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARestartForgetsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits")
	b := open(t, file, noon, nil)
	v, many, odd := of("a", 10, 100, 1), of("b", 100, 1000, 2), stranger1("192.0.2.9")
	take(b, v, one, noon, 10)
	take(b, many, Use{Messages: 1, Recipients: 3, Octets: 20 << 20}, noon, 20)
	take(b, odd, Use{Sessions: 1, Recipients: 1}, noon, 55)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	for _, late := range []time.Duration{0, 10 * time.Minute, 3 * time.Hour} {
		now := noon.Add(late)
		again := open(t, file, now, nil)
		for _, v := range []policy.Verdict{v, many, odd} {
			before, after := b.Left(v, now), again.Left(v, now)
			for i := range before {
				if d := after[i].Left - before[i].Left; d < 0 || d > 1 && before[i].Budget != "octets-day" || after[i].FullAt.Sub(before[i].FullAt).Abs() > 2*time.Second {
					t.Errorf("after %s: %+v was %+v", late, after[i], before[i])
				}
			}
		}
		if n, over := take(again, v, one, now, 20); n != min(10, int(late/(6*time.Minute))) {
			t.Errorf("after %s %d went through, and then %+v", late, n, over)
		}
	}
}

// Under other terms, what was used stays used.
func TestARestartUnderOtherTerms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits")
	b := open(t, file, noon, nil)
	v := of("a", 100, 1000, 1)
	take(b, v, Use{Messages: 1, Recipients: 10}, noon, 20)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	b = open(t, file, noon, nil, func(t *Terms) { t.RecipientsPerMessage = 3 })
	if l := b.Left(v, noon)[recipientsHour]; l.Limit != 300 || l.Left != 100 {
		t.Errorf("%+v", l)
	}
}

func TestAFileFromTheFuture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits")
	b := open(t, file, noon, nil)
	v := of("a", 10, 100, 1)
	take(b, v, one, noon, 10)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	early := noon.AddDate(0, 0, -3)
	b = open(t, file, early, nil)
	if n, _ := take(b, v, one, early.Add(time.Hour), 20); n != 10 {
		t.Errorf("after a clock was set back %d went through in the next hour", n)
	}
}

func TestDamage(t *testing.T) {
	const head = `{"version":1,"what":"gatepost limits","at":1795435200000}` + "\n"
	line := `{"registration":"a","perHour":10,"perDay":10,"used":[1,1,1,1,1,1,1]}` + "\n"
	tests := map[string]string{
		"empty":                 "",
		"another version":       strings.Replace(head, `:1,`, `:2,`, 1),
		"something else":        strings.Replace(head, "limits", "activity", 1),
		"a time that is none":   strings.Replace(head, "1795435200000", "-1", 1),
		"no JSON":               head + "used: 7\n",
		"torn":                  head + line[:30],
		"a budget is missing":   head + strings.Replace(line, "[1,", "[", 1),
		"less than nothing":     head + strings.Replace(line, "[1,", "[-1,", 1),
		"a volume without end":  head + strings.Replace(line, `"perHour":10`, `"perHour":10000000`, 1),
		"a volume below zero":   head + strings.Replace(line, `"perHour":10`, `"perHour":-10`, 1),
		"two holders":           head + strings.Replace(line, `"perHour"`, `"ip":"192.0.2.1","perHour"`, 1),
		"a zone":                head + `{"ip":"fe80::1%eth0","used":[1,1]}` + "\n",
		"an address of nothing": head + `{"ip":"x","used":[1,1]}` + "\n",
		"a long name":           head + strings.Replace(line, `"a"`, `"`+strings.Repeat("a", maxPath+1)+`"`, 1),
		"a nought for a number": head + strings.Replace(line, "[1,", "[null,\"x\",", 1),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "limits")
			if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			b := open(t, file, noon, &log)
			if len(b.registrations)+len(b.machines)+len(b.strangers) != 0 {
				t.Error("something is used")
			}
			if !strings.Contains(log.String(), "event=limits.damaged") || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("the log says %q", log.String())
			}
			if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != data {
				t.Errorf("it is not put aside: %v", err)
			}
			if n, _ := take(b, of("a", 10, 10, 1), one, noon, 20); n != 10 {
				t.Errorf("%d went through", n)
			}
			if err := b.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	good := filepath.Join(t.TempDir(), "limits")
	if err := os.WriteFile(good, []byte(head+line), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := open(t, good, time.UnixMilli(1795435200000), nil); len(b.registrations) != 1 {
		t.Error("the table's line is not good as it is")
	}
}

// TestRun: written within a minute if something was used, and at the end; a
// failure is told once and does not end it.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "limits")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b, err := Open(Options{File: file, Terms: terms(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		wait := func(d time.Duration) {
			<-time.After(d) // of the bubble
			synctest.Wait()
		}
		wait(5 * time.Minute)
		if _, err := os.Stat(file); err == nil {
			t.Error("written although nothing was used")
		}
		v := of("a", 100, 1000, 1)
		b.Take(v, one, time.Now())
		wait(saveTime)
		written, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Minute)
		if again, _ := os.ReadFile(file); !bytes.Equal(written, again) {
			t.Error("written although nothing was used since")
		}
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 { // whom modes do not stop
			b.file = filepath.Join(dir, "nowhere", "limits")
		}
		for range 3 {
			b.Take(v, one, time.Now())
			wait(saveTime)
		}
		if n := strings.Count(log.String(), "event=limits.failed"); n != 1 {
			t.Errorf("told %d times: %s", n, log.String())
		}
		b.file = file
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if again, _ := os.ReadFile(file); bytes.Equal(written, again) {
			t.Error("not written at the end")
		}
	})
}

// FuzzFile: whatever is in the file, reading it ends, and what is read holds
// what the package promises, and can be written and read again.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"what":"gatepost limits","at":1795435200000}
{"registration":"a","perHour":10,"perDay":10,"used":[1,1,1,1,1,1,99]}
{"ip":"192.0.2.1","perHour":1000000,"perDay":1000000,"used":[9223372036854775807,1,1,1,1,1,1]}
{"ip":"2001:db8::1","used":[60,5]}
{"used":[1,1]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := fresh(t)
		if b.decode(data, noon) != nil {
			return
		}
		check := func(v policy.Verdict) {
			for _, l := range b.Left(v, noon) {
				if l.Left < -l.AtOnce || l.Left > l.AtOnce || l.FullAt.Before(noon) {
					t.Fatalf("%+v", l)
				}
			}
		}
		for path, a := range b.registrations {
			v := of(path, a.declared.PerHour, a.declared.PerDay, 1)
			check(v)
			b.Take(v, one, noon)
		}
		for ip, a := range b.machines {
			v := of("other", a.declared.PerHour, a.declared.PerDay, 2)
			v.Addr = ip
			check(v)
		}
		for ip := range b.strangers {
			check(policy.Verdict{Standing: policy.Unregistered, Addr: ip})
		}
		again := fresh(t)
		for _, l := range b.lines(noon) {
			if !again.take(l, noon) {
				t.Fatalf("%+v is written and not read", l)
			}
		}
		if got := again.lines(noon); len(got) > len(b.lines(noon)) {
			t.Fatal("more is read than was written")
		}
	})
}

func crowd(n int) []policy.Verdict {
	out := make([]policy.Verdict, n)
	ip := netip.MustParseAddr("2001:db8::1")
	for i := range out {
		out[i] = policy.Verdict{Standing: policy.Registered, Addr: ip, Registration: &registration.Registration{
			Path: fmt.Sprintf("registrations/department-%d/machines-%d.cue", i/100, i), Volume: registration.Volume{PerHour: 200, PerDay: 1000},
			Hosts: make([]registration.Host, 2)}}
		ip = ip.Next()
	}
	return out
}

// TestMemory: 100,000 registrations that send, each with a machine's account
// beside it, take a few tens of MB.
func TestMemory(t *testing.T) {
	clients := crowd(100_000)
	b := fresh(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, v := range clients {
		b.Take(v, one, noon)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d accounts in %.1f MB", len(b.registrations)+len(b.machines), float64(used)/1e6)
	if used > 50e6 {
		t.Errorf("%d octets", used)
	}
	runtime.KeepAlive(clients)
}

func BenchmarkTake(b *testing.B) {
	clients := crowd(100_000)
	budgets := fresh(b)
	i := 0
	for b.Loop() {
		budgets.Take(clients[i%len(clients)], one, noon)
		i++
	}
}

func BenchmarkCheck(b *testing.B) {
	v := crowd(1)[0]
	budgets := fresh(b)
	for b.Loop() {
		budgets.Check(v, one, noon)
	}
}

// BenchmarkSave100000 writes 200,000 accounts; waited is the longest that a
// client had to wait meanwhile.
func BenchmarkSave100000(b *testing.B) {
	budgets := open(b, filepath.Join(b.TempDir(), "limits"), noon, nil)
	clients := crowd(100_000)
	for _, v := range clients {
		budgets.Take(v, one, noon)
	}
	stop, waited := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		for {
			select {
			case <-stop:
				waited <- longest
				return
			case <-time.After(100 * time.Microsecond):
			}
			began := time.Now()
			budgets.Check(clients[0], one, noon)
			longest = max(longest, time.Since(began))
		}
	}()
	for b.Loop() {
		budgets.dirty = true
		if err := budgets.Save(); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	b.ReportMetric(float64((<-waited).Microseconds())/1000, "waited-ms")
	if info, err := os.Stat(budgets.file); err == nil {
		b.ReportMetric(float64(info.Size()), "octets")
	}
}
