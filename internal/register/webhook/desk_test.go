package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/register/webhook"
)

const secret = "a secret of more than 16 octets"

// A desk is a Server with what a test looks at.
type desk struct {
	t        *testing.T
	s        *webhook.Server
	wakes    atomic.Int64
	registry *prometheus.Registry
	log      lockedBuffer
}

func newDesk(t *testing.T, change ...func(*webhook.Options)) *desk {
	t.Helper()
	d := &desk{t: t, registry: prometheus.NewRegistry()}
	key, err := webhook.ParseSecret([]byte(secret + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := webhook.Options{
		Branch: "main", Secret: key, Wake: func() { d.wakes.Add(1) },
		Logger:     slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: d.registry,
	}
	for _, f := range change {
		f(&o)
	}
	if d.s, err = webhook.New(o); err != nil {
		t.Fatal(err)
	}
	return d
}

// serve runs the server on a listener until the test ends.
func (d *desk) serve(ln net.Listener) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.s.Serve(ctx, ln) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Errorf("Serve: %v", err)
		}
	})
}

// listen serves on loopback and returns where.
func (d *desk) listen() string {
	d.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.serve(ln)
	return ln.Addr().String()
}

// take hands a request to the server without a network.
func (d *desk) take(req *http.Request) (int, string) {
	w := httptest.NewRecorder()
	d.s.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// count is how many requests had a result, or how many connections were
// evicted.
func (d *desk) count(result string) int {
	d.t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == result || len(m.GetLabel()) == 0 && result == "evicted" {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	d.t.Fatalf("no result %q", result)
	return 0
}

func sign(h func() hash.Hash, key string, body []byte) string {
	mac := hmac.New(h, []byte(key))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

var ids atomic.Int64

// delivery is what GitHub would send.
func delivery(event, body string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, webhook.Path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "GitHub-Hookshot/044aadd")
	req.Header.Set("X-GitHub-Event", event)
	req.Header.Set("X-GitHub-Delivery", fmt.Sprintf("72d3162e-cc78-11e3-81ab-%012d", ids.Add(1)))
	req.Header.Set("X-Hub-Signature", "sha1="+sign(sha1.New, secret, []byte(body)))
	req.Header.Set("X-Hub-Signature-256", "sha256="+sign(sha256.New, secret, []byte(body)))
	return req
}

func push(branch string, n int) string {
	return fmt.Sprintf(`{"ref": "refs/heads/%s", "before": "%040d", "after": "%040d", "repository": {"ref": "x"}}`, branch, n, n+1)
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
