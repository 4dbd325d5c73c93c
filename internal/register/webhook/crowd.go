package webhook

import (
	"net"
	"sync"
)

// A crowd is a listener with a bound on its open connections. Where one more
// comes, the oldest is cut. An honest delivery takes milliseconds, so the oldest
// is one that holds its place for its own sake.
type crowd struct {
	net.Listener
	most    int
	evicted func() // counts

	mu   sync.Mutex
	open []*visitor // guarded by mu; oldest first
}

// Accept takes the next connection.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn, crowd: c}
	if oldest := c.enter(v); oldest != nil {
		_ = oldest.Conn.Close() // it is not ours any more
		c.evicted()
	}
	return v, nil
}

// enter adds a connection and returns the one that has to go, if any.
func (c *crowd) enter(v *visitor) (oldest *visitor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= c.most {
		oldest, c.open = c.open[0], c.open[1:]
	}
	c.open = append(c.open, v)
	return oldest
}

func (c *crowd) leave(v *visitor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.open {
		if other == v {
			c.open = append(c.open[:i], c.open[i+1:]...)
			return
		}
	}
}

// A visitor is one connection of a crowd.
type visitor struct {
	net.Conn
	crowd *crowd
}

// Close ends the connection and makes room.
func (v *visitor) Close() error {
	v.crowd.leave(v)
	return v.Conn.Close()
}
