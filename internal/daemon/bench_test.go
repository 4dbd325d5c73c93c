package daemon_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

var (
	rounds   = flag.Int("rounds", 1, "how often TestBench measures each relay in each case, in turn")
	phase    = flag.Duration("phase", 0, "how long TestBench loads a relay in one measurement; 0: with 50 messages")
	gatepost = flag.String("gatepostd", "", "the daemon that TestBench measures; default: this test program")
	only     = flag.String("case", "", "the cases of TestBench whose names contain this; default: all")
)

// A benchCase is a load of TestBench: by smtp-source where that can make it, or
// by a source of ours.
type benchCase struct {
	name  string
	own   bool
	brief bool // even where nothing is measured, to see that it works
	source
}

var benchCases = []benchCase{
	{"100 sessions, 4 KiB, a connection a message", false, false, source{sessions: 100, octets: 4096}},
	{"100 sessions, 4 KiB, connections kept", false, true, source{sessions: 100, octets: 4096, reuse: true}},
	{"20 sessions, 4 KiB, a connection a message", false, false, source{sessions: 20, octets: 4096}},
	{"20 sessions, 4 KiB, connections kept", false, false, source{sessions: 20, octets: 4096, reuse: true}},
	{"1 session, 4 KiB, a connection a message", false, false, source{sessions: 1, octets: 4096}},
	{"20 sessions, 200 kB, connections kept", false, true, source{sessions: 20, octets: 200_000, reuse: true}},
	{"20 sessions, 4 KiB, kept, commands pipelined", true, false, source{sessions: 20, octets: 4096, reuse: true, pipelined: true}},
	{"20 sessions, 4 KiB, kept, BDAT pipelined", true, true, source{sessions: 20, octets: 4096, reuse: true, bdat: true}},
	{"20 sessions, 4 KiB, kept, TLS in and out", true, true, source{sessions: 20, octets: 4096, reuse: true, startTLS: true}},
}

// A contender is a relay that hands everything to the sink.
type contender interface {
	name() string
	addr() string
	fresh()             // before a measurement: nothing queued, no budget used
	cpu() time.Duration // used so far, of ended processes too
	memory() int64      // octets: the resident set at most since fresh, or what comes closest
	end()
}

// TestBench sends the same load through Gatepost and through Postfix, turn by
// turn, and prints both columns and their ratio: medians of the rounds. Nothing
// is asserted but that all that was accepted arrives. "make bench" runs it.
func TestBench(t *testing.T) {
	needs(t, "postfix", "smtp-source", "smtp-sink")
	fmt.Print("| load | | Gatepost | Postfix | ratio |\n|---|---|---|---|---|\n")
	for _, secure := range []bool{false, true} {
		var cases []benchCase
		for _, c := range benchCases {
			if c.startTLS == secure && strings.Contains(c.name, *only) && (*phase > 0 || c.brief) {
				cases = append(cases, c)
			}
		}
		if len(cases) > 0 {
			bench(t, secure, cases)
		}
	}
}

func bench(t *testing.T, secure bool, cases []benchCase) {
	g := newGatepost(t)
	defer g.end()
	to, cert := sink{}, ""
	if secure {
		cert = g.dir
		to = newTLSSink(t, cert)
	} else {
		to = newSink(t)
	}
	g.hop.addr = to.addr
	p := newPostfix(t, to.addr, cert)
	defer p.end()
	relays := []contender{g, p}
	for _, c := range cases {
		var got [2][]measure
		n := [2]int{50, 50}
		for i, r := range relays {
			if *phase > 0 { // how fast is it, about?
				r.fresh()
				to.run(t, r, c, 100)
				m := to.run(t, r, c, 400)
				n[i] = min(90_000, max(500, int(m.accepted*phase.Seconds())))
			}
		}
		for range *rounds {
			for i, r := range relays {
				r.fresh()
				to.run(t, r, c, n[i]/10)
				got[i] = append(got[i], to.run(t, r, c, n[i]))
			}
		}
		printRow(c.name, "accepted a second", got, func(m measure) float64 { return m.accepted }, "%.0f", false)
		printRow("", "delivered a second", got, func(m measure) float64 { return m.delivered }, "%.0f", false)
		printRow("", "CPU seconds for 1,000", got, func(m measure) float64 { return m.cpu }, "%.3f", true)
		printRow("", "memory, MiB", got, func(m measure) float64 { return m.memory }, "%.0f", true)
	}
}

// printRow prints the medians of two relays. The ratio says how many times
// better the first is.
func printRow(load, what string, got [2][]measure, of func(measure) float64, format string, less bool) {
	var mid [2]float64
	for i := range got {
		var all []float64
		for _, m := range got[i] {
			all = append(all, of(m))
		}
		mid[i] = median(all)
	}
	ratio := mid[0] / mid[1]
	if less {
		ratio = mid[1] / mid[0]
	}
	fmt.Printf("| %s | %s | "+format+" | "+format+" | %.1f× |\n", load, what, mid[0], mid[1], ratio)
}

// A measure is what one load came to.
type measure struct {
	accepted, delivered float64 // messages a second, from the first connection on
	cpu                 float64 // seconds of the relay for 1,000 messages
	memory              float64 // MiB
}

// A sink is where the relays send to.
type sink struct {
	addr     string
	messages func() int // how many it has been given
}

// newSink is Postfix's smtp-sink. It counts in a file, as a reader of a pipe
// would be woken up for each message.
func newSink(t *testing.T) sink {
	t.Helper()
	addr := freeAddr(t)
	count, err := os.CreateTemp(t.TempDir(), "count")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", addr, "1000"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	cmd := exec.Command("smtp-sink", args...)
	cmd.Stdout = count
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		count.Close()
	})
	listens(t, addr)
	return sink{addr, func() int { return lastCount(t, count) }}
}

// listens waits until somebody listens.
func listens(t *testing.T, addr string) {
	t.Helper()
	until(t, addr+" is listened on", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// until polls another process for five minutes at most.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 5 minutes: %s", what)
		}
	}
}

// lastCount is what smtp-sink has written last: "sess=3 quit=2 mesg=17\r".
func lastCount(t *testing.T, file *os.File) int {
	t.Helper()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tail := make([]byte, 128)
	n, _ := file.ReadAt(tail, max(0, info.Size()-int64(len(tail))))
	text := string(tail[:n])
	end := strings.LastIndexByte(text, '\r') // it may be within a write
	begin := strings.LastIndex(text[:max(0, end)], "mesg=")
	if begin < 0 {
		return 0
	}
	count, err := strconv.Atoi(text[begin+len("mesg=") : end])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// run sends n messages through a relay and waits until the sink has them.
func (s sink) run(t *testing.T, r contender, c benchCase, n int) measure {
	t.Helper()
	before, cpu := s.messages(), r.cpu()
	began := time.Now()
	if err := c.load(r.addr(), n); err != nil {
		t.Fatalf("%s through %s: %v", c.name, r.name(), err)
	}
	accepted := time.Since(began)
	until(t, fmt.Sprintf("the sink has %d messages of %s", n, r.name()), func() bool { return s.messages()-before >= n })
	delivered := time.Since(began)
	used := r.cpu() - cpu
	if got := s.messages() - before; got != n {
		t.Errorf("%d messages of %s came as %d", n, r.name(), got)
	}
	return measure{
		accepted: float64(n) / accepted.Seconds(), delivered: float64(n) / delivered.Seconds(),
		cpu: used.Seconds() * 1000 / float64(n), memory: float64(r.memory()) / (1 << 20),
	}
}

// load sends n messages.
func (c benchCase) load(addr string, n int) error {
	if c.own {
		c.addr = addr
		return c.send(n)
	}
	args := []string{"-s", strconv.Itoa(c.sessions), "-m", strconv.Itoa(n), "-l", strconv.Itoa(c.octets), "-f", "device@lab.example", "-t", "someone@example.org"}
	if c.reuse {
		args = append(args, "-d")
	}
	if out, err := exec.Command("smtp-source", append(args, addr)...).CombinedOutput(); err != nil {
		return fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	return nil
}

// gatepostRelay is the daemon with all that it has switched on.
type gatepostRelay struct {
	*world
	output *os.File
}

func newGatepost(t *testing.T) *gatepostRelay {
	t.Helper()
	w := newWorld(t)
	w.poll = "30s"
	w.extra = "limits: {sessionsPerAddress: 1000, sessionsPerRegistration: 1000, minutePart: 1}\n"
	w.binary = *gatepost
	output, err := os.Create(filepath.Join(w.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	w.output = output
	return &gatepostRelay{w, output}
}

func (g *gatepostRelay) name() string { return "Gatepost" }
func (g *gatepostRelay) addr() string { return g.relay }
func (g *gatepostRelay) end()         { g.stop(); g.output.Close() }

func (g *gatepostRelay) fresh() {
	g.stop()
	if err := os.Remove(filepath.Join(g.state, "limits")); err != nil && !os.IsNotExist(err) {
		g.t.Fatal(err)
	}
	g.start()
	g.waitReport("the first sync is over", func(r status.Report) bool { return r.Queue.Entries == 0 && !r.Queue.Loading })
}

func (g *gatepostRelay) cpu() time.Duration { return processes()[g.proc.Process.Pid].self }

func (g *gatepostRelay) memory() int64 {
	_, peak := g.world.memory()
	return peak
}

// postfixRelay is Debian's Postfix as it comes, but for where it listens, what
// it lets in, and where it sends.
type postfixRelay struct {
	t              *testing.T
	dir, conf, tcp string
}

// cert is the folder of a certificate, for TLS in and out; "": without.
func newPostfix(t *testing.T, hop, cert string) *postfixRelay {
	t.Helper()
	p := &postfixRelay{t: t, tcp: freeAddr(t)}
	w := &world{t: t, dir: t.TempDir()}
	w.traversable()
	p.dir = filepath.Join(w.dir, "postfix")
	p.conf = filepath.Join(p.dir, "conf")
	plain := strings.Replace(postfixMain, "smtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 1\n", "", 1)
	if cert != "" {
		plain += "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = CERT/cert.pem\nsmtpd_tls_key_file = CERT/key.pem\nsmtp_tls_security_level = may\n"
	}
	w.template("postfix/conf/main.cf", plain, "CERT", cert, "DIR", w.dir, "RELAY", port(hop))
	w.template("postfix/conf/master.cf", postfixMaster, "PORT", port(p.tcp))
	for _, dir := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(p.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.root("chown", "-R", "root", p.dir)
	p.root("chown", "postfix", filepath.Join(p.dir, "data"))
	p.root("postfix", "-c", p.conf, "start")
	listens(t, p.tcp)
	return p
}

func (p *postfixRelay) root(args ...string) {
	p.t.Helper()
	args = asRoot(args...)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		p.t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

func (p *postfixRelay) name() string { return "Postfix" }
func (p *postfixRelay) addr() string { return p.tcp }
func (p *postfixRelay) fresh()       {}

func (p *postfixRelay) end() {
	p.root("postfix", "-c", p.conf, "abort")
	p.root("rm", "-rf", p.dir)
}

// family is the process that began Postfix and all that it has begun.
func (p *postfixRelay) family() (pids []int, all map[int]process) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "queue", "pid", "master.pid"))
	if err != nil {
		p.t.Fatal(err)
	}
	master, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		p.t.Fatal(err)
	}
	all = processes()
	pids = []int{master}
	for i := 0; i < len(pids); i++ {
		for pid, proc := range all {
			if proc.parent == pids[i] {
				pids = append(pids, pid)
			}
		}
	}
	return pids, all
}

func (p *postfixRelay) cpu() (used time.Duration) {
	pids, all := p.family()
	for _, pid := range pids {
		used += all[pid].self + all[pid].children
	}
	return used
}

// memory is proportional: what processes share is counted once. It is that of
// now, which is close to the peak, as Postfix keeps idle processes.
func (p *postfixRelay) memory() (octets int64) {
	pids, _ := p.family()
	for _, pid := range pids {
		args := asRoot("cat", fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			continue // it has ended meanwhile
		}
		for line := range strings.Lines(string(out)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					p.t.Fatal(err)
				}
				octets += kib << 10
			}
		}
	}
	return octets
}

// A process is a line of /proc/PID/stat.
type process struct {
	parent         int
	self, children time.Duration // processor time; children: of those that ended
}

// processes are all of this machine, by number.
func processes() map[int]process {
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything but this
		f := strings.Fields(rest)
		if len(f) < 15 {
			continue
		}
		number := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
		const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
		all[pid] = process{int(number(1)), time.Duration(number(11)+number(12)) * tick, time.Duration(number(13)+number(14)) * tick}
	}
	return all
}

// profile writes where the processor's time goes into a file; "": not at all.
func profile(name string) (end func()) {
	if name == "" {
		return func() {}
	}
	f, err := os.Create(name)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }
}
