package limits

import (
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func of(path string, perHour, perDay int) policy.Verdict {
	return policy.Verdict{Standing: policy.Registered, Registration: &registration.Registration{
		Path: path, Volume: registration.Volume{PerHour: perHour, PerDay: perDay}}}
}

// take takes n messages and returns how many went through and what was said last.
func take(l *Volume, v policy.Verdict, at time.Time, n int) (through int, said string) {
	for range n {
		if limit, ok := l.Take(v, at); ok {
			through++
		} else {
			said = limit
		}
	}
	return through, said
}

func TestHeldToTheHour(t *testing.T) {
	var l Volume
	v := of("a", 10, 1000)
	through, said := take(&l, v, noon, 15)
	if through != 10 || !strings.HasPrefix(said, "10 messages per hour, room for one in 6m0s") {
		t.Errorf("%d went through, and then: %q", through, said)
	}
	if through, _ := take(&l, v, noon.Add(30*time.Minute), 15); through != 5 {
		t.Errorf("half an hour later %d went through, want 5", through)
	}
	if through, _ := take(&l, v, noon.Add(24*time.Hour), 15); through != 10 {
		t.Errorf("a day later %d went through, want 10", through)
	}
}

func TestHeldToTheDay(t *testing.T) {
	var l Volume
	v := of("a", 10, 12)
	total := 0
	for hour := range 6 {
		through, _ := take(&l, v, noon.Add(time.Duration(hour)*time.Hour), 10)
		total += through
	}
	if total < 12 || total > 15 { // 12, and what six hours fill up again
		t.Errorf("%d messages in six hours of 12 a day", total)
	}
	if _, said := take(&l, v, noon.Add(6*time.Hour), 10); !strings.HasPrefix(said, "12 messages per day, room for one in ") {
		t.Errorf("said %q", said)
	}
}

func TestARefusedMessageCostsNothing(t *testing.T) {
	var l Volume
	v := of("a", 1, 2)
	take(&l, v, noon, 100) // 1 through, 99 over the hour
	if through, said := take(&l, v, noon.Add(time.Hour), 1); through != 1 {
		t.Errorf("the day was charged for what the hour refused: %q", said)
	}
}

func TestRegistrationsDoNotShare(t *testing.T) {
	var l Volume
	take(&l, of("a", 1, 1), noon, 5)
	if through, _ := take(&l, of("b", 1, 1), noon, 5); through != 1 {
		t.Errorf("b got %d", through)
	}
}

func TestTheRegisterChanges(t *testing.T) {
	var l Volume
	take(&l, of("a", 10, 100), noon, 10)
	if through, _ := take(&l, of("a", 20, 100), noon.Add(time.Minute), 20); through != 0 {
		t.Errorf("raising the limit gave %d messages at once: what was used must stay used", through)
	}
	if through, _ := take(&l, of("a", 20, 100), noon.Add(4*time.Minute), 20); through != 1 {
		t.Errorf("the new rate is not in force: %d", through)
	}
	if through, _ := take(&l, of("a", 2, 100), noon.Add(20*time.Hour), 20); through != 2 {
		t.Errorf("lowering the limit let %d through, want 2", through)
	}
}

func TestMemoryFollowsWhoSends(t *testing.T) {
	var l Volume
	for _, path := range []string{"a", "b", "c"} {
		take(&l, of(path, 10, 10), noon, 1)
	}
	take(&l, of("d", 10, 10), noon.Add(48*time.Hour), 1)
	if len(l.budgets) != 1 {
		t.Errorf("%d budgets are kept, want that of d only", len(l.budgets))
	}
}

func TestWithoutARegistrationNothingIsHeldBack(t *testing.T) {
	var l Volume
	if _, ok := l.Take(policy.Verdict{}, noon); !ok {
		t.Error("held back")
	}
}
