package report_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/report"
	"example.edu/gatepost/internal/register/review"
)

// judging is how the world's requests are judged from the two kinds of forge, and
// against a base at hand.
func (w *world) judging(f report.Forge, atHand bool) report.Judging {
	w.t.Helper()
	j := report.Judging{Forge: f, Repo: w.options.Repo, Branch: "main", Now: w.options.Now}
	if atHand {
		j.Base = func(commit string) *review.Base {
			head, err := gitsync.ParseHash(commit)
			if err != nil {
				w.t.Fatal(err)
			}
			tree, err := review.At(w.t.Context(), w.options.Repo, head, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			base, err := review.NewBase(w.t.Context(), tree, j.Now(), nil, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			return base
		}
	}
	return j
}

// branch makes a branch of main here, with one commit.
func (w *world) branch(name string, changes ...forgetest.Change) {
	w.t.Helper()
	w.git("checkout", "-q", "-b", name)
	for _, c := range changes {
		path := filepath.Join(w.dir, filepath.FromSlash(c.Path))
		err := os.RemoveAll(path)
		switch {
		case c.Remove:
		case c.Mode == "120000":
			err = os.Symlink(c.Content, path)
		default:
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c.Content), 0o644))
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "It")
	w.git("checkout", "-q", "-f", "main")
}

// TestOneVerdictFromEverywhere: at GitHub or in a plain repository, against a base
// that is built already or one that is read, the comment is the same; and it is the
// workflow's, but for what only GitHub has.
func TestOneVerdictFromEverywhere(t *testing.T) {
	t.Parallel()
	good := request("lsa-physics", "141.211.13.23")
	for name, tt := range map[string]struct {
		changes []forgetest.Change
		base    []forgetest.Change // come into main after the branch left it
		want    forge.Conclusion
		says    string
	}{
		"fine":                 {changes: []forgetest.Change{file(physics+"new.cue", good)}, want: forge.Success, says: "| `141.211.13.23` |"},
		"main went on":         {changes: []forgetest.Change{file(physics+"new.cue", good)}, base: []forgetest.Change{file(physics+"other.cue", request("lsa-physics", "141.211.13.24"))}, want: forge.Success, says: "3 → 4 addresses"},
		"taken meanwhile":      {changes: []forgetest.Change{file(physics+"new.cue", good)}, base: []forgetest.Change{file(physics+"other.cue", good)}, want: forge.Failure, says: "`ip-duplicate`"},
		"both changed it":      {changes: []forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.30"))}, base: []forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.31"))}, want: forge.Failure, says: "brought up to date"},
		"another's address":    {changes: []forgetest.Change{file(physics+"new.cue", request("lsa-physics", "141.211.14.99"))}, want: forge.Failure, says: "`ip-not-owned`"},
		"removed":              {changes: []forgetest.Change{gone(physics + "mfp.cue")}, want: forge.Success, says: "#### Removed (1)"},
		"a link":               {changes: []forgetest.Change{{Path: physics + "link.cue", Content: "mfp.cue", Mode: "120000"}}, want: forge.Failure, says: "link.cue"},
		"too large":            {changes: []forgetest.Change{file(physics+"big.cue", strings.Repeat("// x\n", 100_000))}, want: forge.Failure, says: "big.cue"},
		"twins":                {changes: []forgetest.Change{file(physics+"MFP.cue", good)}, want: forge.Success, says: "**Nothing to mend, 1 warning.**"},
		"the site's rules":     {changes: []forgetest.Change{file("schema/site.cue", "package site\n")}, want: forge.Success, says: "It changes the site's own rules"},
		"nothing of it":        {changes: []forgetest.Change{file("README.md", "# New\n")}, want: forge.Success},
		"markup in a contact":  {changes: []forgetest.Change{file(physics+"new.cue", strings.Replace(good, `"IT"`, "\"![x](http://evil) @all `\"", 1))}, want: forge.Success, says: "141.211.13.23"},
		"a syntax error, odd":  {changes: []forgetest.Change{file(physics+"new.cue", good+"\x00{{{")}, want: forge.Failure, says: "new.cue"},
		"two files, one wrong": {changes: []forgetest.Change{file(physics+"new.cue", good), file(physics+"bad.cue", "x: 1\n")}, want: forge.Failure, says: "Not the whole story"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.merged(file("schema/site.cue", "package site\n\n// ours\n"))
			n := w.hub.Fork(w.speaker, "theirs", "It", tt.changes...)
			w.branch("request/1-x", tt.changes...)
			if tt.base != nil {
				w.merged(tt.base...)
			}
			git, err := forge.OpenGit(w.dir)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := w.options.GitHub.Get(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := git.Get(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			var first report.Verdict
			for i, judge := range []func() (report.Verdict, error){
				func() (report.Verdict, error) {
					return w.judging(report.GitHub(w.options.GitHub), false).Request(t.Context(), theirs)
				},
				func() (report.Verdict, error) {
					return w.judging(report.GitHub(w.options.GitHub), true).Request(t.Context(), theirs)
				},
				func() (report.Verdict, error) {
					return w.judging(report.Plain(git), false).Request(t.Context(), ours)
				},
				func() (report.Verdict, error) {
					return w.judging(report.Plain(git), true).Request(t.Context(), ours)
				},
			} {
				v, err := judge()
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
				text := v.Comment(report.Told{})
				if v.Conclusion != tt.want || !strings.Contains(text, tt.says) || (text == "") != (tt.says == "") || v.Base != w.hub.Branch("main") {
					t.Errorf("%d: %s %s\n%s", i, v.Conclusion, v.Title, text)
				}
				if i == 0 {
					first = v
					w.reported(n, tt.want)
					if list := w.hub.Comments(n); len(list) > 0 && list[0].Body != "<!-- gatepost:register -->\n"+text {
						t.Errorf("the workflow says:\n%s\nthe portal:\n%s", list[0].Body, text)
					}
				}
				plain := strings.NewReplacer(" (the button “Update branch” does it)", "", "Each stands on its line under “Files changed”; ", "")
				if plain.Replace(text) != plain.Replace(first.Comment(report.Told{})) || !slices.Equal(v.Problems, first.Problems) {
					t.Errorf("%d says:\n%s\nand the first:\n%s", i, text, first.Comment(report.Told{}))
				}
			}
		})
	}
}

// TestDoubtsOfAPlainRepository: what has no one beginning is not judged.
func TestDoubtsOfAPlainRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.git("checkout", "-q", "--orphan", "request/1-x")
	w.git("commit", "-q", "-m", "From nowhere")
	w.git("checkout", "-q", "-f", "main")
	w.git("checkout", "-q", "-b", "side")
	w.git("commit", "-q", "--allow-empty", "-m", "side")
	w.git("checkout", "-q", "-b", "request/2-y", "main")
	w.git("commit", "-q", "--allow-empty", "-m", "two")
	w.git("checkout", "-q", "main")
	w.git("commit", "-q", "--allow-empty", "-m", "main")
	w.git("checkout", "-q", "request/2-y")
	w.git("merge", "-q", "--no-ff", "-m", "m", "main")
	w.git("merge", "-q", "--no-ff", "-m", "s", "side")
	w.git("checkout", "-q", "main")
	w.git("commit", "-q", "--allow-empty", "-m", "main again")
	w.git("merge", "-q", "--no-ff", "-m", "s", "side")
	git, err := forge.OpenGit(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for n, says := range map[int]string{1: "nothing in common", 2: "crosses"} {
		r, err := git.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		v, err := w.judging(report.Plain(git), true).Request(t.Context(), r)
		if err != nil || v.Conclusion != forge.Failure || !strings.Contains(v.Title, says) || strings.Contains(v.Comment(report.Told{}), "button") {
			t.Errorf("%d: %+v, %v", n, v, err)
		}
	}
}

// TestWhatIsToldBesides: safe, bounded, and in one line for a status.
func TestWhatIsToldBesides(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	for _, tt := range []struct {
		told report.Told
		want string
	}{
		{report.Told{Live: []report.Live{{Relay: "a"}}}, "waiting for merge"},
		{report.Told{MergedAt: noon}, "merged; no relay is asked"},
		{report.Told{MergedAt: noon, Live: []report.Live{{Relay: "a", At: at(3)}, {Relay: "b"}}}, "live on 1 of 2 relays"},
		{report.Told{MergedAt: noon, Live: []report.Live{{Relay: "a", At: at(3)}, {Relay: "b", At: at(41)}}}, "live on 2 of 2 relays, 41 s after merge"},
		{report.Told{MergedAt: noon, Live: []report.Live{{Relay: "a", At: at(-2)}}}, "live on 1 of 1 relay, 1 s after merge"},
		{report.Told{MergedAt: noon, Live: []report.Live{{Relay: "a", At: at(7200)}}}, "live on 1 of 1 relay, 2 h after merge"},
	} {
		if got := tt.told.Summary(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	told := report.Told{
		Page: "https://relay.example.edu/requests/7", By: "Ann `@all` <img src=x>", MergedAt: noon,
		Live: []report.Live{{Relay: "relay|1", At: at(41)}, {Relay: "relay2", Note: "has been silent\n\n# for `long` @all"}},
	}
	for i := range 30 {
		told.Proofs = append(told.Proofs, report.Proof{IP: netip.MustParseAddr(fmt.Sprintf("141.211.13.%d", i+1)), Relay: "relay1"})
	}
	told.Proofs[1].At = at(5)
	text := report.Verdict{Moot: true}.Comment(told)
	for _, want := range []string{
		"`Ann '@all' <img src=x>`, who is **not** listed", "**live on 1 of 2 relays**", "| `relay\\|1` | 2026-11-25 12:00:41 UTC |", "not yet `has been silent\\n\\n# for 'long' @all`",
		"(1 of 30 proved)", "| `141.211.13.2` | ✓ proved 2026-11-25 12:00:05 UTC, seen by `relay1` |", "… and 10 more", "<https://relay.example.edu/requests/7>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if len(text) > 5000 {
		t.Errorf("%d octets", len(text))
	}
	for in, want := range map[string]string{
		"one\r\ntwo\t@all <b>": "```text\none\ntwo    @all <b>\n```\n",
		"```\nout\n````x":      "`````text\n```\nout\n````x\n`````\n",
		"":                     "```text\n\n```\n",
		"a\x1b[31m\u202eb":     "```text\na\\x1b[31m\\u202eb\n```\n",
	} {
		if got := review.Quote(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
