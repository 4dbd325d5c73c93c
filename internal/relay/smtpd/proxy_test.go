package smtpd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/register/policy"
)

const balancer = "127.0.0.1"

// behind lists the balancer.
func behind(o *Options) { o.Balancers = []netip.Prefix{netip.MustParsePrefix(balancer + "/32")} }

// header2 is a header of version 2.
func header2(command, family byte, rest ...byte) string {
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(rest)))
	return string(append(h, rest...))
}

// tcp4 is the addresses of a header of version 2, and something behind them.
func tcp4(from string, more ...byte) []byte {
	a := netip.MustParseAddr(from).As4()
	return append(append(append(a[:], 127, 0, 0, 1), 0x30, 0x39, 0, 25), more...)
}

func tcp6(from string) []byte {
	a, to := netip.MustParseAddr(from).As16(), netip.IPv6Loopback().As16()
	return append(append(a[:], to[:]...), 0x30, 0x39, 0, 25)
}

// headers are what balancers write, and the address that each means; "": none.
var headers = []struct{ name, header, addr string }{
	{"v1", "PROXY TCP4 127.0.0.2 127.0.0.1 12345 25\r\n", "127.0.0.2"},
	{"v1, IPv6", "PROXY TCP6 2607:f018:1:13::22 ::1 65535 0\r\n", "2607:f018:1:13::22"},
	{"v1, the longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	{"v1, IPv4 in IPv6", "PROXY TCP6 ::ffff:127.0.0.2 ::1 1 25\r\n", "127.0.0.2"},
	{"v1, unknown", "PROXY UNKNOWN\r\n", ""},
	{"v1, unknown and more", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
	{"v2", header2(0x21, 0x11, tcp4("127.0.0.2")...), "127.0.0.2"},
	{"v2, IPv6", header2(0x21, 0x21, tcp6("2607:f018:1:13::22")...), "2607:f018:1:13::22"},
	{"v2, IPv4 in IPv6", header2(0x21, 0x21, tcp6("::ffff:127.0.0.2")...), "127.0.0.2"},
	{"v2, with TLVs", header2(0x21, 0x11, tcp4("127.0.0.2", 0x04, 0, 1, 'x')...), "127.0.0.2"},
	{"v2, as long as it may be", header2(0x21, 0x11, tcp4("127.0.0.2", make([]byte, proxyV2Rest-12)...)...), "127.0.0.2"},
	{"v2, local", header2(0x20, 0), ""},
	{"v2, local with addresses", header2(0x20, 0x11, tcp4("127.0.0.2")...), ""},
	{"v2, unspecified", header2(0x21, 0), ""},
	{"v2, UDP", header2(0x21, 0x12, tcp4("127.0.0.2")...), ""},
	{"v2, unix", header2(0x21, 0x31, make([]byte, 216)...), ""},
}

// noHeaders are what no balancer writes.
var noHeaders = []struct{ name, header string }{
	{"SMTP", "EHLO mfp1.example.edu\r\n"},
	{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n"},
	{"lower case", "proxy TCP4 127.0.0.2 127.0.0.1 1 25\r\n"},
	{"v1, no line", "PROXY TCP4 127.0.0.2 127.0.0.1 1 25" + strings.Repeat(" ", 100)},
	{"v1, too long", "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n"},
	{"v1, bare LF", "PROXY TCP4 127.0.0.2 127.0.0.1 1 25\n"},
	{"v1, no address", "PROXY TCP4 mfp1 127.0.0.1 1 25\r\n"},
	{"v1, of the other family", "PROXY TCP4 2607:f018::1 ::1 1 25\r\n"},
	{"v1, of the other family too", "PROXY TCP6 127.0.0.2 ::1 1 25\r\n"},
	{"v1, zone", "PROXY TCP6 fe80::1%eth0 ::1 1 25\r\n"},
	{"v1, leading zero", "PROXY TCP4 127.0.0.02 127.0.0.1 1 25\r\n"},
	{"v1, no port", "PROXY TCP4 127.0.0.2 127.0.0.1 65536 25\r\n"},
	{"v1, port with a zero", "PROXY TCP4 127.0.0.2 127.0.0.1 01 25\r\n"},
	{"v1, port with a sign", "PROXY TCP4 127.0.0.2 127.0.0.1 +1 25\r\n"},
	{"v1, too few", "PROXY TCP4 127.0.0.2 127.0.0.1 1\r\n"},
	{"v1, too many", "PROXY TCP4 127.0.0.2 127.0.0.1 1 25 x\r\n"},
	{"v1, two blanks", "PROXY TCP4  127.0.0.2 127.0.0.1 1 25\r\n"},
	{"v1, UDP", "PROXY UDP4 127.0.0.2 127.0.0.1 1 25\r\n"},
	{"v1, unknown in part", "PROXY UNKNOWNS\r\n"},
	{"v2, version 1", header2(0x11, 0x11, tcp4("127.0.0.2")...)},
	{"v2, another command", header2(0x22, 0x11, tcp4("127.0.0.2")...)},
	{"v2, short addresses", header2(0x21, 0x11, tcp4("127.0.0.2")[:11]...)},
	{"v2, short addresses of IPv6", header2(0x21, 0x21, tcp4("127.0.0.2")...)},
	{"v2, too long", header2(0x21, 0x11, make([]byte, proxyV2Rest+1)...)},
	{"v2, cut", header2(0x21, 0x11, tcp4("127.0.0.2")...)[:20]},
	{"nothing", ""},
}

func TestProxyHeaders(t *testing.T) {
	for _, tt := range headers {
		for how, r := range map[string]io.Reader{
			"at once": strings.NewReader(tt.header + "EHLO"), "octet by octet": iotest.OneByteReader(strings.NewReader(tt.header + "EHLO"))} {
			addr, err := readProxy(r)
			if err != nil || addr.IsValid() != (tt.addr != "") || addr.IsValid() && addr.String() != tt.addr {
				t.Errorf("%s, %s: %s, %v", tt.name, how, addr, err)
			}
			if left, _ := io.ReadAll(r); string(left) != "EHLO" {
				t.Errorf("%s, %s: %q is left", tt.name, how, left)
			}
		}
	}
	for _, tt := range noHeaders {
		if addr, err := readProxy(strings.NewReader(tt.header)); err == nil {
			t.Errorf("%s: read as %s", tt.name, addr)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.header))
	}
	for _, tt := range noHeaders {
		f.Add([]byte(tt.header))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		addr, err := readProxy(in)
		if read := len(data) - in.Len(); read > proxyV2+proxyV2Rest {
			t.Fatalf("%d octets were read", read)
		}
		if err != nil {
			return
		}
		if addr.Zone() != "" || addr.Is4In6() {
			t.Fatalf("%q is read as %s", data, addr)
		}
		if again, err := readProxy(iotest.OneByteReader(bytes.NewReader(data))); err != nil || again != addr {
			t.Fatalf("%q: %s at once, %s octet by octet, %v", data, addr, again, err)
		}
	})
}

// What the balancer says is who is looked up, counted, logged and written down.
func TestTheClientBehindABalancer(t *testing.T) {
	f := start(t, Limits{SessionsPerAddress: 2, Refusal: time.Second}, behind)
	for _, header := range []string{"PROXY TCP4 127.0.0.3 127.0.0.1 12345 25\r\n", header2(0x21, 0x11, tcp4("127.0.0.3")...)} {
		c := f.dial(t, balancer, relayPort)
		c.send(header)
		c.begin()
		c.send("Subject: x\n\nfixed for 127.0.0.3 alone\r\n.\r\n")
		c.want("250 2.0.0")
		all := f.store.all()
		if got := all[len(all)-1]; got.env.Client.String() != "127.0.0.3" || !strings.Contains(got.body, "[127.0.0.3]") {
			t.Errorf("stored of %s: %s", got.env.Client, got.body)
		}
		if log := f.log.String(); !strings.Contains(log, "event=smtp.accepted") || !strings.Contains(log, "proxy=127.0.0.1") || !strings.Contains(log, "client=127.0.0.3") {
			t.Errorf("logged: %s", log)
		}
	}
	// Two sessions of one address are open: the third is too many, and one of another is not.
	c := f.dial(t, balancer, relayPort)
	c.send("PROXY TCP4 127.0.0.3 127.0.0.1 1 25\r\n")
	c.want("421 4.7.0 too many connections at once from 127.0.0.3")
	for from, want := range map[string]string{
		"127.0.0.2": "220 ", "127.0.0.6": "220 ", "127.0.0.4": "554 5.7.1 127.0.0.4 is blocked", "127.0.0.5": "554 5.7.1 127.0.0.5 is not an address",
		"127.0.0.8": "421 4.3.2 the relay has no register",
	} {
		c := f.dial(t, balancer, relayPort)
		c.send("PROXY TCP4 " + from + " 127.0.0.1 1 25\r\n")
		c.want(want)
	}
	if log := f.log.String(); !strings.Contains(log, "event=smtp.refused client=127.0.0.4") && !strings.Contains(log, "proxy=127.0.0.1 event=smtp.refused client=127.0.0.4") {
		t.Errorf("logged: %s", log)
	}
	// What is pipelined behind the header is the client's.
	c = f.dial(t, balancer, relayPort)
	c.send("PROXY TCP4 127.0.0.2 127.0.0.1 1 25\r\nEHLO x\r\nNOOP\r\n")
	c.want("220")
	c.want("250")
	c.want("250 2.0.0")
}

// Whoever is not listed cannot pass for somebody else: a header is no SMTP.
func TestSpoofedProxyHeadersAreSyntaxErrors(t *testing.T) {
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, quick, behind)
			c := f.dial(t, "127.0.0.6", relayPort)
			c.send(tt.header)
			c.want("220 ")
			c.want("500 5.5.2")
			if !strings.HasPrefix(tt.header, "PROXY") {
				return // a QUIT is in it
			}
			c.do("EHLO x", "250")
			c.do("MAIL FROM:<a@example.edu>", "250")
			c.do("RCPT TO:<b@example.org>", "550 5.7.1 127.0.0.6 is not registered")
		})
	}
}

func TestABalancerWithoutAHeader(t *testing.T) {
	for _, tt := range noHeaders {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, Limits{Proxy: 100 * time.Millisecond, Refusal: time.Second}, behind)
			c := f.dial(t, balancer, relayPort)
			text := tt.header + "EHLO x\r\nMAIL FROM:<a@example.edu>\r\n"
			if tt.name == "v2, cut" || tt.name == "nothing" { // and then nothing, until the deadline
				text = tt.header
			}
			_ = c.trySend(text)
			c.want("421 4.3.5 the load balancer in front of this relay did not say which machine is calling; write to postmaster@example.edu")
			c.wantClosed()
			if log := f.log.String(); !strings.Contains(log, "event=smtp.proxy_failed proxy=127.0.0.1 err=") || len(f.told.all()) != 0 {
				t.Errorf("logged %s, told %q", log, f.told.all())
			}
		})
	}
}

// A check that opens a connection and closes it is no failure to be told of.
func TestChecksThatSayNothing(t *testing.T) {
	f := start(t, quick, behind)
	for range 3 {
		c := f.dial(t, balancer, relayPort)
		_ = c.nc.(*net.TCPConn).CloseWrite()
		c.wantClosed()
	}
	if n := testutil.ToFloat64(f.srv.metrics.connections.WithLabelValues("relay", "check")); n != 3 || f.log.String() != "" {
		t.Errorf("%v checks are counted; log: %s", n, f.log.String())
	}
}

// A balancer's own check gets a greeting and can do nothing else, even where the
// register has the balancer's address; and no crowd of strangers shuts it out.
func TestHealthChecksMayNotSend(t *testing.T) {
	budget := plenty()
	budget.most.Sessions = 1
	f := start(t, Limits{Sessions: 4, Refusal: time.Second}, behind, func(o *Options) { o.Limiter = budget })
	f.dial(t, "127.0.0.6", relayPort).want("220") // the strangers' quarter is full, and their budget used up
	f.dial(t, "127.0.0.7", relayPort).want("421")
	for _, header := range []string{"PROXY UNKNOWN\r\n", "PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n", header2(0x20, 0), header2(0x21, 0x31, make([]byte, 216)...)} {
		c := f.dial(t, balancer, relayPort)
		c.send(header)
		c.want("220 ")
		c.do("EHLO haproxy", "250")
		c.do("MAIL FROM:<a@example.edu>", "550 5.7.1 the load balancer 127.0.0.1 says that it speaks for nobody")
		c.do("RCPT TO:<b@example.org>", "503")
		c.do("DATA", "503")
		c.send("BDAT 4 LAST\r\nabcd")
		c.want("503")
		c.do("QUIT", "221")
		c.wantClosed()
	}
	for standing, want := range map[policy.Standing]string{policy.OffCampus: "220 ", policy.Blocked: "220 ", policy.NoRegister: "421 4.3.2"} {
		f.campus.set(balancer, standing)
		c := f.dial(t, balancer, relayPort)
		c.send("PROXY UNKNOWN\r\n")
		c.want(want)
	}
	if len(f.store.all()) != 0 || len(f.told.all()) != 1 {
		t.Errorf("stored %d, told %q", len(f.store.all()), f.told.all())
	}
}

func TestASlowHeaderHoldsUpNobody(t *testing.T) {
	inBubble(t, Limits{Refusal: time.Second}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		slow, _ := dial(balancer)
		began := time.Now()
		slow.send("PROXY TCP4 127.")
		other, _ := dial(strictClient)
		other.want("220")
		pass(3 * time.Second)
		slow.send("0.0.2 ") // progress buys no time
		slow.want("421 4.3.5")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %s", took)
		}
		silent, _ := dial(balancer)
		synctest.Wait()
		began = time.Now()
		f.cancel() // a drain waits for no header
		silent.want("421 4.3.5")
		other.want("421 4.3.2")
		f.served.Wait()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the drain took %s", took)
		}
	}, behind)
}

// HAProxy itself, with both versions and its health checks.
func TestHAProxy(t *testing.T) {
	needs(t, "haproxy")
	for _, version := range []string{"send-proxy", "send-proxy-v2"} {
		t.Run(version, func(t *testing.T) {
			f := start(t, quick, behind)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			front := l.Addr().String()
			_ = l.Close()
			config := filepath.Join(t.TempDir(), "haproxy.cfg")
			text := fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"+
				"listen smtp\n bind %s\n option smtpchk HELO balancer.example.edu\n server relay %s %s check check-send-proxy inter 100ms\n", front, f.addr[relayPort], version)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var said lockedBuffer
			cmd := exec.Command("haproxy", "-db", "-f", config)
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			timeout := time.After(10 * time.Second)
			for tick := time.NewTicker(50 * time.Millisecond); testutil.ToFloat64(f.srv.metrics.connections.WithLabelValues("relay", "check")) < 3; {
				select {
				case <-tick.C:
				case <-timeout:
					t.Fatal(said.String(), f.log.String())
				}
			}
			f.addr[relayPort] = front
			c := f.dial(t, strictClient, relayPort)
			c.begin()
			c.send("Subject: x\r\n\r\nthrough HAProxy\r\n.\r\n")
			c.want("250 2.0.0")
			c.do("QUIT", "221")
			f.dial(t, "127.0.0.4", relayPort).want("554 5.7.1 127.0.0.4 is blocked")
			if got := f.store.all(); len(got) != 1 || got[0].env.Client.String() != strictClient {
				t.Errorf("stored %+v", got)
			}
			if log := f.log.String() + said.String(); strings.Contains(log, "proxy_failed") || strings.Contains(log, "is DOWN") {
				t.Error(log)
			}
		})
	}
}
