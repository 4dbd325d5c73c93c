package review

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

const lsa = "registrations/lsa/"

// treeOf makes a tree of "name=content" words, each below registrations/lsa/
// unless it has a folder of its own.
func treeOf(words string) Tree {
	var t Tree
	for word := range strings.FieldsSeq(words) {
		name, content, _ := strings.Cut(word, "=")
		if !strings.Contains(name, "/") {
			name = "lsa/" + name
		}
		s := Source{Source: registration.Source{Path: "registrations/" + name + ".cue", Data: []byte(content)}, Blob: "blob of " + content}
		if content == "link" {
			s.Mode = registration.Symlink
		}
		t.Sources = append(t.Sources, s)
	}
	slices.SortFunc(t.Sources, func(a, b Source) int { return strings.Compare(a.Path, b.Path) })
	return t
}

// words is the reverse of treeOf.
func words(t Tree) string {
	var out []string
	for _, s := range t.Sources {
		name := strings.TrimSuffix(strings.TrimPrefix(s.Path, "registrations/"), ".cue")
		out = append(out, strings.TrimPrefix(name, "lsa/")+"="+string(s.Data))
	}
	return strings.Join(out, " ")
}

func TestMerge(t *testing.T) {
	for _, tt := range []struct{ name, ancestor, base, head, want, contested string }{
		{"nothing", "a=1", "a=1", "a=1", "a=1", ""},
		{"the request adds, changes and removes", "a=1 b=1 c=1", "a=1 b=1 c=1", "a=1 b=2 d=1", "a=1 b=2 d=1", ""},
		{"the base went on elsewhere", "a=1 b=1 c=1", "a=2 b=1 d=1", "a=1 b=2 c=1", "a=2 b=2 d=1", ""},
		{"both changed a file", "a=1 b=1", "a=2 b=1", "a=3 b=1", "", "a"},
		{"both changed it to the same", "a=1", "a=2", "a=2", "a=2", ""},
		{"both added the same", "a=1", "a=1 b=1", "a=1 b=1", "a=1 b=1", ""},
		{"both added another", "a=1", "a=1 b=1", "a=1 b=2", "", "b"},
		{"both removed it", "a=1 b=1", "b=1", "b=1", "b=1", ""},
		{"one removed what the other changed", "a=1 b=1", "b=1", "a=2 b=1", "", "a"},
		{"the other way round", "a=1 b=1", "a=2 b=1", "b=1", "", "a"},
		{"the base renamed what the request changed", "a=1 z=1", "b=1 z=1", "a=2 z=1", "", "a"},
		{"the request renamed what the base changed", "a=1 z=1", "a=2 z=1", "b=1 z=1", "", "a"},
		{"a file became a link", "a=1 b=1", "a=1 b=2", "a=link b=1", "a=link b=2", ""},
		{"a link on one side, another content on the other", "a=1", "a=2", "a=link", "", "a"},
		{"the request empties a folder into which the base put something", "old/a=1 z=1", "old/a=1 old/b=1 z=1", "new/a=1 z=1", "", "registrations/old/b.cue"},
		{"the base empties a folder into which the request puts something", "old/a=1 z=1", "new/a=1 z=1", "old/a=1 old/b=1 z=1", "", "registrations/old/b.cue"},
		{"a folder that both knew is not emptied by one file less", "old/a=1 old/c=1", "old/a=1 old/b=1 old/c=1", "new/a=1 old/c=1", "new/a=1 old/b=1 old/c=1", ""},
		{"a file where the base made a folder", "z=1", "z=1 x.cue/y=1", "z=1 x=1", "z=1 x=1 x.cue/y=1", ""}, // lsa/x.cue and x.cue/y.cue
		{"a file and a folder of one name", "z=1", "z=1 lsa/x.cue/y=1", "z=1 x=1", "", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, contested := Merge(treeOf(tt.ancestor), treeOf(tt.base), treeOf(tt.head))
			var names []string
			for _, p := range contested {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(p, lsa), ".cue"))
			}
			want := strings.TrimSuffix(tt.contested, ".cue")
			if words(got) != words(treeOf(tt.want)) || strings.Join(names, " ") != want {
				t.Errorf("got %q, contested %q; want %q, %q", words(got), names, tt.want, tt.contested)
			}
		})
	}
}

func TestMergeTakesNoUnknownForTheSame(t *testing.T) {
	ancestor, base, head := treeOf("a=1"), treeOf("a=2"), treeOf("a=1")
	head.Sources[0].Blob = "" // too large to have been read, for instance
	if _, contested := Merge(ancestor, base, head); len(contested) != 1 {
		t.Errorf("contested: %v", contested)
	}
}

func TestMergeOfTheSiteRules(t *testing.T) {
	site := func(text string) Tree { return Tree{Site: []byte(text)} }
	for _, tt := range []struct{ ancestor, base, head, want string }{
		{"1", "1", "1", "1"}, {"1", "2", "1", "2"}, {"1", "1", "2", "2"}, {"1", "2", "3", "3"},
	} {
		got, _ := Merge(site(tt.ancestor), site(tt.base), site(tt.head))
		if string(got.Site) != tt.want {
			t.Errorf("%v: %s", tt, got.Site)
		}
	}
}

func TestMergeMarksNamesThatAreAlike(t *testing.T) {
	got, _ := Merge(treeOf("a=1"), treeOf("a=1 B=1"), treeOf("a=1 b=2"))
	if len(got.Sources) != 3 || got.Sources[2].Odd == "" || got.Sources[0].Odd+got.Sources[1].Odd != "" {
		t.Errorf("%+v", got.Sources)
	}
}

// TestMergeIsWhatGitMakes holds Merge to git itself, over many histories:
// what Merge is certain of, git merges to the same or not at all, whichever way
// it takes renamed folders.
func TestMergeIsWhatGitMakes(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatal("git is not installed")
		}
		t.Skip("git is not installed")
	}
	const histories = 200
	dir := t.TempDir()
	git := func(in string, args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(in string, args ...string) string {
		t.Helper()
		out, err := git(in, args...)
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return out
	}
	must("", "init", "-q", "-b", "main")
	must(stream(rand.New(rand.NewPCG(1, 2)), histories), "fast-import", "--quiet")
	repo, err := gitsync.OpenWorkdir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	at := func(rev string) Tree {
		t.Helper()
		h, err := repo.Resolve(t.Context(), rev)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := At(t.Context(), repo, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	certain, refused := 0, 0
	for i := range histories {
		name := func(what string) string { return fmt.Sprintf("refs/heads/%s%d", what, i) }
		got, contested := Merge(at(name("fork")), at(name("base")), at(name("head")))
		if len(contested) > 0 {
			refused++
			continue
		}
		certain++
		for _, renames := range []string{"true", "false"} {
			tree, err := git("", "-c", "merge.directoryRenames="+renames, "merge-tree", "--write-tree", name("base"), name("head"))
			if err != nil {
				continue // a conflict: the forge merges nothing
			}
			merged := name("merged") + renames
			must("", "update-ref", merged, must("merged", "commit-tree", "-p", name("base"), tree))
			want := at(merged)
			if !slices.EqualFunc(got.Sources, want.Sources, func(a, b Source) bool { return a.Path == b.Path && a.Same(b) && a.Blob == b.Blob }) {
				t.Errorf("history %d, directory renames %s:\n%s\ngit:\n%s\nfork:\n%s\nbase:\n%s\nhead:\n%s", i, renames,
					shape(got), shape(want), shape(at(name("fork"))), shape(at(name("base"))), shape(at(name("head"))))
			}
		}
	}
	if certain < histories/4 || refused < histories/4 {
		t.Errorf("%d certain, %d refused: the histories are no test", certain, refused)
	}
}

// stream makes histories for git fast-import: for each a fork, and from it two
// branches that add, change, remove and rename a few files each.
func stream(random *rand.Rand, histories int) string {
	names := []string{"one/a", "one/b", "one/c", "two/a", "two/b", "three/deep/a"}
	content := func() string { // with lines enough that a rename with a change is seen as one
		return strings.Repeat("line\n", 20) + fmt.Sprint(random.IntN(4)) + "\n" + strings.Repeat("more\n", 20) + fmt.Sprint(random.IntN(4)) + "\n"
	}
	stir := func(files map[string]string) map[string]string {
		files = maps.Clone(files)
		for range 1 + random.IntN(3) {
			name, to := names[random.IntN(len(names))], names[random.IntN(len(names))]
			switch was, there := files[name]; random.IntN(5) {
			case 0:
				delete(files, name)
			case 1:
				if there {
					delete(files, name)
					files[to] = was
				}
			case 2: // the whole folder
				for n, text := range files {
					if dir := filepath.Dir(n); dir == filepath.Dir(name) {
						delete(files, n)
						files[filepath.Join("moved", filepath.Base(n))] = text
					}
				}
			default:
				files[name] = content()
			}
		}
		return files
	}
	var b strings.Builder
	commit := func(branch, from string, files map[string]string) {
		fmt.Fprintf(&b, "commit refs/heads/%s\ncommitter a <a@b> 1700000000 +0000\ndata 1\nx\n", branch)
		if from != "" {
			fmt.Fprintf(&b, "from refs/heads/%s\n", from)
		}
		b.WriteString("deleteall\n")
		for _, n := range slices.Sorted(maps.Keys(files)) {
			fmt.Fprintf(&b, "M 100644 inline registrations/%s.cue\ndata %d\n%s\n", n, len(files[n]), files[n])
		}
	}
	for i := range histories {
		fork := map[string]string{}
		for _, n := range names {
			fork[n] = content()
		}
		fork = stir(fork)
		commit(fmt.Sprint("fork", i), "", fork)
		commit(fmt.Sprint("base", i), fmt.Sprint("fork", i), stir(fork))
		commit(fmt.Sprint("head", i), fmt.Sprint("fork", i), stir(fork))
	}
	return b.String()
}

func shape(t Tree) string {
	var b strings.Builder
	for _, s := range t.Sources {
		fmt.Fprintf(&b, "  %s %.8s\n", s.Path, s.Blob)
	}
	return b.String()
}
