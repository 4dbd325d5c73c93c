package portal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"

	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/status"
)

// probeRoutes adds what a monitoring asks. /healthz: the portal answers.
// /readyz: and it has read the register, and is not about to end.
func (s *server) probeRoutes(mux *http.ServeMux) {
	say := func(w http.ResponseWriter, code int, words string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(words + "\n")) // the monitoring may have gone
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-s.end:
			say(w, http.StatusServiceUnavailable, "the portal is about to end")
			return
		default:
		}
		if s.register == nil || s.register() == nil {
			say(w, http.StatusServiceUnavailable, "the register has not been read yet")
			return
		}
		say(w, http.StatusOK, "ok")
	})
}

// openMetrics opens the address for /metrics, if there is one.
func (p *portal) openMetrics(ctx context.Context, steps *lifecycle.Steps) (err error) {
	if p.config.Metrics == "" {
		return nil
	}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if p.metrics, err = (&net.ListenConfig{}).Listen(ctx, "tcp", p.config.Metrics); err != nil {
		return fmt.Errorf("opening the port for metrics: %w", err)
	}
	steps.Later("port for metrics", func() error {
		if err := p.metrics.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// serveMetrics answers the monitoring until ctx ends.
func (p *portal) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", status.Metrics(p.registry))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(p.metrics); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
