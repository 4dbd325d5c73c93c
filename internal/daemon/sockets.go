package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
)

// How a service manager hands sockets over: sd_listen_fds(3).
const (
	firstSocket = 3   // the number of the first descriptor
	maxSockets  = 256 // no configuration has as many ports
)

// A Socket is a listener that a service manager holds open. It outlives the
// relay: what connects while no relay runs waits for the next one.
type Socket struct {
	// Name is what the unit calls it: relay, submission, http, portal, socket or
	// webhook say what it is for. Another one, as the unit's own that systemd
	// gives by itself, says nothing, and the address tells.
	Name     string
	Listener net.Listener
}

// Passed takes over the sockets that a service manager has passed to this
// process, by the protocol of sd_listen_fds(3); none if it passed none. getenv
// is os.Getenv. What is passed is taken whole or not at all: a socket that
// nobody answers would leave its clients waiting. It is called once, before
// anything else opens a file.
//
// The protocol is a dozen lines; the library for it passes over what is no
// listener in silence.
func Passed(getenv func(string) string) ([]Socket, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // meant for somebody else, or nothing
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("daemon: LISTEN_FDS=%q: no number of sockets up to %d", getenv("LISTEN_FDS"), maxSockets)
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var all []Socket
	for i := range n {
		fd := firstSocket + i
		syscall.CloseOnExec(fd)
		name := ""
		if len(names) == n {
			name = names[i]
		}
		f := os.NewFile(uintptr(fd), name)
		ln, err := net.FileListener(f)
		if err == nil {
			err = streaming(ln)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("daemon: the socket %q that was passed as descriptor %d: %w", name, fd, err)
		}
		all = append(all, Socket{name, ln})
	}
	return all, nil
}

// streaming is an error unless a listener is of a kind that the relay serves.
func streaming(ln net.Listener) error {
	switch ln.Addr().Network() {
	case "tcp", "unix":
		return nil
	}
	return errors.Join(fmt.Errorf("%s is no stream", ln.Addr().Network()), ln.Close())
}

// A want is one listener that the configuration names.
type want struct {
	part string // relay, submission, http, portal, socket, webhook
	addr string // as it is configured
}

// wants lists what the configuration wants opened, in the order of opening.
func wants(c *config.Relay) []want {
	all := []want{{"socket", c.Listen.Socket}}
	if c.Listen.HTTP != "" {
		all = append(all, want{"http", c.Listen.HTTP})
	}
	if p := c.Listen.Portal; p != nil {
		all = append(all, want{"portal", p.Address})
	}
	if h := c.Register.Webhook; h != nil {
		all = append(all, want{"webhook", h.Listen})
	}
	for _, addr := range c.Listen.Relay {
		all = append(all, want{"relay", addr})
	}
	for _, addr := range c.Listen.Submission {
		all = append(all, want{"submission", addr})
	}
	return all
}

// assign says which part each passed socket is for, in the order of sockets,
// and what is left to be opened. A socket that is named for a part is for that,
// whatever its address, and the addresses that the configuration gives the part
// are not opened then. Any other must have the address of one of the wants.
func assign(sockets []Socket, all []want) (parts []string, left []want, err error) {
	left = slices.Clone(all)
	named := map[string]bool{}
	for _, s := range sockets {
		if part := s.Name; slices.ContainsFunc(all, func(w want) bool { return w.part == part }) {
			if named[part] && part != "relay" && part != "submission" {
				return nil, nil, fmt.Errorf("daemon: two sockets named %s were passed", part)
			}
			named[part] = true
		}
	}
	left = slices.DeleteFunc(left, func(w want) bool { return named[w.part] })
	for _, s := range sockets {
		if named[s.Name] {
			parts = append(parts, s.Name)
			continue
		}
		i := slices.IndexFunc(left, func(w want) bool { return answers(s.Listener.Addr(), w) })
		if i < 0 {
			return nil, nil, fmt.Errorf("daemon: a socket was passed for %s, and the configuration has no such address under listen: nobody would answer there; make the .socket unit and the configuration agree", s.Listener.Addr())
		}
		parts = append(parts, left[i].part)
		left = slices.Delete(left, i, i+1)
	}
	return parts, left, nil
}

// answers reports whether a listener at addr is the one wanted. All addresses
// of the machine are written as none, 0.0.0.0 or [::].
func answers(addr net.Addr, w want) bool {
	if addr.Network() == "unix" {
		return w.part == "socket" && addr.String() == w.addr
	}
	bound, err := netip.ParseAddrPort(addr.String())
	if err != nil || w.part == "socket" {
		return false
	}
	t, err := net.ResolveTCPAddr("tcp", w.addr)
	if err != nil || t.Port != int(bound.Port()) {
		return false
	}
	ip := bound.Addr().Unmap()
	if t.IP == nil || t.IP.IsUnspecified() {
		return ip.IsUnspecified()
	}
	host, ok := netip.AddrFromSlice(t.IP)
	return ok && host.Unmap() == ip
}

// adopt takes a passed socket into use. It is closed here at the end and goes
// on listening there, in the hands of the service manager.
func (r *relay) adopt(s Socket, part string, steps *lifecycle.Steps) net.Listener {
	steps.Later("passed socket "+part, func() error { return closed(s.Listener.Close()) })
	r.log.Info("listening", "event", "relay.listen", "port", part, "address", s.Listener.Addr().String(), "passed", true)
	return s.Listener
}

// openDoors takes over what was passed and binds everything else that the
// configuration names.
func (r *relay) openDoors(ctx context.Context, c *config.Relay, sockets []Socket, s *lifecycle.Steps) (d doors, err error) {
	parts, left, err := assign(sockets, wants(c))
	if err != nil {
		return d, err
	}
	for i, socket := range sockets {
		d.add(parts[i], r.adopt(socket, parts[i], s))
	}
	for _, w := range left {
		var ln net.Listener
		if w.part == "socket" {
			ln, err = openSocket(ctx, w.addr, s)
		} else {
			ln, err = openPort(ctx, w.part, w.addr, r.log, s)
		}
		if err != nil {
			return d, err
		}
		d.add(w.part, ln)
	}
	return d, nil
}
