package guard

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// The deadlines of a connection.
const (
	headerPatience = 10 * time.Second
	bodyPatience   = 30 * time.Second
	idlePatience   = 60 * time.Second
	maxHeader      = 32 << 10 // octets of all header fields
)

// Listen bounds the connections of a listener, and gives no more than a quarter
// of them to one address, unless it is a web server in front.
func (g *Guard) Listen(ln net.Listener) net.Listener {
	most := g.o.Limits.Connections
	return netutil.LimitListener(&crowd{Listener: ln, g: g, most: max(1, most/4), open: map[netip.Addr]int{}}, most)
}

// A crowd counts the connections of each address. One too many is closed at
// once.
type crowd struct {
	net.Listener
	g    *Guard
	most int

	mu   sync.Mutex
	open map[netip.Addr]int // guarded by mu
}

func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var addr netip.Addr
		if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			addr = tcp.AddrPort().Addr().Unmap().WithZone("")
		}
		if c.g.isProxy(addr) {
			return conn, nil
		}
		if addr.Is6() {
			if p, err := addr.Prefix(64); err == nil {
				addr = p.Addr()
			}
		}
		if c.enter(addr) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { c.leave(addr) })}, nil
		}
		c.g.metrics.refused.WithLabelValues("connections").Inc()
		_ = conn.Close() // its own doing
	}
}

func (c *crowd) enter(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[a] >= c.most {
		return false
	}
	c.open[a]++
	return true
}

func (c *crowd) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[a]--; c.open[a] == 0 {
		delete(c.open, a)
	}
}

// A counted connection gives its place back when it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// Server is an HTTP server for a handler, with the deadlines that every
// connection of the portal has. Hand it a listener that went through Listen.
func (g *Guard) Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: g.Handler(handler), ReadHeaderTimeout: headerPatience, ReadTimeout: bodyPatience,
		WriteTimeout: bodyPatience + g.o.Limits.Answer, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
