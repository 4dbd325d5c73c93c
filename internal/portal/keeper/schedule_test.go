package keeper

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/register/forge"
)

// counted is a forge that says when it was asked for news, and may fail.
type counted struct {
	*forge.Git
	mu    sync.Mutex
	began time.Time
	looks []time.Duration
	fails error
	edits int
}

func (c *counted) Recent(ctx context.Context, since time.Time) ([]forge.Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks = append(c.looks, time.Since(c.began))
	if c.fails != nil {
		return nil, c.fails
	}
	return c.Git.Recent(ctx, since)
}

func (c *counted) SetComment(ctx context.Context, n int, mark, body string) error {
	c.mu.Lock()
	c.edits++
	c.mu.Unlock()
	return c.Git.SetComment(ctx, n, mark, body)
}

// TestTheSchedule: a look with every poll and every wake, relays' news within two
// seconds, failures told once, and an end.
func TestTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.relays.watch = make(chan struct{})
		relay := w.relays.add("relay1", "")
		r := w.propose(physics+"new.cue", request("lsa-physics", w.day(200), "141.211.13.23"))
		c := &counted{Git: w.git, began: time.Now(), fails: errors.New("the forge is down")}
		w.forge = c
		w.change = func(o *Options) {
			at := *o
			at.Forge = w.git
			o.Judge, o.Now = judging(at), time.Now
		}
		w.restart()
		w.look()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.k.Run(ctx) }()
		wait := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		looks := func() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.looks) }
		wait(65 * time.Second)
		if n := looks(); n != 3 {
			t.Errorf("%d looks in 65 s: %v", n, c.looks)
		}
		c.mu.Lock()
		c.fails = nil
		c.mu.Unlock()
		w.k.Wake()
		wait(time.Second)
		if n := looks(); n != 4 || w.comment(1) == "" {
			t.Errorf("woken: %v", c.looks)
		}
		if n := strings.Count(w.log.String(), "event=keeper.down part=forge"); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.log.String())
		}

		// Merged: the next look sees it; then a relay has it, and says so.
		merged, err := w.git.Merge(t.Context(), 1, r.Head, forge.Person{Name: "P", Email: "p@umich.edu"}, time.Now())
		w.must(err)
		w.k.Wake()
		wait(time.Second)
		edits := c.edits
		w.relays.mu.Lock()
		relay.Register.Commit = merged
		news := w.relays.watch
		w.relays.watch = make(chan struct{})
		w.relays.mu.Unlock()
		close(news)
		before := looks()
		wait(2 * time.Second)
		if !strings.Contains(w.comment(1), "live on 1 of 1 relay") || looks() != before || c.edits != edits+1 {
			t.Errorf("%d looks, %d edits:\n%s", looks()-before, c.edits-edits, w.comment(1))
		}

		// A mail goes out at once, whatever the poll.
		w.k.owe(ctx, "k", []string{"a@umich.edu"}, "s", "b")
		synctest.Wait()
		w.post.mu.Lock()
		if len(w.post.sent) != 1 {
			t.Errorf("mails: %q", w.post.sent)
		}
		w.post.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRenewalsAreFoundAgainAfterACrash, though other files are due by then: nothing
// more is opened for the department until the first has come to its end.
func TestRenewalsAreFoundAgainAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{physics + "a.cue": request("lsa-physics", w.day(20), "141.211.13.31")})
	w.round()
	// The disk loses all that the book knows; another file has come near its end.
	w.state += "-anew"
	w.commit(map[string]string{physics + "b.cue": request("lsa-physics", w.day(21), "141.211.13.33")})
	w.restart()
	w.round()
	list, err := w.git.List(t.Context(), "")
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if b := w.get(1); b.Kind != book.KindRenewal || b.Department != "lsa-physics" {
		t.Errorf("%+v", b)
	}
	w.must(w.git.Close(t.Context(), 1))
	w.now = w.now.Add(2 * time.Hour)
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 2 {
		t.Errorf("once it is closed: %+v", list)
	}
}
