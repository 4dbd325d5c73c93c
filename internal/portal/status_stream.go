package portal

import (
	"io"
	"net/http"
	"strings"

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
	for line := range strings.Lines(data) {
		b.WriteString("data: " + strings.TrimRight(line, "\r\n") + "\n")
	}
	b.WriteString("\n")
	return b.String()
}
