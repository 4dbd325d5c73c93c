package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Serve answers on ln until ctx ends, and closes it. Nobody is woken after it
// has returned.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.o.Wait / 2,
		ReadTimeout:       s.o.Wait,
		WriteTimeout:      s.o.Wait,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.With("event", "http.failed", "part", "webhook").Handler(), slog.LevelWarn),
	}
	server.SetKeepAlivesEnabled(false) // a connection is a delivery, and its age how long that takes
	pacing, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.pace(pacing) })
	defer running.Wait()
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(&crowd{Listener: ln, most: s.o.Connections, evicted: s.metrics.evicted.Inc})
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-ended
	return nil
}

// Run hands the wake-ups on until ctx ends, where the deliveries come by
// ServeHTTP in another's server and not by Serve.
func (s *Server) Run(ctx context.Context) error {
	s.pace(ctx)
	return nil
}

// pace hands on what was asked for, a few at once and then at a pace. What is
// asked for during a pause comes after it, once.
func (s *Server) pace(ctx context.Context) {
	limit := rate.NewLimiter(rate.Every(s.o.Pace), burst)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
		}
		if limit.Wait(ctx) != nil {
			return
		}
		s.o.Wake()
	}
}

// ask asks for a wake-up.
func (s *Server) ask() {
	select {
	case s.asked <- struct{}{}:
	default: // somebody else has, and it is still to come
	}
}

// ServeHTTP takes one delivery.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	r, code, text := s.take(w, req)
	s.metrics.deliveries.WithLabelValues(string(r)).Inc()
	if r == unsigned || r == mismatched {
		s.refused(r, req.RemoteAddr)
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // who asked may have gone
}

// take judges a request and does what it asks for: its result, and the answer.
// Who has no signature learns nothing.
func (s *Server) take(w http.ResponseWriter, req *http.Request) (result, int, string) {
	switch t := contentType(req.Header); {
	case req.URL.Path != Path:
		return malformed, http.StatusNotFound, "there is no such page"
	case req.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return malformed, http.StatusMethodNotAllowed, "POST a delivery here"
	case t != typeJSON && t != typeForm:
		return malformed, http.StatusUnsupportedMediaType, "send " + typeJSON
	case req.ContentLength > MaxBody:
		return malformed, http.StatusRequestEntityTooLarge, "too large"
	}
	d, err := verify(req.Header, http.MaxBytesReader(w, req.Body, MaxBody), *s.secret.Load())
	switch {
	case errors.Is(err, errUnsigned):
		return unsigned, http.StatusForbidden, "forbidden"
	case errors.Is(err, errMismatched):
		return mismatched, http.StatusForbidden, "forbidden"
	case err != nil:
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return malformed, http.StatusRequestEntityTooLarge, "too large"
		}
		return malformed, http.StatusBadRequest, "the delivery did not come whole"
	}
	r := s.verified(d, time.Now())
	switch r {
	case woke:
		s.log.Info("a push, or what else wakes: the register is looked at now", "event", "webhook.woke", "delivery", d.id, "name", d.event)
		s.ask()
		return r, http.StatusAccepted, "it is looked at now"
	case ping:
		s.log.Info("the forge says hello", "event", "webhook.ping", "delivery", d.id)
		return r, http.StatusOK, "heard"
	case repeated:
		return r, http.StatusAccepted, "known already"
	}
	s.log.Debug("not a push to the branch", "event", "webhook.ignored", "delivery", d.id, "name", d.event)
	return r, http.StatusAccepted, "ignored"
}

// verified notes a delivery whose signature was right, and says what it is.
func (s *Server) verified(d delivery, now time.Time) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.VerifiedAt, s.counts.Refused = now, 0
	s.counts.Verified++
	// The id is not signed, so a copy may have another. The sum is.
	keys := []string{"sum " + string(d.sum[:])}
	if d.id != "" {
		keys = append(keys, "id "+d.id)
	}
	switch {
	case s.recent.seen(now, keys...):
		return repeated
	case d.event == "ping":
		return ping
	case slices.Contains(s.o.Events, d.event):
		return woke
	case d.event == "push" && (d.ref == "" || d.ref == "refs/heads/"+s.o.Branch): // in doubt, look
		return woke
	}
	return ignored
}

// refused notes a delivery that is not signed as it should be, and tells the log,
// now and then.
func (s *Server) refused(r result, remote string) {
	now := time.Now()
	s.mu.Lock()
	if r == mismatched {
		s.counts.RefusedAt = now
		s.counts.Refused++
	}
	s.untold++
	n := s.untold
	tell := s.told.IsZero() || now.Sub(s.told) >= tellRefused
	if tell {
		s.told, s.untold = now, 0
	}
	s.mu.Unlock()
	if !tell {
		return
	}
	client := ""
	if at, err := netip.ParseAddrPort(remote); err == nil {
		client = at.Addr().Unmap().String()
	}
	s.log.Warn("deliveries without a right signature were refused", "event", "webhook.refused", "result", string(r), "count", n, "client", client)
}
