package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A realSink is a complete SMTP server that keeps what it gets.
type realSink struct {
	mu  sync.Mutex
	got []string // recipients and body
}

func (r *realSink) NewSession(*smtp.Conn) (smtp.Session, error) { return &realSession{sink: r}, nil }

type realSession struct {
	sink *realSink
	to   []string
}

func (s *realSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *realSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "r3@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
	}
	s.to = append(s.to, to)
	return nil
}
func (s *realSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.got = append(s.sink.got, strings.Join(s.to, " ")+"\n"+string(b))
	return nil
}
func (s *realSession) Reset()        { s.to = nil }
func (s *realSession) Logout() error { return nil }

func startServer(t *testing.T, config *tls.Config) (*realSink, string) {
	t.Helper()
	sink := &realSink{}
	server := smtp.NewServer(sink)
	server.Domain, server.TLSConfig, server.MaxLineLength = "sink", config, 4000
	server.EnableSMTPUTF8, server.EnableDSN = true, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		done.Wait()
	})
	return sink, l.Addr().String()
}

func TestContentArrivesAtARealServer(t *testing.T) {
	encrypted, _ := certificate(t, "sink")
	for name, config := range map[string]*tls.Config{"clear": nil, "TLS": encrypted, "clear, by DATA": nil} {
		t.Run(name, func(t *testing.T) {
			sink, addr := startServer(t, config)
			courier := newCourier(t, Options{Smarthosts: []string{addr}, NoChunking: strings.HasSuffix(name, "DATA")})
			r := rand.New(rand.NewPCG(1, 2))
			for i, size := range []int{0, 100, 40_000, 300_000} {
				body := randomBody(r, size)
				e := entry(5)
				e.Size = int64(len(body))
				got := courier.Deliver(t.Context(), e, bodyOf(body), []int{4, 3, 0})
				if outcomes(got) != "delivered failed delivered" {
					t.Fatalf("%+v", got)
				}
				if (got[0].TLS != "") != (config != nil) {
					t.Errorf("TLS %q", got[0].TLS)
				}
				if want := "r4@example.org r0@example.org\n" + body; sink.got[i] != want {
					t.Errorf("message %d of %d octets came as %d", i, len(want), len(sink.got[i]))
				}
			}
		})
	}
}

func TestManyRecipientsInOneTransaction(t *testing.T) {
	const n = 3*flight + 7
	sink, addr := startServer(t, nil)
	e := entry(n)
	got := newCourier(t, Options{Smarthosts: []string{addr}}).Deliver(t.Context(), e, bodyOf(content), indexes(n))
	delivered := 0
	for i, r := range got {
		if (r.Outcome == mail.Failed) != (i%10 == 3) {
			t.Fatalf("recipient %d: %+v", i, r)
		}
		if r.Outcome == mail.Delivered {
			delivered++
		}
	}
	if len(sink.got) != 1 || strings.Count(sink.got[0], "@example.org") != delivered {
		t.Errorf("%d messages", len(sink.got))
	}
}

func TestParallelAttempts(t *testing.T) {
	sink, addr := startServer(t, nil)
	courier := newCourier(t, Options{Smarthosts: []string{addr}, Reuse: Reuse{Messages: 3, PerDestination: 2}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if got := courier.Deliver(context.Background(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
	all.Wait()
	if len(sink.got) != 80 {
		t.Errorf("%d messages", len(sink.got))
	}
}

// TestSMTPSink sends to the sink of Postfix, which shares no code with us.
func TestSMTPSink(t *testing.T) {
	program, err := exec.LookPath("smtp-sink")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/smtp-sink"); err != nil {
			t.Skip("smtp-sink is not installed")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"takes all", nil, "delivered"},
		{"no PIPELINING", []string{"-p"}, "delivered"},
		{"no ESMTP", []string{"-e"}, "delivered"},
		{"hard error at MAIL", []string{"-f", "mail"}, "failed"},
		{"hard error at RCPT", []string{"-f", "rcpt"}, "failed"},
		{"hard error at DATA", []string{"-f", "data"}, "failed"},
		{"hard error at the dot", []string{"-f", "."}, "failed"},
		{"soft error at MAIL", []string{"-r", "mail"}, "deferred"},
		{"soft error at RCPT", []string{"-r", "rcpt"}, "deferred"},
		{"soft error at DATA", []string{"-r", "data"}, "deferred"},
		{"soft error at the dot", []string{"-r", "."}, "deferred"},
		{"hangs up at MAIL", []string{"-q", "mail"}, "deferred"},
		{"hangs up at RCPT", []string{"-q", "rcpt"}, "deferred"},
		{"hangs up at DATA", []string{"-q", "data"}, "deferred"},
		{"hangs up at the dot", []string{"-q", "."}, "deferred"},
		{"421 at RCPT", []string{"-Q", "rcpt"}, "deferred"},
		{"421 at the dot", []string{"-Q", "."}, "deferred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dump := filepath.Join(t.TempDir(), "dump")
			args := append(c.args, "-D", dump)
			if os.Getuid() == 0 {
				args = append(args, "-u", "root")
			}
			runSink(t, program, append(args, addr, "10"), addr)
			body := randomBody(rand.New(rand.NewPCG(3, 4)), 50_000)
			got := newCourier(t, Options{Smarthosts: []string{addr}, Reuse: Reuse{Messages: 1}}).Deliver(t.Context(), entry(1), bodyOf(body), indexes(1))
			if outcomes(got) != c.want {
				t.Errorf("%+v", got)
			}
			if c.want == "delivered" {
				kept, err := os.ReadFile(dump)
				if err != nil || !bytes.Contains(kept, []byte(strings.ReplaceAll(body, "\r\n", "\n"))) {
					t.Errorf("it kept %d octets of %d: %v", len(kept), len(body), err)
				}
			}
		})
	}
}

// runSink starts a program and waits until it listens.
func runSink(t *testing.T, program string, args []string, addr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s %q ended: %s", program, args, out.String())
		case <-limit.C:
			t.Fatalf("%s does not listen", program)
		case <-tick.C:
		}
	}
}

func TestOneLineAnAttempt(t *testing.T) {
	var log bytes.Buffer
	s := newSink(t, stepwise+"C MAIL\nS 250 ok\nC RCPT\nS 250 ok\nC RCPT\nS 550 5.1.1 no\nC DATA\nS 354 go\nB\nS 250 ok\nC QUIT")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}, Reuse: Reuse{Messages: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	courier.Deliver(t.Context(), entry(2), bodyOf(content), indexes(2))
	for _, want := range []string{"id=01TEST", "destination=smarthosts", "next_hop=[127.0.0.1]", "delivered=1", "deferred=0", "failed=1", "status=\"550 5.1.1 no\"", "duration=", "event=deliver.attempt"} {
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), want) {
			t.Errorf("no %s in %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "hello") {
		t.Error("the body is in the log")
	}
	log.Reset()
	s = newSink(t, stepwise+oneMore+"W")
	newCourier(t, Options{Smarthosts: []string{s.addr()}, Logger: slog.New(slog.NewTextHandler(&log, nil))}).
		Deliver(t.Context(), entry(1), bodyOf(content), indexes(1))
	if log.Len() > 0 {
		t.Errorf("an attempt that went well is logged: %s", log.String())
	}
}

func TestBodyThatCannotBeOpened(t *testing.T) {
	s := newSink(t, stepwise+oneMore+"W")
	courier := newCourier(t, Options{Smarthosts: []string{s.addr()}})
	broken := func() (io.ReadCloser, error) { return nil, errors.New("disk gone") }
	if got := courier.Deliver(t.Context(), entry(1), broken, indexes(1)); outcomes(got) != "deferred" || got[0].Status.Enhanced.String() != "4.3.0" {
		t.Errorf("%+v", got)
	}
	// The peer did nothing wrong: its connection is still good.
	if got := courier.Deliver(t.Context(), entry(1), bodyOf(content), indexes(1)); outcomes(got) != "delivered" {
		t.Errorf("%+v", got)
	}
}

func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		size int
		data bool // by DATA, not by BDAT
	}{{4 << 10, true}, {4 << 10, false}, {200 << 10, true}, {200 << 10, false}, {8 << 20, true}, {8 << 20, false}} {
		name := "BDAT"
		if c.data {
			name = "DATA"
		}
		size := c.size
		b.Run(name+"/"+strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			sink := discard{}
			server := smtp.NewServer(sink)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			var done sync.WaitGroup
			done.Go(func() { _ = server.Serve(l) })
			defer done.Wait()
			defer func() { _ = server.Close() }()
			courier, err := New(Options{Hostname: "relay.example.edu", Smarthosts: []string{l.Addr().String()}, Reuse: Reuse{Messages: 1 << 30}, NoChunking: c.data})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = courier.Close() }()
			body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78)
			e := &spool.Entry{ID: "B", Size: int64(len(body)), Envelope: entry(1).Envelope}
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if got := courier.Deliver(b.Context(), e, bodyOf(body), []int{0}); got[0].Outcome != mail.Delivered {
					b.Fatalf("%+v", got)
				}
			}
		})
	}
}

type discard struct{}

func (discard) NewSession(*smtp.Conn) (smtp.Session, error) { return discard{}, nil }
func (discard) Mail(string, *smtp.MailOptions) error        { return nil }
func (discard) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (discard) Reset()                                      {}
func (discard) Logout() error                               { return nil }
func (discard) Data(r io.Reader) error                      { _, err := io.Copy(io.Discard, r); return err }
