package portal

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

var largeSize = flag.Int("large", 300, "the size of TestLarge's register, in registrations")

// TestLarge prints how long pages take with a large register, of one address a
// file, a tenth of it expired, shared out among up to 1,000 departments. Nothing
// is asserted but that they are right: speed is never a timed test. The
// processor's time is that of the whole process, the collection of garbage
// included, and says something on a busy machine, too. "make bench-portal" runs it.
func TestLarge(t *testing.T) {
	n := *largeSize
	departments := max(1, min(1000, n/100))
	id := func(i int) string { return fmt.Sprintf("dept-%d", i%departments) }
	var networks, named strings.Builder
	for i := range departments {
		prefix := "35.0.0.0/8"
		if i > 0 {
			prefix = fmt.Sprintf("35.%d.%d.0/24", 100+i>>8, i&255)
		}
		fmt.Fprintf(&networks, "\t%q: {department: %q, use: \"static\"}\n", prefix, id(i))
		fmt.Fprintf(&named, "\t%q: {name: \"Department number %d\", speakers: [{github: \"a\", id: %d}], contactDomains: [\"example.edu\"]}\n", id(i), i, i+1)
	}
	campus := fmt.Sprintf("campus: [\"35.0.0.0/8\"]\nnetworks: {\n%s}\ndepartments: {\n%s}\n", &networks, &named)
	tree := review.Tree{Commit: "large"}
	add := func(path, text string) {
		tree.Sources = append(tree.Sources, review.Source{
			Source: registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}, Blob: gitsync.BlobHash([]byte(text)).String()})
	}
	add("registrations/campus/campus.cue", campus)
	address := func(i int) netip.Addr {
		d := i % departments
		k := i / departments
		if d == 0 {
			return netip.AddrFrom4([4]byte{35, byte(1 + k>>16), byte(k >> 8), byte(k)})
		}
		return netip.AddrFrom4([4]byte{35, byte(100 + d>>8), byte(d), byte(k)})
	}
	for i := range n {
		expires := time.Now().AddDate(1, 0, 0)
		if i%10 == 0 {
			expires = time.Now().AddDate(0, 0, -10)
		}
		add(fmt.Sprintf("registrations/%s/r%06d.cue", id(i), i), registrationCUE(id(i), "it@example.edu", expires.Format(time.DateOnly), address(i).String()))
	}
	slices.SortFunc(tree.Sources, func(a, b review.Source) int { return strings.Compare(a.Path, b.Path) })
	began := time.Now()
	base, err := review.NewBase(t.Context(), tree, time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%d registrations, %d departments: read, parsed and built in %s\n", n, departments, time.Since(began).Round(time.Millisecond))
	if got := base.Snapshot().Len(); got != n {
		t.Fatalf("%d addresses, want %d", got, n)
	}
	w := newWorld(t, dana)
	now := &view.Register{Commit: tree.Commit, At: time.Now(), Base: base}
	w.register = func() *view.Register { return now }

	one := typed()
	one.Department, one.ContactEmail = id(0), "it@example.edu"
	one.Hosts[0].IP = "35.99.0.1"
	many := one
	many.Hosts = nil
	for i := range form.MaxHosts {
		many.Hosts = append(many.Hosts, form.Host{IP: fmt.Sprintf("35.99.0.%d", i+1), Name: fmt.Sprintf("mfp%d.example.edu", i), Kind: "printer"})
	}
	for _, tt := range []struct {
		name, method, path string
		sent               *form.Values
		want               string
	}{
		{"GET /register", http.MethodGet, "/register?ip=35.99.0.1", nil, "Register a machine"},
		{"POST /register/check, 1 machine", http.MethodPost, "/register/check", &one, `"fine":true`},
		{"POST /register/check, 64 machines", http.MethodPost, "/register/check", &many, `"fine":true`},
		{"POST /register, 1 machine", http.MethodPost, "/register", &one, "All is in order"},
		{"POST /register, 64 machines", http.MethodPost, "/register", &many, "All is in order"},
		{"GET /departments", http.MethodGet, "/departments", nil, "Department number 0"},
		{"GET /departments/dept-0", http.MethodGet, "/departments/dept-0", nil, address(0).String()},
		{"GET /ip/…", http.MethodGet, "/ip/" + address(1%n).String(), nil, "it@example.edu"},
		{"GET /", http.MethodGet, "/", nil, "Mail for machines"},
	} {
		handler := w.handler()
		var took []time.Duration
		const rounds = 41
		before := processorTime(t)
		for range rounds {
			body := ""
			if tt.sent != nil {
				body = press(*tt.sent, "check").Encode()
			}
			req := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			rec := httptest.NewRecorder()
			began := time.Now()
			handler.ServeHTTP(rec, req)
			took = append(took, time.Since(began))
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), tt.want) {
				t.Fatalf("%s: %d\n%.2000s", tt.name, rec.Code, rec.Body)
			}
		}
		spent := (processorTime(t) - before) / rounds
		slices.Sort(took)
		fmt.Printf("%-36s median %8s   p95 %8s   processor %8s\n", tt.name, took[rounds/2].Round(10*time.Microsecond), took[rounds*95/100].Round(10*time.Microsecond), spent.Round(10*time.Microsecond))
	}
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
