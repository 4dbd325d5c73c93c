package daemon_test

import (
	"bytes"
	"strings"
	"sync"
)

// maxLog is what is kept of a process's output: the end of it.
const maxLog = 16 << 20

// lockedBuffer collects a process's output.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > maxLog {
		b.buf.Next(maxLog / 2)
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) tail(lines int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Split(b.buf.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
