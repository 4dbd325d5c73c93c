package forge_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

// A home is a place for requests with the register of register() in it, and
// what people do to it by other means.
type home struct {
	forge interface {
		forge.Opener
		forge.Reader
	}
	merge   func(forge.Request) string
	drop    func(forge.Request) // closes it without merging
	content func(commit, path string) string
	push    func(branch string, changes ...forgetest.Change) string
	request func(branch string) int // makes a request of a pushed branch
	tip     func(branch string) string
}

// homes are all kinds of home.
var homes = map[string]func(*testing.T) home{
	"github": githubHome,
	"bare":   func(t *testing.T) home { return gitHome(t, true) },
	"checkout": func(t *testing.T) home {
		return gitHome(t, false)
	},
}

func githubHome(t *testing.T) home {
	hub, server := newHub(t)
	mona := hub.AddUser(77, "mona", "")
	return home{
		forge: client(t, server.URL),
		merge: func(r forge.Request) string { return hub.Merge(r.Number) },
		drop:  func(r forge.Request) { hub.Close(r.Number) },
		content: func(commit, path string) string {
			text, _ := hub.Content(commit, path)
			return text
		},
		push:    func(branch string, c ...forgetest.Change) string { return hub.Commit(branch, "Pushed", c...) },
		request: func(branch string) int { return hub.OpenPull(mona, branch, "Pushed") },
		tip:     hub.Branch,
	}
}

// gitRepo is a repository that git itself made, with git as the judge of what
// is written to it.
type gitRepo struct {
	t    *testing.T
	repo string // what OpenGit is given
	work string // a checkout to change things in
}

func (g gitRepo) run(dir string, args ...string) string {
	g.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Somebody", "GIT_AUTHOR_EMAIL=somebody@example.edu",
		"GIT_COMMITTER_NAME=Somebody", "GIT_COMMITTER_EMAIL=somebody@example.edu")
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func newGitRepo(t *testing.T, bare bool) gitRepo {
	t.Helper()
	needs(t, "git")
	dir := t.TempDir()
	g := gitRepo{t, filepath.Join(dir, "work"), filepath.Join(dir, "work")}
	g.run(dir, "init", "-q", "-b", "main", g.work)
	g.change(register()...)
	g.run(g.work, "commit", "-q", "-m", "The register")
	if bare {
		g.repo = filepath.Join(dir, "register.git")
		g.run(dir, "clone", "-q", "--bare", g.work, g.repo)
		g.run(g.work, "remote", "add", "origin", g.repo)
		g.run(g.work, "fetch", "-q", "origin")
	}
	return g
}

// change makes changes in the checkout and adds them to the index.
func (g gitRepo) change(changes ...forgetest.Change) {
	g.t.Helper()
	for _, c := range changes {
		path := filepath.Join(g.work, filepath.FromSlash(c.Path))
		err := os.RemoveAll(path)
		if !c.Remove {
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755))
			if c.Mode == "120000" {
				err = errors.Join(err, os.Symlink(c.Content, path))
			} else {
				err = errors.Join(err, os.WriteFile(path, []byte(c.Content), 0o644))
			}
		}
		if err != nil {
			g.t.Fatal(err)
		}
	}
	g.run(g.work, "add", "-A")
}

func gitHome(t *testing.T, bare bool) home {
	g := newGitRepo(t, bare)
	f, err := forge.OpenGit(g.repo)
	if err != nil {
		t.Fatal(err)
	}
	// Where the checkout is the home, it is left as it is: a second one merges.
	hand := filepath.Join(t.TempDir(), "hand")
	g.run(filepath.Dir(g.repo), "clone", "-q", g.repo, hand)
	publish := func(branch string) {
		if bare {
			g.run(hand, "push", "-q", "-f", "origin", "HEAD:"+branch)
		} else {
			g.run(g.repo, "fetch", "-q", "-f", "--update-head-ok", hand, "HEAD:refs/heads/"+branch)
			if branch == "main" {
				g.run(g.repo, "reset", "-q", "--hard")
			}
		}
	}
	at := g
	at.work = hand
	return home{
		forge: f,
		merge: func(r forge.Request) string {
			g.run(hand, "fetch", "-q", "origin")
			g.run(hand, "checkout", "-q", "-B", "main", "origin/main")
			g.run(hand, "merge", "-q", "--no-ff", "-m", fmt.Sprintf("Merge branch '%s'", r.Branch), r.Head)
			publish("main")
			return g.run(hand, "rev-parse", "HEAD")
		},
		drop:    func(r forge.Request) { g.run(g.repo, "branch", "-q", "-D", r.Branch) },
		content: func(commit, path string) string { return g.run(g.repo, "show", commit+":"+path) + "\n" },
		push: func(branch string, c ...forgetest.Change) string {
			g.run(hand, "fetch", "-q", "origin")
			from := "origin/" + branch
			if exec.Command("git", "-C", hand, "rev-parse", "-q", "--verify", from).Run() != nil {
				from = "origin/main"
			}
			g.run(hand, "checkout", "-q", "-B", "temporary", from)
			at.change(c...)
			g.run(hand, "commit", "-q", "--allow-empty", "-m", "Pushed")
			publish(branch)
			return g.run(hand, "rev-parse", "HEAD")
		},
		request: func(branch string) int {
			var n int
			fmt.Sscanf(branch, "request/%d-", &n)
			return n
		},
		tip: func(branch string) string { return g.run(g.repo, "rev-parse", "refs/heads/"+branch) },
	}
}

// eachHome runs a test in every kind of home.
func eachHome(t *testing.T, test func(*testing.T, home)) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(homes)) {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, homes[name](t)) })
	}
}

// shown is files in a line each.
func shown(files []forge.File) string {
	var b strings.Builder
	for _, f := range files {
		switch {
		case f.Removed:
			fmt.Fprintf(&b, "- %s\n", f.Path)
		case f.Mode != registration.Regular:
			fmt.Fprintf(&b, "! %s mode %d, %d bytes read\n", f.Path, f.Mode, len(f.Data))
		default:
			fmt.Fprintf(&b, "+ %s %d %q\n", f.Path, f.Size, f.Data)
		}
	}
	return b.String()
}

func filesOf(t *testing.T, h home, r forge.Request) string {
	t.Helper()
	files, err := h.forge.Files(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return shown(files)
}

// TestARequestFromOpeningToMerging is the life of a request.
func TestARequestFromOpeningToMerging(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		ctx, before := t.Context(), h.tip("main")
		r, err := h.forge.Open(ctx, proposal(write("registrations/lsa-physics/mfp3.cue", "// new\n"), write("registrations/its/alarm.cue", "// changed\n"), remove("registrations/lsa-physics/old.cue")))
		if err != nil {
			t.Fatal(err)
		}
		if r.State != forge.Open || r.Number != 1 || r.Title != "Register mfp3" || r.Body != "A printer in the print room." || r.Base != "main" || r.Fork {
			t.Errorf("opened: %+v", r)
		}
		if !strings.HasPrefix(r.Branch, "request/") || !strings.Contains(r.Branch, "lsa-physics-mfp3") || h.tip(r.Branch) != r.Head || h.tip("main") != before {
			t.Errorf("branch %s at %s, head %s", r.Branch, h.tip(r.Branch), r.Head)
		}
		if got := h.content(r.Head, "registrations/lsa-physics/mfp.cue"); got != "// printers\n" {
			t.Errorf("a file that nobody touched: %q", got)
		}
		want := "+ registrations/its/alarm.cue 11 \"// changed\\n\"\n+ registrations/lsa-physics/mfp3.cue 7 \"// new\\n\"\n- registrations/lsa-physics/old.cue\n"
		if got := filesOf(t, h, r); got != want {
			t.Errorf("files:\n%swant:\n%s", got, want)
		}
		got, err := h.forge.Get(ctx, 1)
		if err != nil || got.Files != 3 || got.Head != r.Head || got.Author != r.Author {
			t.Errorf("get: %+v, %v", got, err)
		}

		// What comes into the base meanwhile is none of the request's.
		h.push("main", forgetest.Change{Path: "registrations/its/other.cue", Content: "// other\n"})
		if got := filesOf(t, h, r); got != want {
			t.Errorf("after a push to main:\n%s", got)
		}
		commit := h.merge(r)
		got, err = h.forge.Get(ctx, 1)
		if err != nil || got.State != forge.Merged || got.MergedAs != commit {
			t.Errorf("merged as %s: %+v, %v", commit, got, err)
		}
		h.push("main", forgetest.Change{Path: "registrations/its/later.cue", Content: "// later\n"})
		if got, err = h.forge.Get(ctx, 1); err != nil || got.MergedAs != commit {
			t.Errorf("later: %+v, %v", got, err)
		}
		if got := filesOf(t, h, got); got != want {
			t.Errorf("files once merged:\n%s", got)
		}
	})
}

func TestTheSameProposalTwiceIsOneRequest(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		p := proposal(write("registrations/its/new.cue", "// new\n"))
		first, err := h.forge.Open(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		p.At = p.At.Add(3600e9)
		again, err := h.forge.Open(t.Context(), p)
		if err != nil || again.Number != first.Number || again.Head != first.Head {
			t.Errorf("%+v, then %+v, %v", first, again, err)
		}
		other, err := h.forge.Open(t.Context(), proposal(write("registrations/its/new.cue", "// newer\n")))
		if err != nil || other.Number != 2 {
			t.Errorf("another: %+v, %v", other, err)
		}
	})
}

// TestBuiltOnTheCommitThatWasJudged keeps a proposal from being judged on one
// register and made on another.
func TestBuiltOnTheCommitThatWasJudged(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		p := proposal(write("registrations/its/new.cue", "// new\n"))
		p.Parent = h.tip("main")
		h.push("main", forgetest.Change{Path: "registrations/its/other.cue", Content: "// other\n"})
		r, err := h.forge.Open(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if got := filesOf(t, h, r); got != "+ registrations/its/new.cue 7 \"// new\\n\"\n" {
			t.Errorf("files:\n%s", got)
		}
	})
}

func TestWhatCannotBeProposed(t *testing.T) {
	good := write("registrations/its/new.cue", "// new\n")
	changes := map[string]func(*forge.Proposal){
		"nothing":             func(p *forge.Proposal) { p.Changes = nil },
		"no base":             func(p *forge.Proposal) { p.Base = "" },
		"base is a flag":      func(p *forge.Proposal) { p.Base = "--upload-pack" },
		"base with dots":      func(p *forge.Proposal) { p.Base = "a..b" },
		"no title":            func(p *forge.Proposal) { p.Title = " " },
		"title of two lines":  func(p *forge.Proposal) { p.Title = "a\nb" },
		"long title":          func(p *forge.Proposal) { p.Title = strings.Repeat("a", 201) },
		"long body":           func(p *forge.Proposal) { p.Body = strings.Repeat("a", 60_001) },
		"parent is no commit": func(p *forge.Proposal) { p.Parent = "main" },
		"upwards":             func(p *forge.Proposal) { p.Changes[0].Path = "registrations/../x.cue" },
		"absolute":            func(p *forge.Proposal) { p.Changes[0].Path = "/x.cue" },
		"inside .git":         func(p *forge.Proposal) { p.Changes[0].Path = ".git/config" },
		"inside .GIT":         func(p *forge.Proposal) { p.Changes[0].Path = "a/.GIT/config" },
		"backslash":           func(p *forge.Proposal) { p.Changes[0].Path = `a\..\b` },
		"control character":   func(p *forge.Proposal) { p.Changes[0].Path = "a\nb" },
		"twice":               func(p *forge.Proposal) { p.Changes = append(p.Changes, good) },
		"file and folder":     func(p *forge.Proposal) { p.Changes = append(p.Changes, write(good.Path+"/x", "")) },
		"no change": func(p *forge.Proposal) {
			p.Changes = []forge.Change{write("registrations/its/alarm.cue", "// alarm\n")}
		},
	}
	eachHome(t, func(t *testing.T, h home) {
		for name, change := range changes {
			p := proposal(good)
			change(&p)
			if _, err := h.forge.Open(t.Context(), p); !errors.Is(err, forge.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		if list, err := h.forge.List(t.Context(), ""); err != nil || len(list) != 0 {
			t.Errorf("left behind: %+v, %v", list, err)
		}
	})
}

// TestFilesTellsEverything: what people push by other means than Open.
func TestFilesTellsEverything(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		h.push("request/5-mine",
			forgetest.Change{Path: "registrations/lsa-physics/old.cue", Remove: true},
			forgetest.Change{Path: "registrations/its/stolen.cue", Content: "// old\n"}, // renamed
			forgetest.Change{Path: "registrations/its/link.cue", Content: "../../../../etc/passwd", Mode: "120000"},
			forgetest.Change{Path: "schema/site.cue", Content: "#Registration: {}\n"},
			forgetest.Change{Path: "registrations/its/large.cue", Content: strings.Repeat("a", registration.MaxFile+1)},
			forgetest.Change{Path: "registrations/campus/networks.cue", Content: strings.Repeat("b", registration.MaxFile+1)},
		)
		n := h.request("request/5-mine")
		r, err := h.forge.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("+ registrations/campus/networks.cue %d %q\n", registration.MaxFile+1, strings.Repeat("b", registration.MaxFile+1)) +
			fmt.Sprintf("+ registrations/its/large.cue %d \"\"\n", registration.MaxFile+1) +
			"! registrations/its/link.cue mode 1, 0 bytes read\n" +
			"+ registrations/its/stolen.cue 7 \"// old\\n\"\n" +
			"- registrations/lsa-physics/old.cue\n" +
			"+ schema/site.cue 18 \"\"\n"
		if got := filesOf(t, h, r); got != want {
			t.Errorf("files:\n%.2000s", got)
		}
		// The head moves: the answer would be to another question.
		h.push("request/5-mine", forgetest.Change{Path: "registrations/its/more.cue", Content: "// more\n"})
		if _, err := h.forge.Files(t.Context(), r); !errors.Is(err, forge.ErrMoved) {
			t.Errorf("after a push: %v, want ErrMoved", err)
		}
	})
}

func TestTooManyFilesAreNotCut(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		if strings.HasSuffix(t.Name(), "/checkout") {
			return // reads as a bare repository does
		}
		var changes []forgetest.Change
		for i := range 301 {
			changes = append(changes, forgetest.Change{Path: fmt.Sprintf("registrations/its/f%03d.cue", i), Content: fmt.Sprint("// ", i)})
		}
		h.push("request/1-many", changes...)
		r, err := h.forge.Get(t.Context(), h.request("request/1-many"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.forge.Files(t.Context(), r); !errors.Is(err, forge.ErrTooMuch) {
			t.Errorf("301 files: %v, want ErrTooMuch", err)
		}
		h.push("request/1-many", forgetest.Change{Path: changes[0].Path, Remove: true})
		if r, err = h.forge.Get(t.Context(), r.Number); err != nil || r.Files != 300 {
			t.Fatalf("%+v, %v", r, err)
		}
		if files, err := h.forge.Files(t.Context(), r); err != nil || len(files) != 300 {
			t.Errorf("300 files: %d, %v", len(files), err)
		}
	})
}

func TestListByState(t *testing.T) {
	eachHome(t, func(t *testing.T, h home) {
		var made []forge.Request
		for i := range 3 {
			r, err := h.forge.Open(t.Context(), proposal(write(fmt.Sprintf("registrations/its/n%d.cue", i), "// new\n")))
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, r)
		}
		h.merge(made[0])
		h.drop(made[1])
		for state, want := range map[forge.State][]int{"": {3, 2, 1}, forge.Open: {3}, forge.Merged: {1}, forge.Closed: {2}} {
			list, err := h.forge.List(t.Context(), state)
			var got []int
			for _, r := range list {
				got = append(got, r.Number)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("List(%q) = %v, %v, want %v", state, got, err, want)
			}
		}
		// A number is never given out again, whatever became of its branch.
		r, err := h.forge.Open(t.Context(), proposal(write("registrations/its/last.cue", "// new\n")))
		if err != nil || r.Number != 4 {
			t.Errorf("next: %+v, %v", r, err)
		}
		if _, err := h.forge.Get(t.Context(), 99); !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("Get(99): %v", err)
		}
	})
}
