package portal

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/portal/view"
)

// branch is the register as the portal has it; nil: none yet.
func (s *server) branch() *view.Register {
	if s.register == nil {
		return nil
	}
	return s.register()
}

// news is closed when something about the relays is new; nil, which never is,
// where there are none.
func (s *server) news() <-chan struct{} {
	if s.fleet == nil {
		return nil
	}
	return s.fleet.Watch()
}

// ending is closed when the portal ends; nil where nobody will say.
func (s *server) ending() <-chan struct{} { return s.end }

// liveParts are the changing part of the page as it was made last: one for
// postmasters and one for others, whoever and however many they are. The zero
// value is ready.
type liveParts struct {
	mu   sync.Mutex
	made [2]struct { // guarded by mu
		at   time.Time
		text string
	}
}

// of is the part, made a second ago at most.
func (l *liveParts) of(postmaster bool, now time.Time, make func() ([]byte, error)) (string, error) {
	i := 0
	if postmaster {
		i = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.made[i]
	if age := now.Sub(m.at); m.text != "" && age >= 0 && age < time.Second {
		return m.text, nil
	}
	text, err := make()
	if err == nil {
		m.at, m.text = now, string(text)
	}
	return string(text), err
}

// A stream sends to one visitor.
type stream struct {
	w   io.Writer
	out *http.ResponseController
}

func (s *stream) send(text string) error {
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.out.Flush()
}

// event is one server-sent event: each line of its data by itself.
func event(name, data string) string {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data) // each of them ends a line there
	for line := range strings.Lines(data) {
		b.WriteString("data: " + strings.TrimSuffix(line, "\n") + "\n")
	}
	b.WriteString("\n")
	return b.String()
}
