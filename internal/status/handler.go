package status

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options of New.
type Options struct {
	Host     string
	Version  string
	Started  time.Time
	Sources  Sources
	Gatherer prometheus.Gatherer // nil: no /metrics
	Now      func() time.Time    // nil: time.Now
}

// A Server answers questions about a relay.
type Server struct {
	o       Options
	metrics http.Handler // nil: none
}

// New makes a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o}
	if o.Gatherer != nil {
		s.metrics = Metrics(o.Gatherer)
	}
	return s
}

// Read is the report of this moment.
func (s *Server) Read() Report { return read(s.o, s.o.Now()) }

// Handler serves the pages for monitoring, which only GET and HEAD may ask for:
//
//	/metrics  Prometheus
//	/healthz  200: the process is alive
//	/readyz   200: the relay takes mail; 503, and why it does not
//	/status   the Report as JSON; /status?ip=ADDRESS an Address
func (s *Server) Handler() http.Handler {
	pages := map[string]http.Handler{
		"/": plain(func() (int, string) {
			return http.StatusOK, "gatepost " + s.o.Version + "\n/metrics\n/healthz\n/readyz\n/status\n"
		}),
		"/healthz": plain(func() (int, string) { return http.StatusOK, "ok\n" }),
		"/readyz":  plain(s.ready),
		"/status":  s.Report(),
	}
	if s.metrics != nil {
		pages["/metrics"] = s.metrics
	}
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if page, ok := pages[req.URL.Path]; ok {
			page.ServeHTTP(w, req)
			return
		}
		http.Error(w, "there is no such page", http.StatusNotFound)
	}))
}

// Address is what is known of one address at this moment.
func (s *Server) Address(addr netip.Addr) Address {
	a := Address{IP: addr}
	if s.o.Sources.Address != nil {
		a = s.o.Sources.Address(addr)
	}
	return a.finish(s.o.Host, s.o.Now())
}

// Report serves the Report as JSON, whatever the path, and with ?ip=ADDRESS the
// Address.
func (s *Server) Report() http.Handler {
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var value any
		if query := req.URL.Query(); query.Has("ip") {
			addr, err := netip.ParseAddr(query.Get("ip"))
			if err != nil || addr.Zone() != "" || len(query["ip"]) > 1 {
				http.Error(w, "ip is not one IP address", http.StatusBadRequest)
				return
			}
			value = s.Address(addr.Unmap())
		} else {
			value = s.Read()
		}
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			http.Error(w, "the report cannot be written: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n')) // the reader went away
	}))
}

func (s *Server) ready() (int, string) {
	r := s.Read()
	if r.Ready {
		return http.StatusOK, "ready\n"
	}
	return http.StatusServiceUnavailable, "not ready: " + visible(strings.Join(r.NotReady, "; ")) + "\n"
}

func plain(page func() (int, string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code, text := page()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text) // the reader went away
	})
}

// readOnly lets nothing but GET and HEAD through, and has nothing kept.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "these pages can only be read", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, req)
	})
}
