package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// maxOrder bounds what an operator's command sends, in octets.
const maxOrder = 64 << 10

// serveControl opens the operators' socket: HTTP and JSON, for whoever may
// open a file of mode 0600.
//
//	GET  /v1/status            the read model, see package status
//	GET  /v1/queue?held=…      one JSON value a line, see queue.Row
//	GET  /v1/queue/ID          one of them
//	POST /v1/register/accept   {"commit", "reason"}
func (r *relay) serveControl(ctx context.Context, path string, s *steps) error {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", r.status.Report())
	mux.HandleFunc("GET /v1/queue", r.listQueue)
	mux.HandleFunc("GET /v1/queue/{id}", r.showQueue)
	mux.HandleFunc("POST /v1/register/accept", r.acceptCommit)

	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := removeStale(ctx, path); err != nil {
		return err
	}
	// Bind under a private name: between bind and chmod anybody could connect.
	private := path + ".new"
	if err := os.Remove(private); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the operators' socket: %w", err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", private)
	if err != nil {
		return fmt.Errorf("opening the operators' socket: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // it has another name by then
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		return errors.Join(fmt.Errorf("opening the operators' socket: %w", err), ln.Close(), os.Remove(private))
	}
	s.later("operators' socket's name", func() error { return os.Remove(path) })
	serveHTTP("operators' socket", ln, mux, r.log, s)
	return nil
}

// removeStale removes a socket that a killed relay left; a live one is an
// error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way: it is not a socket", path)
	}
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("another relay answers at %s", path)
	}
	return os.Remove(path)
}

// serveStatus opens the pages for monitoring, unless addr is "".
func (r *relay) serveStatus(ctx context.Context, addr string, s *steps) error {
	if addr == "" {
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening for status: %w", err)
	}
	r.log.Info("listening", "event", "relay.listen", "port", "status", "address", ln.Addr().String())
	serveHTTP("status pages", ln, r.status.Handler(), r.log, s)
	return nil
}

// serveHTTP runs one HTTP server with a bound on everything.
func serveHTTP(name string, ln net.Listener, h http.Handler, log *slog.Logger, s *steps) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      5 * time.Minute, // a long queue takes its time
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	s.start(name, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() {
			end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if server.Shutdown(end) != nil {
				server.Close()
			}
		})
		defer stop()
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// listQueue streams the queue, oldest first, one JSON value a line.
func (r *relay) listQueue(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	f := queue.Filter{
		Registration: query.Get("registration"), Destination: query.Get("destination"), Client: query.Get("client"),
		Sender: query.Get("from"), Recipient: query.Get("to"), Status: query.Get("status"),
	}
	if query.Get("held") == "true" {
		f.Status = "held"
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "limit is not a number above zero", "")
			return
		}
		f.Limit = n
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encode := json.NewEncoder(w)
	if err := r.queue.List(f, func(row *queue.Row) error { return encode.Encode(row) }); err != nil {
		r.log.Warn("the queue's list broke off", "event", "control.failed", "err", err)
		panic(http.ErrAbortHandler) // the client must not take half a list for a whole one
	}
}

func (r *relay) showQueue(w http.ResponseWriter, req *http.Request) {
	row, err := r.queue.Show(spool.ID(req.PathValue("id")))
	switch {
	case errors.Is(err, spool.ErrNotFound):
		refuse(w, http.StatusNotFound, "there is no such message in the queue", "")
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error(), "")
	default:
		answer(w, row)
	}
}

func (r *relay) acceptCommit(w http.ResponseWriter, req *http.Request) {
	var order struct{ Commit, Reason string }
	decode := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxOrder))
	decode.DisallowUnknownFields()
	if err := decode.Decode(&order); err != nil {
		refuse(w, http.StatusBadRequest, "the order is not understood: "+err.Error(), "")
		return
	}
	if err := r.register.Accept(req.Context(), order.Commit, order.Reason); err != nil {
		refuse(w, http.StatusConflict, err.Error(), "gatepost status shows the commit that waits")
		return
	}
	answer(w, r.register.State())
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the operator's own connection; nothing to be done if it broke
}

func refuse(w http.ResponseWriter, code int, text, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text, "hint": hint})
}
