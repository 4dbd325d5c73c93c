package guard

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// server starts the rig for real.
func (r *rig) server() string {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.host, r.o.URL, r.https = ln.Addr().String(), "http://"+ln.Addr().String(), false
	srv := r.Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	srv.Handler = r.handler
	go func() { _ = srv.Serve(r.Listen(ln)) }()
	r.t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}

func TestStreams(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.Answer = time.Second })
	url := "http://" + r.server() + "/events"
	open := func() (*http.Response, string) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		_, _ = io.ReadFull(resp.Body, b)
		return resp, string(b)
	}
	r.who = "ada"
	first, text := open()
	defer first.Body.Close()
	if text != "data: 1\n" {
		t.Fatal(text)
	}
	// It outlives the deadline of other answers.
	ended := make(chan struct{})
	go func() {
		_, _ = first.Body.Read(make([]byte, 1))
		close(ended)
	}()
	after := time.NewTimer(1500 * time.Millisecond)
	defer after.Stop()
	select {
	case <-ended:
		t.Error("a stream ended as other answers do")
	case <-after.C:
	}
	second, _ := open()
	defer second.Body.Close()
	third, _ := open()
	defer third.Body.Close()
	if third.StatusCode != http.StatusTooManyRequests || third.Header.Get("Retry-After") == "" {
		t.Errorf("a third stream of one person: %d", third.StatusCode)
	}
	if got := testutil.ToFloat64(r.metrics.streams); got != 2 {
		t.Errorf("%v streams", got)
	}
	_ = second.Body.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if testutil.ToFloat64(r.metrics.streams) == 1 {
			break
		}
		<-tick.C
	}
	if fourth, _ := open(); fourth.StatusCode != 200 {
		t.Errorf("a place that came free: %d", fourth.StatusCode)
	} else {
		_ = fourth.Body.Close()
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	r := newRig(t, nil) // 16, so four of one address
	addr := r.server()
	var held []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	cut := func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return true
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(c)
		return len(answer) == 0
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	until := func(want bool) bool {
		for range 300 {
			if cut() == want {
				return true
			}
			<-tick.C
		}
		return false
	}
	if !until(true) {
		t.Error("a fifth connection of one address is served")
	}
	_ = held[0].Close()
	if !until(false) {
		t.Error("a place that came free is not given again")
	}
}
