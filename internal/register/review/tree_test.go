package review

import (
	"fmt"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// What the relay would not take over for its size does not pass check either.
func TestTheRegisterAsAWholeIsBounded(t *testing.T) {
	full := make([]byte, registration.MaxFile)
	read := func(gitsync.Entry, int64) ([]byte, error) { return full, nil }
	var entries []gitsync.Entry
	for i := range registration.MaxRegister / registration.MaxFile {
		entries = append(entries, gitsync.Entry{Path: fmt.Sprintf("registrations/its/%d.cue", i)})
	}
	if sources, err := Sources(entries, read); err != nil || len(sources) != len(entries) {
		t.Errorf("%d files: %v", len(sources), err)
	}
	entries = append(entries, gitsync.Entry{Path: "registrations/its/more.cue"})
	if _, err := Sources(entries, read); err == nil || !strings.Contains(err.Error(), "256 MiB together") {
		t.Errorf("one file more: %v", err)
	}
}
