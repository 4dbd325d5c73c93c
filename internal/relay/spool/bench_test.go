package spool

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// BenchmarkCommit is a message through the spool on the disk: stored, and
// removed as after its delivery.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{4 << 10, 200 << 10} {
		for _, writers := range []int{1, 50} {
			b.Run(fmt.Sprintf("%dKiB/writers=%d", size>>10, writers), func(b *testing.B) {
				s, err := Open(Options{Dir: filepath.Join(b.TempDir(), "spool")})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				data := body(1, size)
				env := envelope("someone@example.org")
				b.SetBytes(int64(size))
				b.ReportAllocs()
				var failed atomic.Value
				one := func() {
					e, err := s.Store(b.Context(), env, data)
					if err == nil {
						err = s.Remove(e.ID)
					}
					if err != nil {
						failed.Store(err)
					}
				}
				if writers == 1 {
					for b.Loop() {
						one()
					}
				} else {
					b.SetParallelism(writers / 2)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							one()
						}
					})
				}
				if err := failed.Load(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
