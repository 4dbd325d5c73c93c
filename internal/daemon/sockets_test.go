package daemon

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/config"
)

// A bound is a listener that is asked for its address only.
type bound struct {
	net.Listener
	addr net.Addr
}

func (b bound) Addr() net.Addr { return b.addr }

func socket(name, addr string) Socket {
	if strings.HasPrefix(addr, "/") {
		return Socket{name, bound{addr: &net.UnixAddr{Name: addr, Net: "unix"}}}
	}
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		panic(err)
	}
	return Socket{name, bound{addr: tcp}}
}

func TestAssign(t *testing.T) {
	const unit = "gatepostd.socket"
	c := &config.Relay{
		Listen: config.Listen{
			Relay: []string{":25", "192.0.2.1:2525", "[2001:db8::1]:26"}, Submission: []string{"0.0.0.0:587"},
			HTTP: "127.0.0.1:9587", Socket: "/run/gatepost/s", Portal: &config.ListenPortal{Address: ":9589"},
		},
		Register: config.Register{Webhook: &config.Webhook{Listen: "localhost:9588"}},
	}
	tests := []struct {
		name    string
		sockets []Socket
		parts   string
		left    string
		err     string
	}{
		{name: "none", left: "socket http portal webhook relay relay relay submission"},
		{name: "by address", sockets: []Socket{
			socket(unit, "[::]:25"), socket(unit, "[::]:587"), socket(unit, "127.0.0.1:9587"), socket(unit, "/run/gatepost/s"),
			socket(unit, "192.0.2.1:2525"), socket("", "[2001:db8::1]:26"), socket("unknown", "127.0.0.1:9588"), socket("", "[::]:9589"),
		}, parts: "relay submission http socket relay relay webhook portal"},
		{name: "some, mapped", sockets: []Socket{socket(unit, "[::ffff:192.0.2.1]:2525")}, parts: "relay", left: "socket http portal webhook relay relay submission"},
		{name: "by name, whatever the address", sockets: []Socket{socket("relay", "192.0.2.9:1"), socket("relay", "192.0.2.9:2"), socket("http", "192.0.2.9:3"), socket("socket", "/run/other")},
			parts: "relay relay http socket", left: "portal webhook submission"},
		{name: "another port", sockets: []Socket{socket(unit, "[::]:26")}, err: "a socket was passed for [::]:26, and"},
		{name: "another address", sockets: []Socket{socket(unit, "127.0.0.1:25")}, err: "127.0.0.1:25, and"},
		{name: "another socket", sockets: []Socket{socket(unit, "/run/gatepost/other")}, err: "/run/gatepost/other, and"},
		{name: "twice", sockets: []Socket{socket(unit, "[::]:25"), socket(unit, "[::]:25")}, err: "[::]:25, and"},
		{name: "a name twice", sockets: []Socket{socket("http", "[::]:1"), socket("http", "[::]:2")}, err: "two sockets named http"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			parts, left, err := assign(test.sockets, wants(c))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			var names []string
			for _, w := range left {
				names = append(names, w.part)
			}
			if err != nil || !slices.Equal(parts, strings.Fields(test.parts)) || !slices.Equal(names, strings.Fields(test.left)) {
				t.Errorf("parts %v, left %v, %v", parts, names, err)
			}
		})
	}
}

// TestPassedIsForThisProcess: what is meant for another process, or makes no
// sense, touches no descriptor.
func TestPassedIsForThisProcess(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	for _, test := range []struct {
		pid, fds string
		err      bool
	}{
		{"", "", false}, {"", "2", false}, {fmt.Sprint(os.Getppid()), "2", false}, {self, "0", false},
		{self, "", true}, {self, "-1", true}, {self, "257", true}, {self, "two", true},
	} {
		env := map[string]string{"LISTEN_PID": test.pid, "LISTEN_FDS": test.fds}
		got, err := Passed(func(name string) string { return env[name] })
		if len(got) > 0 || (err != nil) != test.err {
			t.Errorf("%v: %v, %v", env, got, err)
		}
	}
}
