package brake

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

// TestMemory: registrations that each sent a few scans to a few people take less
// than 1.5 KiB each.
func TestMemory(t *testing.T) {
	b := fresh(t)
	paths := make([]string, 20_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("registrations/department-%d/machines-%d.cue", i/100, i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, path := range paths {
		for k := range 5 {
			b.Accepted(Client{Registration: path, Addr: printer.Addr, PerHour: 200}, message(uint64(i*10+k+1), k*3, 1), noon)
			b.Result(path, mail.Result{Outcome: mail.Delivered}, noon)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d registrations in %.1f MB", len(b.trackers), float64(used)/1e6)
	if used > 1536*int64(len(paths)) {
		t.Errorf("%d octets", used)
	}
	runtime.KeepAlive(paths)
}

func BenchmarkAccepted(b *testing.B) {
	brake := fresh(b, func(o *Options) { o.Thresholds.RecipientsLeast = 1 << 30 })
	i := 0
	for b.Loop() {
		brake.Accepted(printer, message(uint64(i+1), i%3000, 1), noon.Add(time.Duration(i)*time.Minute))
		i++
	}
}
