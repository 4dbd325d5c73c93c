package gitsync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
)

func TestMirrorFollowsTheBranch(t *testing.T) {
	for _, kind := range []string{"http", "bare path", "checkout path"} {
		t.Run(kind, func(t *testing.T) {
			h := newGitHost(t)
			m := h.mirror(func(o *gitsync.Options) {
				switch kind {
				case "bare path":
					o.Repository = h.bare
				case "checkout path":
					o.Repository = h.work
				}
			})
			h.write("registrations/a/one.cue", "1")
			first := h.commit("first")
			mustFetch(t, m, first)
			mustFetch(t, m, first) // nothing new
			h.write("registrations/a/two.cue", "2")
			second := h.commit("second")
			mustFetch(t, m, second)

			h.run(h.work, "reset", "-q", "--hard", first.String())
			h.push()
			mustFetch(t, m, first) // rewound
			h.write("registrations/a/three.cue", "3")
			third := h.commit("third")
			mustFetch(t, m, third) // diverged

			h.run(h.work, "checkout", "-q", "--orphan", "other")
			unrelated := h.commit("unrelated")
			h.run(h.work, "branch", "-f", "main", unrelated.String())
			mustFetch(t, m, unrelated)
			h.run(h.work, "checkout", "-q", "-B", "main", unrelated.String())

			for _, c := range []struct {
				old, new gitsync.Hash
				want     gitsync.Relation
			}{
				{first, first, gitsync.Same},
				{first, second, gitsync.Descends},
				{second, first, gitsync.Rewound},
				{second, third, gitsync.Diverged},
				{third, unrelated, gitsync.Diverged},
				{gitsync.Hash{1}, first, gitsync.Unknown},
			} {
				got, err := m.Relation(t.Context(), c.old, c.new)
				if err != nil || got != c.want {
					t.Errorf("Relation(%s, %s) = %v, %v; want %v", c.old, c.new, got, err, c.want)
				}
			}
			if _, err := m.Relation(t.Context(), first, gitsync.Hash{1}); !errors.Is(err, gitsync.ErrNoCommit) {
				t.Errorf("Relation to a commit that is not there: %v", err)
			}
		})
	}
}

func TestRelationThroughMerges(t *testing.T) {
	h := newGitHost(t)
	base := h.commit("base")
	h.run(h.work, "checkout", "-q", "-b", "side")
	h.write("s", "s")
	side := h.commit("side")
	h.run(h.work, "checkout", "-q", "main")
	h.write("m", "m")
	h.commit("main")
	h.run(h.work, "merge", "-q", "--no-ff", "-m", "Merge branch 'side'", "side")
	head := h.push()
	m := h.mirror()
	mustFetch(t, m, head)
	for _, old := range []gitsync.Hash{base, side} {
		if got, err := m.Relation(t.Context(), old, head); err != nil || got != gitsync.Descends {
			t.Errorf("Relation = %v, %v; want descends", got, err)
		}
	}
}

func TestFetchFailures(t *testing.T) {
	h := newGitHost(t)
	head := h.commit("first")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct {
		name   string
		change func(*gitsync.Options)
		want   error
	}{
		{"no such branch", func(o *gitsync.Options) { o.Branch = "gone" }, gitsync.ErrBranchGone},
		{"no such branch in a path", func(o *gitsync.Options) { o.Repository, o.Branch = h.bare, "gone" }, gitsync.ErrBranchGone},
		{"no such repository", func(o *gitsync.Options) { o.Repository = strings.Replace(h.url, "register", "nothing", 1) }, gitsync.ErrRefused},
		{"no such path", func(o *gitsync.Options) { o.Repository = "/nowhere/at/all" }, gitsync.ErrUnreachable},
		{"nobody listens", func(o *gitsync.Options) { o.Repository = "http://" + closed.Addr().String() + "/r.git" }, gitsync.ErrUnreachable},
		{"too large", func(o *gitsync.Options) { o.MaxBytes = 300 }, gitsync.ErrTooLarge},
		{"the forge that gives tokens is down", func(o *gitsync.Options) {
			o.Token = func(context.Context) (string, error) { return "", fmt.Errorf("%w: timeout", gitsync.ErrUnreachable) }
		}, gitsync.ErrUnreachable},
		{"the forge gives no more tokens", func(o *gitsync.Options) {
			o.Token = func(context.Context) (string, error) { return "", fmt.Errorf("%w: until noon", gitsync.ErrLimited) }
		}, gitsync.ErrLimited},
		{"no token to be had", func(o *gitsync.Options) {
			o.Token = func(context.Context) (string, error) { return "", fs.ErrNotExist }
		}, gitsync.ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.mirror(c.change).Fetch(t.Context())
			if !errors.Is(err, c.want) {
				t.Errorf("Fetch: %v, want %v", err, c.want)
			}
			if c.want != gitsync.ErrRefused && errors.Is(err, gitsync.ErrRefused) {
				t.Errorf("Fetch: %v, and that is nobody's refusal", err)
			}
		})
	}
	t.Run("an empty repository", func(t *testing.T) {
		h := newGitHost(t)
		if _, err := h.mirror().Fetch(t.Context()); !errors.Is(err, gitsync.ErrBranchGone) {
			t.Errorf("Fetch: %v", err)
		}
	})
	t.Run("the host is down, and the clone still serves", func(t *testing.T) {
		m := h.mirror()
		mustFetch(t, m, head)
		h.set(func(h *gitHost) { h.down = true })
		defer h.set(func(h *gitHost) { h.down = false })
		if _, err := m.Fetch(t.Context()); !errors.Is(err, gitsync.ErrUnreachable) {
			t.Errorf("Fetch: %v", err)
		}
		if _, err := m.Files(t.Context(), head); err != nil {
			t.Error(err)
		}
	})
	t.Run("a hung host", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		m := h.mirror(func(o *gitsync.Options) {
			o.Repository, o.Timeout = "http://"+l.Addr().String()+"/r.git", 50*time.Millisecond
		})
		if _, err := m.Fetch(t.Context()); !errors.Is(err, gitsync.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Fetch: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Fetch(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Fetch, cancelled: %v", err)
		}
	})
}

func TestOpenRefusesWhatCannotBeSafe(t *testing.T) {
	for _, o := range []gitsync.Options{
		{Repository: "file:///srv/register.git"},
		{Repository: "git@github.com:umich/register"},
		{Repository: "ext::sh -c whoami"},
		{Repository: "relative/path"},
		{Repository: ""},
		{Repository: "http://u:hunter2@git.example.edu/r.git"},
		{Repository: "https://u:hunter2@git.example.edu:port/r.git"},
		{Repository: "/srv/register.git", Branch: "a..b"},
	} {
		o.Dir = t.TempDir()
		_, err := gitsync.Open(t.Context(), o)
		if err == nil {
			t.Errorf("Open(%q) succeeded", o.Repository)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) tells the password: %v", o.Repository, err)
		}
	}
}

func TestTokensAreFreshAndNeverShown(t *testing.T) {
	h := newGitHost(t)
	head := h.commit("first")
	var log bytes.Buffer
	n := 0
	m := h.mirror(func(o *gitsync.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Token = func(context.Context) (string, error) { n++; return fmt.Sprintf("s3cret/%d\n", n), nil }
	})
	h.set(func(h *gitHost) { h.token = "s3cret/1" })
	mustFetch(t, m, head)
	h.set(func(h *gitHost) { h.token = "s3cret/2" })
	mustFetch(t, m, head)
	_, refused := m.Fetch(t.Context())
	if !errors.Is(refused, gitsync.ErrRefused) {
		t.Errorf("an old token: %v", refused)
	}
	h.set(func(h *gitHost) { h.down = true })
	_, down := m.Fetch(t.Context())
	shown := fmt.Sprintf("%v\n%+v\n%v\n%+v\n%s", refused, refused, down, down, log.String())
	if strings.Contains(shown, "s3cret") {
		t.Errorf("a token is shown:\n%s", shown)
	}

	h.set(func(h *gitHost) { h.down, h.token = false, "pa ss" })
	inURL := h.mirror(func(o *gitsync.Options) { o.Repository = strings.Replace(h.url, "http://", "http://bot:pa%20ss@", 1) })
	mustFetch(t, inURL, head)
	h.set(func(h *gitHost) { h.token = "other" })
	if _, err := inURL.Fetch(t.Context()); !errors.Is(err, gitsync.ErrRefused) || strings.Contains(err.Error(), "pa ss") || strings.Contains(err.Error(), "pa%20ss") {
		t.Errorf("credentials in the URL: %v", err)
	}
}

func TestKeptCommitSurvivesARewriteAndRecloning(t *testing.T) {
	h := newGitHost(t)
	base := h.commit("base")
	h.write("registrations/a/one.cue", "1")
	good := h.commit("good")
	dir := t.TempDir()
	o := gitsync.Options{Repository: h.url, Dir: dir, MaxPacks: 1}
	m := mustOpen(t, o)
	mustFetch(t, m, good)
	if err := m.Keep(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	h.run(h.work, "reset", "-q", "--hard", base.String())
	for i := range 4 { // each fetch adds a pack, so recloning is tried
		h.write("other", fmt.Sprint(i))
		mustFetch(t, m, h.commit("other"))
		if got, err := m.Relation(t.Context(), good, h.head()); err != nil || got != gitsync.Diverged {
			t.Fatalf("Relation = %v, %v", got, err)
		}
	}
	if _, err := m.Files(t.Context(), good); err != nil {
		t.Errorf("the kept commit: %v", err)
	}
	if err := m.Keep(t.Context(), gitsync.Hash{1}); err == nil {
		t.Error("Keep of a commit that is not there succeeded")
	}
}

func TestManyPacksAreClonedAnew(t *testing.T) {
	h := newGitHost(t)
	dir := t.TempDir()
	m := mustOpen(t, gitsync.Options{Repository: h.url, Dir: dir, MaxPacks: 3})
	first := h.commit("first")
	mustFetch(t, m, first)
	if err := m.Keep(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	most := 0
	for i := range 8 {
		h.write("f", fmt.Sprint(i))
		mustFetch(t, m, h.commit("more"))
		packs, err := filepath.Glob(filepath.Join(dir, "register.git/objects/pack/*.pack"))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(packs))
		if got, err := m.Relation(t.Context(), first, h.head()); err != nil || got != gitsync.Descends {
			t.Fatalf("Relation = %v, %v", got, err)
		}
	}
	if most > 5 {
		t.Errorf("%d packs", most)
	}
	again := mustOpen(t, gitsync.Options{Repository: h.url, Dir: dir})
	if _, err := again.Files(t.Context(), h.head()); err != nil {
		t.Error(err)
	}
}

func TestDamagedCloneIsReplaced(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", strings.Repeat("one ", 1000))
	head := h.commit("first")
	spoil := func(pattern string, f func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(found) == 0 {
				t.Fatalf("%s: %v, %v", pattern, found, err)
			}
			for _, p := range found {
				os.Chmod(p, 0o600)
				if err := f(p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	scribble := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.Repeat([]byte{0xa5}, int(info.Size())), 0o600)
	}
	cut := func(path string) error { return os.Truncate(path, 40) }
	empty := func(path string) error { return os.Truncate(path, 0) }
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, string)
	}{
		{"packs gone", spoil("register.git/objects/pack/*.pack", os.Remove)},
		{"packs scribbled over", spoil("register.git/objects/pack/*.pack", scribble)},
		{"packs cut", spoil("register.git/objects/pack/*.pack", cut)},
		{"index scribbled over", spoil("register.git/objects/pack/*.idx", scribble)},
		{"index cut", spoil("register.git/objects/pack/*.idx", cut)},
		{"objects gone", spoil("register.git/objects", os.RemoveAll)},
		{"HEAD empty", spoil("register.git/HEAD", empty)},
		{"references empty", spoil("register.git/refs/gatepost/*", empty)},
		{"config is rubbish", spoil("register.git/config", scribble)},
		{"a file instead of a folder", spoil("register.git", func(p string) error {
			return errors.Join(os.RemoveAll(p), os.WriteFile(p, []byte("x"), 0o600))
		})},
		{"a swap cut short", spoil("register.git", func(p string) error {
			return errors.Join(os.Rename(p, p+".old"), os.Mkdir(p+".new", 0o700))
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, when := range []string{"before a start", "while running"} {
				dir := t.TempDir()
				m := mustOpen(t, gitsync.Options{Repository: h.url, Dir: dir})
				mustFetch(t, m, head)
				if err := m.Keep(t.Context(), head); err != nil {
					t.Fatal(err)
				}
				c.spoil(t, dir)
				if when == "before a start" {
					m = mustOpen(t, gitsync.Options{Repository: h.url, Dir: dir})
				}
				// A running mirror may notice only when it is asked for a file.
				for try := 0; ; try++ {
					err := readAll(t, m)
					if err == nil {
						break
					}
					if try == 2 {
						t.Fatalf("%s: still %v", when, err)
					}
				}
			}
		})
	}
}

// readAll fetches and reads every file.
func readAll(t *testing.T, m *gitsync.Mirror) error {
	head, err := m.Fetch(t.Context())
	if err != nil {
		return err
	}
	list, err := m.Files(t.Context(), head)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("no files")
	}
	for _, e := range list {
		if _, err := m.Read(t.Context(), e.Hash, 1<<20); err != nil {
			return err
		}
	}
	return nil
}

func TestOpenInPlaceSeesRepacksAndPushes(t *testing.T) {
	h := newGitHost(t)
	h.write("a", "1")
	head := h.commit("first")
	m := h.mirror(func(o *gitsync.Options) { o.Repository = h.bare })
	mustFetch(t, m, head)
	if err := readAll(t, m); err != nil {
		t.Fatal(err)
	}
	h.run(h.bare, "gc", "-q", "--prune=now")
	list, err := m.Files(t.Context(), head) // without a Fetch in between
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(t.Context(), list[0].Hash, 10); err != nil {
		t.Error(err)
	}
	if err := m.Keep(t.Context(), head); err != nil {
		t.Error(err)
	}
	if refs := h.run(h.bare, "for-each-ref", "--format=%(refname)"); refs != "refs/heads/main" {
		t.Errorf("a repository of somebody else was written to: %s", refs)
	}
}

func TestReadersGoOnDuringFetches(t *testing.T) {
	h := newGitHost(t)
	h.write("registrations/a/one.cue", "1")
	head := h.commit("first")
	m := h.mirror(func(o *gitsync.Options) { o.MaxPacks = 1 }) // swaps all the time
	mustFetch(t, m, head)
	stop, stopped := make(chan struct{}), make(chan error, 2)
	for range cap(stopped) {
		go func() {
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				list, err := m.Files(t.Context(), head)
				if err == nil {
					_, err = m.Read(t.Context(), list[0].Hash, 10)
				}
				if err != nil {
					stopped <- err
					return
				}
			}
		}()
	}
	for i := range 5 {
		h.write("f", fmt.Sprint(i))
		mustFetch(t, m, h.commit("more"))
	}
	close(stop)
	for range cap(stopped) {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}
