package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"example.edu/gatepost/internal/register/review"
)

// A progress shows on a terminal how far a long run has come, from a second
// on. On anything that is not a terminal it shows nothing.
type progress struct{ review.Counter }

// progressAfter is how long a command is silent; then it says what it does.
const progressAfter = time.Second

// startProgress begins to show what ("checking", "files") on w if it is a
// terminal. stop wipes the line and returns when nothing will be written any
// more; it may be called twice.
func startProgress(ctx context.Context, w io.Writer, verb, noun string) (p *progress, stop func()) {
	p = &progress{}
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return p, func() {}
	}
	return p, p.show(ctx, w, verb, noun)
}

func (p *progress) show(ctx context.Context, w io.Writer, verb, noun string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		ticker := time.NewTicker(progressAfter)
		defer ticker.Stop()
		const toStart = "\r\x1b[K"
		drawn := false
		for {
			select {
			case <-ctx.Done():
				if drawn {
					fmt.Fprint(w, toStart)
				}
				return
			case <-ticker.C:
				drawn = true
				if total := p.Total.Load(); total > 0 {
					fmt.Fprintf(w, "%s%s %s of %s %s", toStart, verb, thousands(int(p.Done.Load())), thousands(int(total)), noun)
				} else {
					fmt.Fprintf(w, "%s%s …", toStart, verb)
				}
			}
		}
	})
	return func() { cancel(); shown.Wait() }
}
