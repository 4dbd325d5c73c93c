package smtpd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/policy"
)

// A load balancer says in front of a connection for whom it speaks: the PROXY
// protocol, versions 1 and 2, as HAProxy's proxy-protocol.txt describes it. Only
// the peers that the operator lists are believed, and of them a header is
// required; what anybody else sends is never read as one.

// What a header may be, in octets.
const (
	proxyV1     = 107 // the line, CRLF included
	proxyV2     = 16  // the fixed part
	proxyV2Rest = 4 << 10
)

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// A caller is who is at the other end of a connection.
type caller struct {
	addr  netip.Addr // looked up, counted and logged, unmapped
	via   netip.Addr // the load balancer in between; zero: none
	check bool       // it is the load balancer itself, which looks whether the relay is there
}

// readProxy reads a header, and not an octet more. A balancer that speaks for
// nobody (LOCAL, UNKNOWN, a family other than TCP over IP) is the zero Addr.
func readProxy(r io.Reader) (netip.Addr, error) {
	head := make([]byte, proxyV2, proxyV1) // the shortest line has 15 octets, and a second read is cheap
	if _, err := io.ReadFull(r, head[:len(proxyV2Signature)]); err != nil {
		return netip.Addr{}, err
	}
	switch start := head[:len(proxyV2Signature)]; {
	case bytes.Equal(start, proxyV2Signature):
		if _, err := io.ReadFull(r, head[len(start):]); err != nil {
			return netip.Addr{}, err
		}
		return readProxyV2(r, head)
	case bytes.HasPrefix(start, []byte("PROXY ")):
		return readProxyV1(r, start)
	}
	return netip.Addr{}, errors.New("no PROXY header")
}

// readProxyV1 reads on to the end of a line, octet by octet, since what is
// behind it is the client's.
func readProxyV1(r io.Reader, line []byte) (netip.Addr, error) {
	for !bytes.HasSuffix(line, []byte("\n")) {
		if len(line) == proxyV1 {
			return netip.Addr{}, fmt.Errorf("a PROXY line of more than %d octets", proxyV1)
		}
		line = line[:len(line)+1]
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return netip.Addr{}, err
		}
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		return netip.Addr{}, errors.New("a PROXY line that does not end in CRLF")
	}
	f := strings.Split(text, " ")
	if f[1] == "UNKNOWN" { // the rest of the line is to be ignored
		return netip.Addr{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.Addr{}, fmt.Errorf("a PROXY line that is none: %q", text)
	}
	var addrs [2]netip.Addr
	for i := range addrs {
		a, err := netip.ParseAddr(f[2+i])
		if err != nil || a.Zone() != "" || a.Is4() != (f[1] == "TCP4") {
			return netip.Addr{}, fmt.Errorf("a PROXY line with an address that is none: %q", text)
		}
		if n, err := strconv.ParseUint(f[4+i], 10, 16); err != nil || strconv.FormatUint(n, 10) != f[4+i] {
			return netip.Addr{}, fmt.Errorf("a PROXY line with a port that is none: %q", text)
		}
		addrs[i] = a.Unmap()
	}
	return addrs[0], nil
}

// readProxyV2 reads what the fixed part says is behind it.
func readProxyV2(r io.Reader, head []byte) (netip.Addr, error) {
	command, family, size := head[12], head[13], int(binary.BigEndian.Uint16(head[14:]))
	if command != 0x20 && command != 0x21 {
		return netip.Addr{}, fmt.Errorf("a PROXY header of version and command %#02x", command)
	}
	if size > proxyV2Rest {
		return netip.Addr{}, fmt.Errorf("a PROXY header of %d octets more", size)
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.Addr{}, err
	}
	length := map[byte]int{0x11: 4, 0x21: 16}[family] // of an address; TCP over IPv4, over IPv6
	switch {
	case command == 0x20 || length == 0: // LOCAL; UNSPEC, UDP, unix
		return netip.Addr{}, nil
	case size < 2*length+4:
		return netip.Addr{}, fmt.Errorf("a PROXY header with %d octets of addresses", size)
	}
	a, _ := netip.AddrFromSlice(rest[:length])
	return a.Unmap(), nil
}

// proxied reads the header of a connection that comes from a load balancer. It
// waits, so it is no part of the accept loop.
func (g *gate) proxied(ctx context.Context, nc net.Conn, balancer netip.Addr) {
	s := g.srv
	err := nc.SetReadDeadline(time.Now().Add(s.limits.Proxy))
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) }) // a drain waits for nobody's header
	who := caller{addr: balancer, via: balancer}
	if err == nil {
		who.addr, err = readProxy(nc)
	}
	stop()
	if errors.Is(err, io.EOF) { // it has gone without a word: a check that knows of TCP alone
		s.metrics.connections.WithLabelValues(g.port.String(), "check").Inc()
		_ = nc.Close()
		return
	}
	if err != nil {
		if s.mayLog() {
			s.log.Warn("a load balancer did not say who is calling", "event", "smtp.proxy_failed", "proxy", balancer, "err", fmt.Errorf("smtpd: reading a PROXY header: %w", err))
		}
		s.metrics.connections.WithLabelValues(g.port.String(), "proxy").Inc()
		s.tally.refused.Add(1)
		g.turn(nc, s.sayNoProxy(), false)
		return
	}
	if !who.addr.IsValid() || s.balanced(who.addr) { // HAProxy names itself in checks of version 1
		who.addr, who.check = balancer, true
	}
	g.admit(ctx, nc, who)
}

// balanced reports whether a peer is a load balancer.
func (s *Server) balanced(peer netip.Addr) bool {
	for _, p := range s.balancers {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// verdict asks the register for who is calling. A load balancer that looks
// whether the relay is there may talk and not send, whatever the register says
// of its own address; one that finds no register yet had better send nobody.
func (s *Server) verdict(who caller) policy.Verdict {
	v := s.register.Lookup(who.addr, s.now())
	v.Addr = who.addr
	if who.check && v.Standing != policy.NoRegister {
		v = policy.Verdict{Addr: who.addr, Standing: policy.Unregistered, Commit: v.Commit}
	}
	return v
}

// logger is the log for one connection; it names the load balancer, if there is
// one, on each line.
func (s *Server) logger(who caller) *slog.Logger {
	if who.via.IsValid() {
		return s.log.With("proxy", who.via)
	}
	return s.log
}
