package guard

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// An answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	status int   // 0: nothing yet
	octets int64 // of the body
	stream bool
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.stream { // whoever does not read holds the place of another
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(streamPatience))
	}
	n, err := a.ResponseWriter.Write(b)
	a.octets += int64(n)
	return n, err
}

// Flush sends what is written, for streams.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack is not offered: a connection out of the guard's sight has no bounds.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }
