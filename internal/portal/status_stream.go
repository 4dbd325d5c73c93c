package portal

import (
	"errors"
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

// A crowd counts the streams that are open. The zero value is ready.
type crowd struct {
	mu  sync.Mutex
	all int            // guarded by mu
	of  map[string]int // by person; guarded by mu
}

// enter takes a place for somebody's stream, and leave gives it back; ok is
// false where there is none.
func (c *crowd) enter(person string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= streamsMost || c.of[person] >= streamsEach {
		return nil, false
	}
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.all++
	c.of[person]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
		if c.of[person]--; c.of[person] == 0 {
			delete(c.of, person)
		}
	}, true
}

// A stream sends to one visitor, who has streamWait to take each piece.
type stream struct {
	w   io.Writer
	out *http.ResponseController
}

func (s *stream) send(text string) error {
	err := s.out.SetWriteDeadline(time.Now().Add(streamWait))
	if errors.Is(err, http.ErrNotSupported) {
		err = nil // the recorder of a test
	}
	if err == nil {
		_, err = io.WriteString(s.w, text)
	}
	if err != nil {
		return err
	}
	return s.out.Flush()
}

// event is one server-sent event: each line of its data by itself.
func event(name, data string) string {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	for line := range strings.Lines(data) {
		b.WriteString("data: " + strings.TrimRight(line, "\r\n") + "\n")
	}
	b.WriteString("\n")
	return b.String()
}
