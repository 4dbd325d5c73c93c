package forge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

// foldersOf is what a caller has who has a commit of the hub's.
func foldersOf(hub *forgetest.Hub, commit string) forge.Folders {
	return func(_ context.Context, dir string) (map[string]forge.Known, error) {
		list := hub.Listing(commit, dir)
		if list == nil {
			return nil, nil
		}
		out := map[string]forge.Known{}
		for name, f := range list {
			mode := map[string]registration.Mode{"120000": registration.Symlink, "160000": registration.Submodule}[f.Mode]
			out[name] = forge.Known{Hash: f.SHA, Mode: mode, Folder: f.Mode == "040000"}
		}
		return out, nil
	}
}

// TestSinceIsTheDifferenceOfTwoTrees holds Since to comparing two whole lists,
// over pairs of trees with every kind of change.
func TestSinceIsTheDifferenceOfTwoTrees(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	g := client(t, server.URL)
	random := rand.New(rand.NewPCG(3, 4))
	paths := []string{
		"registrations/its/a.cue", "registrations/its/b.cue", "registrations/lsa/deep/a.cue", "registrations/lsa/deep/er/a.cue",
		"registrations/lsa", "registrations/its", "registrations/README.md", "schema/site.cue", "schema", "README.md", "internal/x.go",
	}
	commit := func(name string) string {
		files := map[string]bool{}
		var changes []forgetest.Change
		for _, p := range slices.Sorted(slices.Values(paths)) {
			inside := slices.ContainsFunc(changes, func(c forgetest.Change) bool { return strings.HasPrefix(p, c.Path+"/") })
			if random.IntN(3) == 0 || inside {
				continue
			}
			if (p == "registrations/lsa" || p == "registrations/its" || p == "schema") && random.IntN(4) != 0 {
				continue
			}
			mode := []string{"100644", "100644", "100644", "100755", "120000"}[random.IntN(5)]
			changes = append(changes, forgetest.Change{Path: p, Content: fmt.Sprint("// ", random.IntN(2)), Mode: mode})
			files[p] = true
		}
		hub.SetBranch(name, hub.Branch("empty"))
		return hub.Commit(name, "x", changes...)
	}
	var gone []forgetest.Change
	for p := range hub.Files(hub.Branch("main")) {
		gone = append(gone, forgetest.Change{Path: p, Remove: true})
	}
	hub.Commit("empty", "Nothing", gone...)
	for i := range 60 {
		was, is := commit("was"), commit("is")
		got, err := g.Since(t.Context(), is, foldersOf(hub, was), "registrations", "schema/site.cue")
		if err != nil {
			t.Fatal(err)
		}
		mine := func(p string) bool {
			return p == "registrations" || strings.HasPrefix(p, "registrations/") || p == "schema/site.cue"
		}
		exec := func(f forgetest.File) forgetest.File { // whether it can be run is no matter
			f.Mode = strings.Replace(f.Mode, "100755", "100644", 1)
			return f
		}
		before, after := hub.Files(was), hub.Files(is)
		want := map[string]string{}
		for p, f := range after {
			if old, had := before[p]; mine(p) && (!had || exec(old) != exec(f)) {
				want[p] = f.SHA
			}
		}
		for p := range before {
			if _, has := after[p]; mine(p) && !has {
				want[p] = ""
			}
		}
		for _, f := range got {
			blob, listed := want[f.Path]
			if !listed || blob != f.Blob || f.Removed != (blob == "") {
				t.Errorf("pair %d: %s %v %s, want %v %s", i, f.Path, f.Removed, f.Blob, listed, blob)
			}
			content, _ := hub.Content(is, f.Path)
			if kind := registration.Kind(f.Path); kind == registration.KindRegistration && !f.Removed && f.Mode == registration.Regular && string(f.Data) != content {
				t.Errorf("pair %d: %s has %q", i, f.Path, f.Data)
			}
			delete(want, f.Path)
		}
		if len(want) > 0 {
			t.Errorf("pair %d: left out: %v", i, want)
		}
	}
}

// TestSinceCostsTheChange: a folder that is the same is not read.
func TestSinceCostsTheChange(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	g := client(t, server.URL)
	was := hub.Branch("main")
	is := hub.Commit("mine", "x", forgetest.Change{Path: "registrations/its/new.cue", Content: "// new\n"})
	before := len(hub.Calls())
	if files, err := g.Since(t.Context(), is, foldersOf(hub, was), "registrations", "schema/site.cue"); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if calls := hub.Calls()[before:]; len(calls) != 5 { // the commit, three folders, the file
		t.Errorf("calls: %q", calls)
	}
	before = len(hub.Calls())
	same := hub.Commit("other", "x", forgetest.Change{Path: "internal/x.go", Content: "package x\n"})
	if files, err := g.Since(t.Context(), same, foldersOf(hub, was), "registrations", "schema/site.cue"); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
	if calls := hub.Calls()[before:]; len(calls) != 2 {
		t.Errorf("calls: %q", calls)
	}
}

// TestSinceIsToldInFullOrNotAtAll: a folder that was cut, a name that JSON
// cannot carry, names that no folder can have, and more than is read.
func TestSinceIsToldInFullOrNotAtAll(t *testing.T) {
	t.Parallel()
	many := func(n int, path string) (out []forgetest.Change) {
		for i := range n {
			out = append(out, forgetest.Change{Path: fmt.Sprintf(path, i), Content: "// x\n"})
		}
		return out
	}
	for name, tt := range map[string]struct {
		changes []forgetest.Change
		prepare func(*forgetest.Hub, string)
		want    error
	}{
		"a name that is not UTF-8": {changes: []forgetest.Change{{Path: "registrations/its/caf\xe9.cue"}}, want: forge.ErrIncomplete},
		"a name of two lines":      {changes: []forgetest.Change{{Path: "registrations/its/a\nb.cue"}}, want: forge.ErrIncomplete},
		"a backslash":              {changes: []forgetest.Change{{Path: `registrations/its\..\x.cue`}}, want: forge.ErrIncomplete},
		"git's own folder":         {changes: []forgetest.Change{{Path: "registrations/.GIT/config.cue"}}, want: forge.ErrIncomplete},
		"upwards":                  {changes: []forgetest.Change{{Path: "registrations/../x.cue"}}, want: forge.ErrIncomplete},
		"300 files":                {changes: many(300, "registrations/its/%d.cue")},
		"301 files":                {changes: many(301, "registrations/its/%d.cue"), want: forge.ErrTooMuch},
		"301 folders":              {changes: many(301, "registrations/its/%d/a.cue"), want: forge.ErrTooMuch},
		"a deep folder":            {changes: []forgetest.Change{{Path: "registrations/" + strings.Repeat("a/", 20) + "x.cue"}}, want: forge.ErrTooMuch},
		"a folder that is cut": {changes: many(1, "registrations/its/%d.cue"), want: forge.ErrIncomplete, prepare: func(hub *forgetest.Hub, is string) {
			hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/trees/" + hub.Listing(is, "registrations")["its"].SHA, Times: -1, Status: http.StatusOK,
				Body: `{"sha": "` + hub.Listing(is, "registrations")["its"].SHA + `", "truncated": false, "tree": []}`})
		}},
		"another content": {changes: many(1, "registrations/its/%d.cue"), want: forge.ErrIncomplete, prepare: func(hub *forgetest.Hub, is string) {
			sha := hub.Files(is)["registrations/its/0.cue"].SHA
			hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/blobs/" + sha, Times: -1, Status: http.StatusOK,
				Body: `{"sha": "` + sha + `", "size": 5, "encoding": "base64", "content": "Ly8geQo="}`})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub, server := newHub(t)
			was := hub.Branch("main")
			is := hub.Commit("mine", "x", tt.changes...)
			if tt.prepare != nil {
				tt.prepare(hub, is)
			}
			files, err := client(t, server.URL).Since(t.Context(), is, foldersOf(hub, was), "registrations", "schema/site.cue")
			if !errors.Is(err, tt.want) || err == nil && len(files) != len(tt.changes) {
				t.Errorf("%d files, %v; want %v", len(files), err, tt.want)
			}
		})
	}
}

func TestOpenRequestsAtACommit(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	mona, hubot := hub.AddUser(77, "mona", ""), hub.AddUser(78, "hubot", "")
	g := client(t, server.URL)
	change := forgetest.Change{Path: "registrations/its/new.cue", Content: "// new\n"}
	n := hub.Fork(mona, "mine", "Register it", change)
	head := hub.Pull(n).Head
	for range 120 { // so many that the list has pages
		hub.Fork(mona, "other", "Something else", forgetest.Change{Path: "registrations/its/other.cue", Content: fmt.Sprint("// ", time.Now())})
	}
	at := func(commit string) (numbers []int) {
		t.Helper()
		list, err := g.OpenAt(t.Context(), commit)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			numbers = append(numbers, r.Number)
			if r.Head != commit || r.State != forge.Open {
				t.Errorf("%+v", r)
			}
		}
		return numbers
	}
	if got := at(head); !slices.Equal(got, []int{n}) {
		t.Errorf("a fork's: %v", got)
	}
	hub.SetBranch("same", head)
	same := hub.OpenPull(hubot, "same", "The same, by somebody else")
	if got := at(head); !slices.Equal(got, []int{n, same}) {
		t.Errorf("two of one head: %v", got)
	}
	moved := hub.Push(n, forgetest.Change{Path: change.Path, Content: "// newer\n"})
	if got := at(head); !slices.Equal(got, []int{same}) {
		t.Errorf("after a push: %v", got)
	}
	hub.Close(same)
	if got := at(head); len(got) != 0 {
		t.Errorf("closed: %v", got)
	}
	if got := at(moved); !slices.Equal(got, []int{n}) {
		t.Errorf("the new head: %v", got)
	}
	if _, err := g.OpenAt(t.Context(), "main"); err == nil {
		t.Error("a branch is taken for a commit")
	}
}

func TestTheMergeQueue(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	g := client(t, server.URL)
	head := hub.Commit("gh-readonly-queue/main/pr-1-0a", "x", forgetest.Change{Path: "a", Content: "a"})
	other := hub.Commit("gh-readonly-queue/mainly/pr-2-0a", "x", forgetest.Change{Path: "b", Content: "b"})
	for commit, want := range map[string]bool{head: true, other: false, hub.Branch("main"): false} {
		if got, err := g.Queued(t.Context(), "main", commit); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", commit, got, err, want)
		}
	}
}

func TestCommitsAhead(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	g := client(t, server.URL)
	base := hub.Branch("main")
	var want []string
	for i := range 230 {
		want = append(want, hub.Commit("mine", "x", forgetest.Change{Path: "a", Content: fmt.Sprint(i)}))
	}
	later := hub.Commit("main", "x", forgetest.Change{Path: "b", Content: "b"})
	head := hub.MakeCommit(want[229], want[229], later) // main was merged into it
	got, err := g.Ahead(t.Context(), base, want[229])
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d commits, %v", len(got), err)
	}
	for _, c := range got {
		if !slices.Contains(want, c.Hash) || len(c.Parents) != 1 {
			t.Errorf("%+v", c)
		}
	}
	if got, err := g.Ahead(t.Context(), later, head); err != nil || len(got) != 231 {
		t.Errorf("with main merged: %d, %v", len(got), err)
	}
	if got, err := g.Ahead(t.Context(), head, base); err != nil || len(got) != 0 {
		t.Errorf("behind: %v, %v", got, err)
	}
	hub.Uncounted(3)
	if _, err := g.Ahead(t.Context(), base, head); !errors.Is(err, forge.ErrIncomplete) {
		t.Errorf("commits that are not listed: %v", err)
	}
	hub.Uncounted(0)
	if _, err := g.Ahead(t.Context(), base, hub.MakeCommit(base)); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("nothing in common: %v", err)
	}
}
