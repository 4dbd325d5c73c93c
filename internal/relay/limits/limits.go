// Package limits holds each registration to the volume that its department
// declared: so many messages an hour, so many a day.
//
// A budget fills up continuously, up to the declared number: a device that was
// silent may send an hour's worth at once, and never more than twice the
// declared number in any one hour (or day). Budgets are in memory; a restart
// fills them. What is over the budget is asked to come later, never refused.
//
// It never reads the register itself and never talks to a client.
package limits

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// sweepEvery is how often budgets that are full again, and so say nothing, are
// forgotten.
const sweepEvery = time.Hour

// Volume keeps the budgets. The zero value is ready. Its methods may be called
// from any goroutine.
type Volume struct {
	mu      sync.Mutex
	budgets map[string]*budget // by path of the registration; guarded by mu, its values too
	swept   time.Time          // guarded by mu
}

// A budget is that of one registration.
type budget struct {
	declared  registration.Volume
	hour, day *rate.Limiter
}

// Take takes one message from the budget of v's registration at now. If a
// budget is used up it takes nothing and returns false and its name in plain
// words, with the time until it has room again.
func (l *Volume) Take(v policy.Verdict, now time.Time) (limit string, ok bool) {
	if v.Registration == nil {
		return "", true // nothing was declared, so nothing is promised: the gate decides
	}
	declared := v.Registration.Volume
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	b := l.budgets[v.Registration.Path]
	switch {
	case b == nil:
		b = &budget{declared, per(declared.PerHour, time.Hour), per(declared.PerDay, 24*time.Hour)}
		l.budgets[v.Registration.Path] = b
	case b.declared != declared: // the register changed; what was used stays used
		b.declared = declared
		adjust(b.hour, now, declared.PerHour, time.Hour)
		adjust(b.day, now, declared.PerDay, 24*time.Hour)
	}
	switch {
	case b.day.TokensAt(now) < 1:
		return words(b.day, now, declared.PerDay, "day"), false
	case b.hour.TokensAt(now) < 1:
		return words(b.hour, now, declared.PerHour, "hour"), false
	}
	b.day.AllowN(now, 1)
	b.hour.AllowN(now, 1)
	return "", true
}

// per is a budget of n in each span.
func per(n int, span time.Duration) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(n)/span.Seconds()), n)
}

func adjust(l *rate.Limiter, now time.Time, n int, span time.Duration) {
	l.SetLimitAt(now, rate.Limit(float64(n)/span.Seconds()))
	l.SetBurstAt(now, n)
}

// words says which budget is used up and when there is room for a message.
func words(l *rate.Limiter, now time.Time, n int, span string) string {
	text := fmt.Sprintf("%d messages per %s", n, span)
	if r := float64(l.Limit()); r > 0 {
		wait := time.Duration((1 - l.TokensAt(now)) / r * float64(time.Second))
		text += fmt.Sprintf(", room for one in %s", max(time.Second, wait.Round(time.Second)))
	}
	return text
}

// sweep forgets what is full again, so that memory follows who sends, not who
// ever sent.
func (l *Volume) sweep(now time.Time) {
	if l.budgets == nil {
		l.budgets, l.swept = map[string]*budget{}, now
	}
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for path, b := range l.budgets {
		if b.hour.TokensAt(now) >= float64(b.declared.PerHour) && b.day.TokensAt(now) >= float64(b.declared.PerDay) {
			delete(l.budgets, path)
		}
	}
}
