package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// Each result of each attempt is told once, with the entry that it is of.
func TestResultsAreTold(t *testing.T) {
	var told []string // by one worker at a time: there is one message
	o := Options{Result: func(e *spool.Entry, r mail.Result) {
		told = append(told, fmt.Sprint(e.Envelope.Registration, " ", r.Outcome))
	}}
	bubble(t, o, func(b *bench) {
		b.send("r", "good@one.example", "bad@one.example", "late@one.example")
		pass(6 * time.Minute)
		slices.Sort(told)
		want := []string{"r deferred", "r deferred", "r delivered", "r failed"}
		got := slices.DeleteFunc(slices.Clone(told), func(s string) bool { return s[0] == ' ' }) // the DSN's own
		if !slices.Equal(got, want) {
			t.Errorf("told %q", got)
		}
	})
}
