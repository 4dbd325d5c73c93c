package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"example.edu/gatepost/internal/lifecycle"
)

// doors are the listeners, open and not yet answered.
type doors struct {
	control           net.Listener
	status            net.Listener // nil: off
	portal            net.Listener // nil: none
	webhook           net.Listener // nil: none
	relay, submission []net.Listener
}

// add puts a listener where it belongs.
func (d *doors) add(part string, ln net.Listener) {
	switch part {
	case "relay":
		d.relay = append(d.relay, ln)
	case "submission":
		d.submission = append(d.submission, ln)
	case "http":
		d.status = ln
	case "portal":
		d.portal = ln
	case "webhook":
		d.webhook = ln
	case "socket":
		d.control = ln
	}
}

func openPort(ctx context.Context, name, addr string, log *slog.Logger, s *lifecycle.Steps) (net.Listener, error) {
	// Every read has a deadline of its own, so probes would only cost each
	// connection four calls of the kernel.
	ln, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("opening the port %s: %w", name, err)
	}
	s.Later("port "+name, func() error { return closed(ln.Close()) })
	log.Info("listening", "event", "relay.listen", "port", name, "address", ln.Addr().String())
	return ln, nil
}

// closed is the error of closing what its server may have closed before.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openSocket opens the operators' socket: a file of mode 0600 from its first
// moment on.
func openSocket(ctx context.Context, path string, s *lifecycle.Steps) (net.Listener, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("opening the operators' socket: %w", err)
	}
	ln, err := bindPrivately(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("opening the operators' socket: %w", err)
	}
	s.Later("operators' socket", func() error {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) { // somebody was tidy
			err = nil
		}
		return errors.Join(err, closed(ln.Close()))
	})
	return ln, nil
}

// bindPrivately binds a socket of mode 0600 at path. It is bound in a folder
// that nobody else can enter, and moved once it has its mode: between bind and
// chmod anybody could connect.
func bindPrivately(ctx context.Context, path string) (net.Listener, error) {
	private := path + ".d"
	inside := filepath.Join(private, "s") // four octets in all, which config leaves free
	for _, name := range []string{inside, private} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", inside)
	if err != nil {
		return nil, errors.Join(err, os.Remove(private))
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // it has another name by then
	if err := errors.Join(os.Chmod(inside, 0o600), os.Rename(inside, path), os.Remove(private)); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
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
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another relay answers at %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("another relay may be behind %s: %w", path, err)
}

// maxOperators bounds the connections to one HTTP server. Those above wait.
const maxOperators = 64

// An httpServer is one HTTP server with a bound on everything.
type httpServer struct {
	name    string
	ln      net.Listener
	handler http.Handler
	secure  *tls.Config   // nil: clear text
	write   time.Duration // for an answer
	level   slog.Level    // of what goes wrong with a connection
}

func (h httpServer) loop(log *slog.Logger) lifecycle.Loop {
	ln := netutil.LimitListener(h.ln, maxOperators)
	if h.secure != nil {
		ln = tls.NewListener(ln, h.secure) // outermost: http.Server bounds the handshake where it sees one
	}
	var end sync.RWMutex // read-held by each request
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !end.TryRLock() {
				panic(http.ErrAbortHandler) // the end waits for the lock, or has it
			}
			defer end.RUnlock()
			h.handler.ServeHTTP(w, req)
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      h.write,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.With("event", "http.failed", "part", h.name).Handler(), h.level),
	}
	return lifecycle.Loop{Name: h.name, Run: func(ctx context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(ln) }()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close() // which ends the requests' contexts
		}
		<-ended
		end.Lock() // for good: requests use what is taken down next
		return nil
	}}
}
