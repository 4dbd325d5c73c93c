package guard

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/config"
)

var limits = config.PortalLimits{Connections: 16, Streams: 3, StreamsPerPerson: 2, FormBytes: 1000, RequestsPerMinute: 1000,
	FormsPerMinute: 4, FormsPerPerson: 2, OpenedPerDay: 3, Answer: 10 * time.Second}

// A rig is a guard in front of a few pages.
type rig struct {
	*Guard
	t       *testing.T
	log     *syncBuffer
	handler http.Handler
	now     time.Time
	who     string
}

// A syncBuffer may be written to by many.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: &syncBuffer{}, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	o := Options{
		URL: "https://relay.example.edu", Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}, Limits: limits,
		Person:  func(*http.Request) string { return r.who },
		Origins: func() []string { return []string{"https://login.example.edu"} },
		Light:   func(r *http.Request) bool { return r.URL.Path == "/light" },
		Bodies:  map[string]int64{"/webhook": 5000},
		Tell: func(w http.ResponseWriter, _ *http.Request, status int, words Words) {
			w.WriteHeader(status)
			fmt.Fprintln(w, words.Heading, words.Text, words.Next)
		},
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: prometheus.NewRegistry(),
		Now: func() time.Time { return r.now },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Guard, err = New(o); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintln(w, "page for", Client(r.Context()), len(body), err)
	})
	mux.HandleFunc("GET /ip/{addr}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /public", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "public, max-age=300") })
	mux.HandleFunc("GET /fault", func(http.ResponseWriter, *http.Request) { panic("a fault") })
	mux.HandleFunc("GET /late-fault", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "half")
		panic("a fault")
	})
	mux.Handle("GET /events", r.Stream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "data: 1")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})))
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		deadline, _ := r.Context().Deadline()
		fmt.Fprintln(w, time.Until(deadline) <= limits.Answer)
	})
	r.handler = r.Handler(mux)
	return r
}

// ask makes one request, from an address, with header fields.
func (r *rig) ask(method, path, from string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, nil)
	return r.send(req, from, headers...)
}

func (r *rig) send(req *http.Request, from string, headers ...string) *httptest.ResponseRecorder {
	req.Host, req.RemoteAddr = "relay.example.edu", from
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

const visitor = "198.51.100.7:999"

func TestHeaders(t *testing.T) {
	r := newRig(t, nil)
	h := r.ask(http.MethodGet, "/", visitor).Header()
	for name, want := range map[string]string{
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self' https://login.example.edu; base-uri 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "same-origin",
		"Strict-Transport-Security":    "max-age=31536000",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-cache, private",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if h := r.ask(http.MethodGet, "/public", visitor).Header(); h.Get("Cache-Control") != "public, max-age=300" {
		t.Error("a page cannot say otherwise:", h)
	}
	// An error has them too.
	if h := r.ask(http.MethodGet, "/fault", visitor).Header(); h.Get("Content-Security-Policy") == "" {
		t.Error(h)
	}
	plain := newRig(t, func(o *Options) { o.URL = "http://127.0.0.1:8587" })
	if h := plain.ask(http.MethodGet, "/", "127.0.0.1:1", "Host", "127.0.0.1:8587").Header(); h.Get("Strict-Transport-Security") != "" {
		t.Error("HSTS over http:", h)
	}
}

// TestWhoAsks: a header counts only from a web server of the configuration.
func TestWhoAsks(t *testing.T) {
	r := newRig(t, nil)
	for name, tc := range map[string]struct {
		from    string
		headers []string
		want    string
	}{
		"itself":                         {visitor, nil, "198.51.100.7"},
		"itself, with a header":          {visitor, []string{"X-Forwarded-For", "203.0.113.9"}, "198.51.100.7"},
		"through ours":                   {"192.0.2.1:1", []string{"X-Forwarded-For", "203.0.113.9"}, "203.0.113.9"},
		"through two of ours":            {"192.0.2.1:1", []string{"X-Forwarded-For", "203.0.113.9, 192.0.2.2"}, "203.0.113.9"},
		"in two headers":                 {"192.0.2.1:1", []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-For", "192.0.2.2"}, "203.0.113.9"},
		"made up before":                 {"192.0.2.1:1", []string{"X-Forwarded-For", "10.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		"made up as ours":                {"192.0.2.1:1", []string{"X-Forwarded-For", "10.0.0.1, 192.0.2.3, 203.0.113.9"}, "203.0.113.9"},
		"ours, and does not say":         {"192.0.2.1:1", nil, "192.0.2.1"},
		"ours, and says nonsense":        {"192.0.2.1:1", []string{"X-Forwarded-For", "203.0.113.9, unknown"}, "192.0.2.1"},
		"IPv6, with a port":              {"192.0.2.1:1", []string{"X-Forwarded-For", "[2001:db8::1]:99"}, "2001:db8::1"},
		"IPv6, bare, with a zone":        {"192.0.2.1:1", []string{"X-Forwarded-For", "fe80::1%eth0"}, "fe80::1"},
		"IPv4 in IPv6":                   {"[::ffff:192.0.2.1]:1", []string{"X-Forwarded-For", "::ffff:203.0.113.9"}, "203.0.113.9"},
		"a long chain":                   {"192.0.2.1:1", []string{"X-Forwarded-For", "10.0.0.1," + strings.Repeat("192.0.2.2,", 100) + "192.0.2.2"}, "192.0.2.2"},
		"another header says otherwise":  {"192.0.2.1:1", []string{"X-Real-Ip", "10.0.0.1", "Forwarded", "for=10.0.0.1"}, "192.0.2.1"},
		"ours in IPv6 form of elsewhere": {"[2001:db8::1]:1", []string{"X-Forwarded-For", "10.0.0.1"}, "2001:db8::1"},
	} {
		if got := r.ask(http.MethodGet, "/", tc.from, tc.headers...).Body.String(); !strings.HasPrefix(got, "page for "+tc.want+" ") {
			t.Errorf("%s: %q, want %s", name, got, tc.want)
		}
	}
}

func TestOtherNames(t *testing.T) {
	r := newRig(t, nil)
	const home = "https://relay.example.edu"
	for name, tc := range map[string]struct {
		method, path, from string
		headers            []string
		code               int
		to                 string
	}{
		"by its name":             {"GET", "/", visitor, nil, 200, ""},
		"with its port":           {"GET", "/", visitor, []string{"Host", "relay.example.edu:443"}, 200, ""},
		"in capitals":             {"GET", "/", visitor, []string{"Host", "RELAY.example.EDU"}, 200, ""},
		"rebound":                 {"GET", "/ip/192.0.2.1?x=1", visitor, []string{"Host", "evil.example"}, 307, home + "/ip/192.0.2.1?x=1"},
		"rebound, twice a slash":  {"GET", "//evil.example/", visitor, []string{"Host", "evil.example"}, 307, home + "//evil.example/"},
		"rebound, a form":         {"POST", "/", visitor, []string{"Host", "evil.example"}, 421, ""},
		"by address":              {"GET", "/", visitor, []string{"Host", "192.0.2.77"}, 307, home + "/"},
		"by another port":         {"GET", "/", visitor, []string{"Host", "relay.example.edu:8080"}, 307, home + "/"},
		"the monitoring":          {"GET", "/healthz", visitor, []string{"Host", "192.0.2.77"}, 200, ""},
		"by ours, under any name": {"GET", "/", "192.0.2.1:1", []string{"Host", "backend"}, 200, ""},
		"by ours, unencrypted":    {"GET", "/x", "192.0.2.1:1", []string{"X-Forwarded-Proto", "http"}, 307, home + "/x"},
		"by two of ours":          {"GET", "/x", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Proto", "http"}, 200, ""},
		"unencrypted, a form":     {"POST", "/x", "192.0.2.1:1", []string{"X-Forwarded-Proto", "http"}, 421, ""},
		"by ours, encrypted":      {"GET", "/", "192.0.2.1:1", []string{"X-Forwarded-Proto", "HTTPS"}, 200, ""},
		"a stranger says http":    {"GET", "/", visitor, []string{"X-Forwarded-Proto", "http"}, 200, ""},
	} {
		w := r.ask(tc.method, tc.path, tc.from, tc.headers...)
		if w.Code != tc.code || w.Header().Get("Location") != tc.to {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Header().Get("Location"), tc.code, tc.to)
		}
	}
	if n := strings.Count(r.log.String(), "event=guard.other_name"); n != 1 {
		t.Errorf("%d lines about other names, want one a minute", n)
	}
}

func TestSizes(t *testing.T) {
	r := newRig(t, nil)
	send := func(path string, n int, chunked bool) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(strings.Repeat("x", n)))
		if chunked {
			req.ContentLength = -1
		}
		r.now = r.now.Add(time.Minute)
		return r.send(req, visitor)
	}
	if w := send("/", 1000, false); w.Code != 200 || !strings.Contains(w.Body.String(), "1000 <nil>") {
		t.Error(w.Code, w.Body)
	}
	if w := send("/", 1001, false); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "This form is too large") {
		t.Error(w.Code, w.Body)
	}
	if w := send("/", 5000, true); !strings.Contains(w.Body.String(), "1000 http: request body too large") {
		t.Error(w.Code, w.Body)
	}
	if w := send("/webhook", 5000, false); w.Code != 200 || !strings.Contains(w.Body.String(), "5000 <nil>") {
		t.Error(w.Code, w.Body)
	}
	if w := send("/webhook", 5001, false); w.Code != http.StatusRequestEntityTooLarge {
		t.Error(w.Code, w.Body)
	}
}

func TestRates(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.RequestsPerMinute = 10 })
	form := func(path, from, who string) *httptest.ResponseRecorder {
		r.who = who
		return r.ask(http.MethodPost, path, from)
	}
	codes := func(n int, ask func() *httptest.ResponseRecorder) (out []int) {
		for range n {
			out = append(out, ask().Code)
		}
		return out
	}
	same := func(what string, got []int, want ...int) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	same("of a person", codes(3, func() *httptest.ResponseRecorder { return form("/", "203.0.113.1:1", "ada") }), 200, 200, 429)
	w := form("/", "203.0.113.2:1", "ada")
	if w.Code != 429 || w.Header().Get("Retry-After") != "30" || !strings.Contains(w.Body.String(), "You have sent so many forms") || !strings.Contains(w.Body.String(), "Wait 30 seconds") {
		t.Errorf("from another address: %d %v %s", w.Code, w.Header(), w.Body)
	}
	same("of another person at that address", codes(2, func() *httptest.ResponseRecorder { return form("/", "203.0.113.1:1", "bob") }), 200, 429)
	same("of an address", codes(6, func() *httptest.ResponseRecorder { return form("/", "203.0.113.3:1", "") }), 200, 200, 200, 200, 429, 429)
	same("of one /64", append(codes(3, func() *httptest.ResponseRecorder { return form("/", "[2001:db8::1]:1", "") }),
		codes(2, func() *httptest.ResponseRecorder { return form("/", "[2001:db8::ffff:1]:1", "") })...), 200, 200, 200, 200, 429)
	same("of the next /64", codes(1, func() *httptest.ResponseRecorder { return form("/", "[2001:db8:0:1::1]:1", "") }), 200)
	r.now = r.now.Add(30 * time.Second)
	same("later", codes(2, func() *httptest.ResponseRecorder { return form("/", "203.0.113.9:1", "ada") }), 200, 429)

	r.now = r.now.Add(time.Hour)
	same("pages", codes(12, func() *httptest.ResponseRecorder { return r.ask(http.MethodGet, "/", "203.0.113.4:1") }), 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 429, 429)
	same("the monitoring", codes(12, func() *httptest.ResponseRecorder { return r.ask(http.MethodGet, "/healthz", "203.0.113.4:1") }), 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200)

	r = newRig(t, nil)
	n := 0
	for form("/light", "203.0.113.5:1", "ada").Code == 200 {
		n++
	}
	if n != 20 {
		t.Errorf("%d forms that are judged while typed, want 20", n)
	}
	for range 50 {
		if w := form("/webhook", "203.0.113.6:1", ""); w.Code != 200 {
			t.Fatal("a program is counted as a form:", w.Code)
		}
	}
	if got := testutil.ToFloat64(r.metrics.refused.WithLabelValues("person")); got != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestOpening(t *testing.T) {
	r := newRig(t, nil)
	for range limits.OpenedPerDay {
		if _, ok := r.Opening("ada"); !ok {
			t.Fatal("refused too early")
		}
	}
	if wait, ok := r.Opening("ada"); ok || wait < 7*time.Hour || wait > 8*time.Hour {
		t.Error(wait, ok)
	}
	if _, ok := r.Opening("bob"); !ok {
		t.Error("another person is refused")
	}
	r.now = r.now.Add(8 * time.Hour)
	if _, ok := r.Opening("ada"); !ok {
		t.Error("refused after a third of a day")
	}
}

// TestBudgetsAreBounded: however many come, few are known; and whoever came a
// moment ago is not forgotten when a minute ends.
func TestBudgetsAreBounded(t *testing.T) {
	b := newBudgets(2, time.Minute)
	b.maxGeneration = 100
	now := time.Unix(1e9, 0)
	for i := range 100_000 {
		b.take(fmt.Sprint(i), 1, now)
		if len(b.young)+len(b.old) > 200 {
			t.Fatal(len(b.young), len(b.old))
		}
	}
	b = newBudgets(2, time.Minute)
	b.take("a", 2, now.Add(59*time.Second))
	if wait := b.take("a", 1, now.Add(61*time.Second)); wait == 0 {
		t.Error("forgotten at the end of a minute")
	}
	if wait := b.take("a", 1, now.Add(90*time.Second)); wait != 0 {
		t.Error("no room after half a minute:", wait)
	}
}

func TestFaults(t *testing.T) {
	r := newRig(t, nil)
	w := r.ask(http.MethodGet, "/fault?token=secret", visitor)
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "This page has a fault") || strings.Contains(w.Body.String(), "goroutine") {
		t.Error(w.Code, w.Body)
	}
	if log := r.log.String(); strings.Count(log, "event=guard.fault") != 1 || !strings.Contains(log, `err="a fault"`) || !strings.Contains(log, "guard_test.go") ||
		!strings.Contains(log, "event=guard.request method=GET path=/fault code=500") || strings.Contains(log, "secret") {
		t.Error(log)
	}
	web := httptest.NewUnstartedServer(r.handler)
	r.host = web.Listener.Addr().String()
	web.Start()
	defer web.Close()
	resp, err := http.Get(web.URL + "/late-fault")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks like a whole one")
	}
}

func TestTheLineOfARequest(t *testing.T) {
	r := newRig(t, nil)
	r.who = "ada"
	r.ask(http.MethodGet, "/ip/192.0.2.1?token=secret", visitor, "Cookie", "gatepost=secret", "Authorization", "secret")
	r.ask(http.MethodGet, "/static/x", visitor)
	r.ask(http.MethodGet, "/"+strings.Repeat("x", 1000), visitor)
	log := r.log.String()
	for _, want := range []string{
		`level=INFO msg=request event=guard.request method=GET path=/ip/192.0.2.1 code=200 octets=0 duration=0s client=198.51.100.7 person=ada`,
		"level=DEBUG msg=request event=guard.request method=GET path=/static/x", "path=/" + strings.Repeat("x", 199) + "… ",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, "secret") {
		t.Error(log)
	}
	if got := testutil.ToFloat64(r.metrics.requests.WithLabelValues("/ip/{addr}", "2xx")); got != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestAnswersHaveADeadline(t *testing.T) {
	r := newRig(t, nil)
	if w := r.ask(http.MethodGet, "/slow", visitor); w.Body.String() != "true\n" {
		t.Error(w.Body)
	}
}
