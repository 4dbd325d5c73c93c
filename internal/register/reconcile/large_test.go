package reconcile_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

var (
	largeSize    = flag.Int("large", 400, "the size of TestLarge's register, in registrations")
	largeReloads = flag.Int("reloads", 10, "how many merges TestLarge follows for the memory")
	largeCommand = flag.String("gatepost", "", "the command, for TestLarge to measure check as well")
)

// TestLarge prints what a large register costs: the first start, a restart, a
// merge of one file, its parts, the memory, and check. Nothing is asserted but
// that what is in force is right: speed is never a timed test. "make bench"
// runs it.
func TestLarge(t *testing.T) {
	h := newLargeHost(t, *largeSize)
	dir := t.TempDir()
	source := &timedSource{}
	open := func() *gitsync.Mirror {
		m, err := gitsync.Open(t.Context(), gitsync.Options{Repository: h.url, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		source.Source = m
		return m
	}
	open()
	live := new(policy.Live)
	o := reconcile.Options{Source: source, Dir: dir, Live: live, Program: "bench", MaxRemovals: 0.3, Disk: &timedDisk{source: source}}
	show := func(what string, took time.Duration) {
		now, peak := resident(t)
		fmt.Printf("%-56s %10s   RSS %4d MiB, at most %4d\n", what, took.Round(100*time.Microsecond), now>>20, peak>>20)
	}
	fmt.Printf("%d registrations, %d commits, %d cores\n", *largeSize, largeCommits, runtime.GOMAXPROCS(0))

	began := time.Now()
	peer := filepath.Join(t.TempDir(), "peer.git")
	h.run("clone", "-q", "--bare", h.url, peer)
	show("git clone --bare (the peer)", time.Since(began))

	began = time.Now()
	r, err := reconcile.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.once(r)
	show("first start: clone, read, parse, build, keep", time.Since(began))
	source.print()
	if n := live.Load().Len(); n != *largeSize {
		t.Fatalf("%d addresses", n)
	}

	var rounds, peers []time.Duration
	source.reset()
	for i := range 20 {
		want := h.merge(i)
		began := time.Now()
		h.once(r)
		rounds = append(rounds, time.Since(began))
		if got := live.Load().Commit(); got != want {
			t.Fatalf("commit %s is in force, want %s", got, want)
		}
		began = time.Now()
		h.run("--git-dir", peer, "fetch", "-q", "origin", "+main:main")
		peers = append(peers, time.Since(began))
	}
	show("a merge of one file, from fetch to swap (median of 20)", median(rounds))
	source.print()
	show("git fetch of the same (the peer)", median(peers))

	before, _ := resident(t)
	for i := range *largeReloads {
		h.merge(20 + i)
		h.once(r)
	}
	after, _ := resident(t)
	fmt.Printf("%-56s %10s   RSS %4d MiB before, %d after\n", fmt.Sprintf("%d more such merges", *largeReloads), "", before>>20, after>>20)

	commit := live.Load().Commit()
	r, source.Source, o.Live = nil, nil, new(policy.Live)
	live = nil
	runtime.GC()
	began = time.Now()
	open()
	if r, err = reconcile.New(o); err != nil {
		t.Fatal(err)
	}
	show("restart: in force again", time.Since(began))
	if got := o.Live.Load(); got.Commit() != commit || got.Len() != *largeSize {
		t.Fatalf("after a restart: %s, %d addresses", got.Commit(), got.Len())
	}
	h.once(r)
	show("… and the first round", time.Since(began))
	if *largeCommand != "" {
		h.check(*largeCommand)
	}
}

// A largeHost is a register on a git server.
type largeHost struct {
	t    *testing.T
	bare string
	url  string
	size int
	head string
}

func newLargeHost(t *testing.T, size int) *largeHost {
	t.Helper()
	bin, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	root := t.TempDir()
	h := &largeHost{t: t, bare: filepath.Join(root, "register.git"), size: size}
	server := httptest.NewServer(&cgi.Handler{
		Path: bin, Args: []string{"http-backend"}, Dir: root,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + root},
	})
	t.Cleanup(server.Close)
	h.url = server.URL + "/register.git"
	h.run("init", "-q", "--bare", "-b", "main", h.bare)
	h.fastImport(func(w *bufio.Writer) {
		var networks, departments strings.Builder
		networks.WriteString("campus: [\"35.0.0.0/8\"]\nnetworks: {\n")
		departments.WriteString("departments: {\n")
		for d := range largeDepartments {
			fmt.Fprintf(&networks, "\t\"35.%d.0.0/16\": {department: \"d%d\", use: \"static\"}\n", d, d)
			fmt.Fprintf(&departments, "\t\"d%d\": {name: \"Department %d\", speakers: [{github: \"octocat\", id: 583231}], contactDomains: [\"umich.edu\"]}\n", d, d)
		}
		header(w, "first", "")
		inline(w, "registrations/campus/networks.cue", networks.String()+"}\n")
		inline(w, "registrations/campus/departments.cue", departments.String()+"}\n")
		for i := range size {
			inline(w, largePath(i), largeFile(i, 200))
		}
		for i := range largeCommits {
			header(w, fmt.Sprintf("commit %d", i), "")
			inline(w, largePath(i*7%size), largeFile(i*7%size, 201+i%50))
		}
	})
	h.run("--git-dir", h.bare, "repack", "-q", "-a", "-d")
	return h
}

// What the register is made of, whatever its size.
const (
	largeDepartments = 200
	largeCommits     = 1000
)

func largePath(i int) string {
	return fmt.Sprintf("registrations/d%d/machine-%d.cue", i%largeDepartments, i/largeDepartments)
}

func largeFile(i, perHour int) string {
	n := i / largeDepartments
	text := strings.Replace(registration(1), `"141.211.13.1"`, fmt.Sprintf("\"35.%d.%d.%d\"", i%largeDepartments, n/250, 1+n%250), 1)
	text = strings.Replace(text, "lsa-physics", fmt.Sprintf("d%d", i%largeDepartments), 1)
	return strings.Replace(text, "perHour: 200", fmt.Sprintf("perHour: %d", perHour), 1)
}

func header(w *bufio.Writer, subject, from string) {
	fmt.Fprintf(w, "commit refs/heads/main\ncommitter Ada <ada@umich.edu> %d +0000\ndata %d\n%s\n", time.Now().Unix(), len(subject), subject)
	if from != "" {
		fmt.Fprintf(w, "from %s\n", from)
	}
}

func inline(w *bufio.Writer, path, text string) {
	fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
}

func (h *largeHost) run(args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (h *largeHost) fastImport(write func(*bufio.Writer)) {
	h.t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", "--git-dir", h.bare, "fast-import", "--quiet", "--force")
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	w := bufio.NewWriter(in)
	write(w)
	w.Flush()
	in.Close()
	if err := cmd.Wait(); err != nil {
		h.t.Fatal(err)
	}
	h.head = h.run("--git-dir", h.bare, "rev-parse", "main")
}

// merge changes one file on the branch and returns the new head.
func (h *largeHost) merge(i int) string {
	h.t.Helper()
	h.fastImport(func(w *bufio.Writer) {
		header(w, "a change", h.head)
		inline(w, largePath(i*13%h.size), largeFile(i*13%h.size, 300+i%500))
	})
	return h.head
}

func (h *largeHost) once(r *reconcile.Reconciler) {
	h.t.Helper()
	if err := r.Once(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// check measures the command on a request of one file, and on all files.
func (h *largeHost) check(command string) {
	h.t.Helper()
	work := filepath.Join(h.t.TempDir(), "work")
	h.run("clone", "-q", h.bare, work)
	path := filepath.Join(work, largePath(5))
	if err := os.WriteFile(path, []byte(largeFile(5, 999)), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.run("-C", work, "-c", "user.name=Ada", "-c", "user.email=ada@umich.edu", "commit", "-q", "-a", "-m", "a request")
	measure := func(what string, n int, args ...string) {
		var times []time.Duration
		for range n {
			cmd := exec.CommandContext(context.Background(), command, args...)
			began := time.Now()
			out, err := cmd.CombinedOutput()
			times = append(times, time.Since(began))
			if err != nil {
				h.t.Fatalf("%v\n%s", err, out)
			}
		}
		fmt.Printf("%-56s %10s\n", what, median(times).Round(time.Millisecond))
	}
	measure("gatepost check (all files)", 1, "check", "-C", work)
	measure("gatepost check --base, the first", 1, "check", "-C", work, "--base", "origin/main")
	measure("gatepost check --base (median of 5)", 5, "check", "-C", work, "--base", "origin/main")
	measure("gatepost plan --base (median of 5)", 5, "plan", "-C", work, "--base", "origin/main")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// resident is this process's memory, in octets, now and at most since it was
// asked last.
func resident(t *testing.T) (now, peak int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				*to = kib << 10
			}
		}
	}
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // begins the peak anew, where that is allowed
	return now, peak
}

// A timedSource adds up what each question takes.
type timedSource struct {
	reconcile.Source
	fetch, files, diff, read, other, disk time.Duration
	rounds                                int
}

func (s *timedSource) reset() { *s = timedSource{Source: s.Source} }

func (s *timedSource) print() {
	each := time.Duration(max(1, s.rounds))
	fmt.Printf("  of it, on average: fetch %s, list %s, compare %s, read %s, other questions %s, disk %s\n",
		s.fetch/each, s.files/each, s.diff/each, s.read/each, s.other/each, s.disk/each)
}

func timed(sum *time.Duration) func() {
	began := time.Now()
	return func() { *sum += time.Since(began) }
}

func (s *timedSource) Fetch(ctx context.Context) (gitsync.Hash, error) {
	s.rounds++
	defer timed(&s.fetch)()
	return s.Source.Fetch(ctx)
}

func (s *timedSource) Files(ctx context.Context, h gitsync.Hash, under ...string) ([]gitsync.Entry, error) {
	defer timed(&s.files)()
	return s.Source.Files(ctx, h, under...)
}

func (s *timedSource) Diff(ctx context.Context, old, new gitsync.Hash, under ...string) ([]gitsync.Change, error) {
	defer timed(&s.diff)()
	return s.Source.Diff(ctx, old, new, under...)
}

func (s *timedSource) Read(ctx context.Context, h gitsync.Hash, max int64) ([]byte, error) {
	defer timed(&s.read)()
	return s.Source.Read(ctx, h, max)
}

func (s *timedSource) Relation(ctx context.Context, old, new gitsync.Hash) (gitsync.Relation, error) {
	defer timed(&s.other)()
	return s.Source.Relation(ctx, old, new)
}

func (s *timedSource) Describe(ctx context.Context, h gitsync.Hash) (gitsync.Commit, error) {
	defer timed(&s.other)()
	return s.Source.Describe(ctx, h)
}

func (s *timedSource) Keep(ctx context.Context, h gitsync.Hash) error {
	defer timed(&s.other)()
	return s.Source.Keep(ctx, h)
}

// A timedDisk adds its time to the source's.
type timedDisk struct {
	faultyDisk
	source *timedSource
}

func (d *timedDisk) WriteFile(path string, pieces ...[]byte) error {
	defer timed(&d.source.disk)()
	return d.faultyDisk.WriteFile(path, pieces...)
}
