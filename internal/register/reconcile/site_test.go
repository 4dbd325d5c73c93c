package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

var today = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A site is a register in a real git repository, a relay's reconciler that
// follows it, and everything that can be made to fail between the two.
type site struct {
	t         *testing.T
	work      string
	dir       string // the relay's state
	source    *faultySource
	disk      *faultyDisk
	live      *policy.Live
	accepted  []reconcile.Accepted
	acceptErr error // what OnAccept answers
	approver  reconcile.Approver
	program   string    // see Options.Program
	now       time.Time // what Options.Now says; zero: today
	r         *reconcile.Reconciler
}

// newSite makes a register with the campus files and one commit, and a
// reconciler that has not run yet.
func newSite(t *testing.T) *site {
	t.Helper()
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	s := &site{t: t, work: t.TempDir(), dir: t.TempDir(), disk: &faultyDisk{}, program: "this one"}
	s.git("init", "-q", "-b", "main")
	s.write("registrations/README.md", "how to register")
	s.write("registrations/campus/networks.cue", networks)
	s.write("registrations/campus/departments.cue", departments)
	mirror, err := gitsync.Open(t.Context(), gitsync.Options{Repository: s.work})
	if err != nil {
		t.Fatal(err)
	}
	s.source = &faultySource{Source: mirror}
	s.restart()
	return s
}

// restart makes a new reconciler and a new Live over the same state.
func (s *site) restart() {
	s.t.Helper()
	s.live = new(policy.Live)
	var err error
	s.r, err = reconcile.New(s.options())
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) options() reconcile.Options {
	return reconcile.Options{
		Source: s.source, Dir: s.dir, Live: s.live, Disk: s.disk, MaxRemovals: 0.3, Program: s.program,
		Now: func() time.Time {
			if s.now.IsZero() {
				return today
			}
			return s.now
		},
		OnAccept: func(_ context.Context, a reconcile.Accepted) error {
			if s.acceptErr != nil {
				return s.acceptErr
			}
			s.accepted = append(s.accepted, a)
			return nil
		},
		Approver: s.approver,
	}
}

func (s *site) git(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Dir = s.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@umich.edu", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@umich.edu")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *site) write(path, content string) {
	s.t.Helper()
	full := filepath.Join(s.work, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) remove(path string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.work, path)); err != nil {
		s.t.Fatal(err)
	}
}

// commit commits the work tree and gives the hash.
func (s *site) commit() string {
	s.t.Helper()
	s.git("add", "-A")
	out := s.git("-c", "core.abbrev=40", "commit", "--allow-empty", "--no-status", "-m", "a change") // [main abc…] a change
	out, _, _ = strings.Cut(out, "]")
	return out[strings.LastIndex(out, " ")+1:]
}

// once runs a round that must not fail.
func (s *site) once() {
	s.t.Helper()
	if err := s.r.Once(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// begin registers printers 1 to n, one file each, and runs the first round.
func (s *site) begin(n int) string {
	s.t.Helper()
	for i := 1; i <= n; i++ {
		s.write(printer(i), registration(i))
	}
	head := s.commit()
	s.once()
	s.want(head, seq(1, n)...)
	return head
}

// want checks what is in force: the commit, and the last octets of the
// addresses that may send.
func (s *site) want(commit string, hosts ...int) {
	s.t.Helper()
	snapshot := s.live.Load()
	if got := snapshot.Commit(); got != commit {
		s.t.Errorf("commit %q is in force, want %q", got, commit)
	}
	if got := s.r.State().Accepted; got != commit {
		s.t.Errorf("State.Accepted = %q, want %q", got, commit)
	}
	if got := admitted(snapshot); !slices.Equal(got, hosts) {
		s.t.Errorf("admitted: %v, want %v", got, hosts)
	}
}

// admitted are the last octets of the addresses that may send.
func admitted(s *policy.Snapshot) []int {
	var got []int
	for i := range 255 {
		if s.Lookup(address(i), today).Standing == policy.Registered {
			got = append(got, i)
		}
	}
	return got
}

// rules are the files and rules of the errors that State reports.
func (s *site) rules() string {
	var out []string
	for _, p := range s.r.State().Problems {
		if p.Severity == "error" {
			out = append(out, filepath.Base(p.File)+" "+string(p.Rule))
		}
	}
	return strings.Join(out, ", ")
}

func (s *site) condition(want reconcile.Condition, why string) {
	s.t.Helper()
	state := s.r.State()
	if state.Condition != want || !strings.Contains(state.Why, why) {
		s.t.Errorf("condition %q because %q, want %q because … %q …", state.Condition, state.Why, want, why)
	}
}

func seq(from, to int) []int {
	var out []int
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{141, 211, 13, byte(i)}) }

func printer(i int) string { return fmt.Sprintf("registrations/lsa-physics/mfp%d.cue", i) }

const networks = `campus: ["141.211.0.0/16"]
networks: {
	"141.211.13.0/24": {department: "lsa-physics", use: "static"}
}
`

const departments = `departments: "lsa-physics": {
	name: "Physics"
	speakers: [{github: "octocat", id: 583231}]
	contactDomains: ["umich.edu"]
}
`

// registration is a valid registration of the given addresses.
func registration(hosts ...int) string {
	var list strings.Builder
	for _, i := range hosts {
		fmt.Fprintf(&list, "\t{ip: %q, name: \"mfp%d.physics.lsa.umich.edu\", kind: \"printer\"},\n", address(i), i)
	}
	return fmt.Sprintf(`department: "lsa-physics"
contact: {name: "Physics IT", email: "physics-it@umich.edu"}
purpose:   "Scan-to-email from a multifunction printer."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
%s]
volume:  {perHour: 200, perDay: 1000}
expires: "2027-11-20"
accept:  {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, list.String())
}

// block is a block of one address.
func block(i int) string {
	return fmt.Sprintf("block: {ip: %q, reason: \"sent too much\", since: \"2026-11-22T08:00:00Z\"}\n", address(i))
}

// A faultySource fails where it is told to.
type faultySource struct {
	reconcile.Source
	fetch, relation, files, read, describe, keep, line, diff error
	reads                                                    int
}

func (f *faultySource) Fetch(ctx context.Context) (gitsync.Hash, error) {
	if f.fetch != nil {
		return gitsync.Hash{}, f.fetch
	}
	return f.Source.Fetch(ctx)
}

func (f *faultySource) Relation(ctx context.Context, old, new gitsync.Hash) (gitsync.Relation, error) {
	if f.relation != nil {
		return gitsync.Unknown, f.relation
	}
	return f.Source.Relation(ctx, old, new)
}

func (f *faultySource) Files(ctx context.Context, h gitsync.Hash, under ...string) ([]gitsync.Entry, error) {
	if f.files != nil {
		return nil, f.files
	}
	return f.Source.Files(ctx, h, under...)
}

func (f *faultySource) Diff(ctx context.Context, old, new gitsync.Hash, under ...string) ([]gitsync.Change, error) {
	if err := errors.Join(f.files, f.diff); err != nil {
		return nil, err
	}
	return f.Source.Diff(ctx, old, new, under...)
}

func (f *faultySource) Read(ctx context.Context, h gitsync.Hash, max int64) ([]byte, error) {
	f.reads++
	if f.read != nil {
		return nil, f.read
	}
	return f.Source.Read(ctx, h, max)
}

func (f *faultySource) Describe(ctx context.Context, h gitsync.Hash) (gitsync.Commit, error) {
	if f.describe != nil {
		return gitsync.Commit{}, f.describe
	}
	return f.Source.Describe(ctx, h)
}

func (f *faultySource) Line(ctx context.Context, old, new gitsync.Hash, max int) ([]gitsync.Step, error) {
	if f.line != nil {
		return nil, f.line
	}
	return f.Source.Line(ctx, old, new, max)
}

func (f *faultySource) Keep(ctx context.Context, h gitsync.Hash) error {
	if f.keep != nil {
		return f.keep
	}
	return f.Source.Keep(ctx, h)
}

// A faultyDisk fails to write a file of the given name; after, not before,
// writing it, if lying is set, as when the power goes just then.
type faultyDisk struct {
	refuse string
	lying  bool
}

var errDisk = errors.New("no space left on device")

func (d *faultyDisk) ReadFile(path string, max int64) ([]byte, error) {
	return durable.ReadFile(path, max)
}

func (d *faultyDisk) Remove(path string) error { return os.Remove(path) }

func (d *faultyDisk) WriteFile(path string, pieces ...[]byte) error {
	if filepath.Base(path) == d.refuse {
		if d.lying {
			if err := durable.WritePieces(path, 0o600, pieces...); err != nil {
				return err
			}
		}
		return errDisk
	}
	return durable.WritePieces(path, 0o600, pieces...)
}
