package cli

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressIsSilentForASecondAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		p := &progress{}
		stop := p.show(t.Context(), &screen, "checking", "files")
		p.Total.Store(4000)
		p.Done.Store(10)
		advance(progressAfter - time.Millisecond)
		if screen.Len() > 0 {
			t.Errorf("within a second: %q", screen.String())
		}
		p.Done.Store(1234)
		advance(2 * time.Millisecond)
		if got := screen.String(); !strings.HasSuffix(got, "checking 1,234 of 4,000 files") {
			t.Errorf("after a second: %q", got)
		}
		stop()
		stop()
		if got := screen.String(); !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("the line is not wiped: %q", got)
		}
	})
}

func TestProgressOfAShortRunWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		stop := new(progress).show(t.Context(), &screen, "checking", "files")
		advance(progressAfter / 2)
		stop()
		if screen.Len() > 0 {
			t.Errorf("wrote %q", screen.String())
		}
	})
}

// advance lets the bubble's clock run and the goroutines in it come to rest.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestProgressIsForTerminals(t *testing.T) {
	var file bytes.Buffer
	_, stop := startProgress(t.Context(), &file, "checking", "files")
	stop()
	if file.Len() > 0 {
		t.Errorf("wrote %q", file.String())
	}
}
