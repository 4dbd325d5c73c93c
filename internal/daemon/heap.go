package daemon

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapSlack is what may become garbage between two collections although little
// is in use, in octets. A relay with a small register has some 10 MiB in use,
// and would collect them again and again for want of room.
const heapSlack = 16 << 20

// gcPercent is how much may become garbage between two collections, in percent
// of what is in use: as much as is in use, as everywhere, or heapSlack if that
// is more.
func gcPercent(use uint64) int {
	return int(max(100, heapSlack*100/max(use, 1<<20)))
}

// paceCollector keeps the collector's pace as gcPercent says: it looks after each
// collection. Whoever started the relay with GOGC set has it their way.
func paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	collected := make(chan struct{}, 1)
	tell := func(struct{}) {
		select {
		case collected <- struct{}{}:
		default:
		}
	}
	// The collector counts these three alike.
	sizes := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	for now := 100; ; {
		runtime.AddCleanup(new(*int), tell, struct{}{}) // garbage at once: the next collection tells of itself
		select {
		case <-ctx.Done():
			return nil
		case <-collected:
		}
		metrics.Read(sizes)
		var use uint64
		for _, size := range sizes {
			use += size.Value.Uint64()
		}
		// Setting it stops everything for a moment, so small steps up are left out.
		if want := gcPercent(use); want < now || want > now+now/4 {
			debug.SetGCPercent(want)
			now = want
		}
	}
}
