package daemon

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes is what came, write by write.
type writes struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	return len(p), nil
}

// lines is how many lines each write had.
func (w *writes) lines() (n []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.all {
		n = append(n, strings.Count(text, "\n"))
	}
	return n
}

func TestLogLinesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w writes
		log, all := NewLog(&w)
		log.Info("one")
		log.With("a", 1).Info("two")
		if got := w.lines(); len(got) != 0 {
			t.Errorf("written at once: %v", got)
		}
		<-time.After(logFor + time.Millisecond)
		synctest.Wait()
		if got := w.lines(); !slices.Equal(got, []int{2}) {
			t.Errorf("after a while: %v lines", got)
		}
		log.Info("three")
		log.WithGroup("g").Warn("four")
		if got := w.lines(); !slices.Equal(got, []int{2, 2}) {
			t.Errorf("with a warning: %v lines", got)
		}
		log.Info("five")
		all.Flush()
		if got := w.lines(); !slices.Equal(got, []int{2, 2, 1}) {
			t.Errorf("at the end: %v lines", got)
		}
		<-time.After(time.Second)
		log.Info(strings.Repeat("x", logSize))
		if got := w.lines(); !slices.Equal(got, []int{2, 2, 1, 1}) {
			t.Errorf("with much: %v lines", got)
		}
	})
}
