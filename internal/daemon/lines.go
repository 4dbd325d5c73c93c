package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Bounds on what the log keeps back.
const (
	logFor  = 100 * time.Millisecond
	logSize = 32 << 10
)

// A Log gathers lines, since a write for each costs a busy relay more than
// making them. Lines are written logFor after they were logged at the latest,
// and at once with one that is a warning or worse. What is killed loses that
// much of its log, and no message. Its methods may be called from any goroutine.
type Log struct {
	to io.Writer

	mu    sync.Mutex
	lines []byte      // guarded by mu
	timer *time.Timer // guarded by mu; runs while there are lines
}

// NewLog makes a log that writes to w, and what its lines are made with. The
// last lines are written by Flush.
func NewLog(w io.Writer) (*slog.Logger, *Log) {
	l := &Log{to: w}
	l.timer = time.AfterFunc(logFor, l.Flush)
	l.timer.Stop()
	return slog.New(&logHandler{slog.NewTextHandler(l, nil), l}), l
}

// Write takes one line, or several.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		l.timer.Reset(logFor)
	}
	l.lines = append(l.lines, p...)
	if len(l.lines) >= logSize {
		l.flush()
	}
	return len(p), nil
}

// Flush writes what there is. An error to write a log can be told to nobody.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush is Flush for who holds mu.
func (l *Log) flush() {
	if len(l.lines) > 0 {
		_, _ = l.to.Write(l.lines)
		l.lines = l.lines[:0]
	}
	l.timer.Stop()
}

// A logHandler makes lines for a Log.
type logHandler struct {
	slog.Handler
	log *Log
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.log.Flush()
	}
	return err
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs), h.log}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.log}
}
