package report_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/report"
)

// TestARequestOutOfAForkFromOpeningToSilence is the life of a request: told what
// is wrong, then what merging does, and then nothing any more.
func TestARequestOutOfAForkFromOpeningToSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.14.23")))
	run := w.reported(n, forge.Failure)
	if len(run.Annotations) != 1 || run.Title != "1 error" {
		t.Fatalf("%s: %v", run.Title, run.Annotations)
	}
	if a := run.Annotations[0]; a["path"] != physics+"new.cue" || a["start_line"] != 6.0 || a["title"] != "ip-not-owned" || a["annotation_level"] != "failure" {
		t.Errorf("annotation: %v", a)
	}
	first := w.comment(n)
	w.contains("the comment", first.Body, "**1 error.**", "`ip-not-owned`", "`registrations/lsa-physics/new.cue:6`", "Not the whole story")
	if first.By != "github-actions[bot]" {
		t.Errorf("written by %s", first.By)
	}

	w.hub.Push(n, file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	run = w.reported(n, forge.Success)
	if len(run.Annotations) != 0 || run.Title != "no errors: 1 added, 0 removed, 0 changed, 0 blocked, 0 unblocked" {
		t.Errorf("%s: %v", run.Title, run.Annotations)
	}
	second := w.comment(n)
	w.contains("the comment", second.Body, "**Nothing to mend.**", "#### Added (1)", "| `141.211.13.23` | `registrations/lsa-physics/new.cue` | `lsa-physics` | `it@umich.edu` |", "2 → 3 addresses", "`sha256:")
	if second.ID != first.ID || strings.Contains(second.Body, "ip-not-owned") {
		t.Errorf("not edited in place: %+v", second)
	}

	w.hub.Push(n, gone(physics+"new.cue"), file("README.md", "# Our register\n"), file("registrations/README.md", "# How to\n"))
	run = w.reported(n, forge.Success)
	if run.Title != "nothing of the register changes" || len(w.hub.Comments(n)) != 0 {
		t.Errorf("%s; comments %v", run.Title, w.hub.Comments(n))
	}
}

func TestWhoMayChangeWhat(t *testing.T) {
	t.Parallel()
	mfp := request("lsa-physics", "141.211.13.21")
	for name, tt := range map[string]struct {
		stranger bool
		changes  []forgetest.Change
		want     []string // places of author-not-speaker
	}{
		"a stranger": {true, []forgetest.Change{file(physics+"new.cue", request("lsa-physics", "141.211.13.23"))}, []string{physics + "new.cue"}},
		"a speaker, a department of others": {false, []forgetest.Change{file("registrations/its/new.cue", request("its", "141.211.14.8"))},
			[]string{"registrations/its/new.cue"}},
		"a speaker, a file renamed into a department of others": {false, []forgetest.Change{gone(physics + "mfp.cue"), file("registrations/its/stolen.cue", mfp)},
			[]string{"registrations/its/stolen.cue"}},
		"a speaker, a file renamed out of a department of others": {false,
			[]forgetest.Change{gone("registrations/its/alarm.cue"), file(physics+"stolen.cue", request("its", "141.211.14.7"))},
			[]string{"registrations/its/alarm.cue"}}, // the other end breaks rule path
		"a file removed by a stranger": {true, []forgetest.Change{gone(physics + "mfp.cue")}, []string{physics + "mfp.cue"}},
		"a say in one's own request": {true, []forgetest.Change{
			file("registrations/campus/departments.cue", `departments: {
	"lsa-physics": {
		name: "Physics", speakers: [{github: "hubot", id: 480938}], contactDomains: ["umich.edu"]
	}
	its: {name: "IT", speakers: [{github: "admin", id: 99}], contactDomains: ["umich.edu"]}
	library: {name: "Library", team: {slug: "library-it", id: 42}, contactDomains: ["umich.edu"]}
}
`), file(physics+"new.cue", request("lsa-physics", "141.211.13.23"))}, []string{physics + "new.cue"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			by := w.speaker
			if tt.stranger {
				by = w.stranger
			}
			n := w.hub.Fork(by, "mine", "Change", tt.changes...)
			run := w.reported(n, forge.Failure)
			var got []string
			for _, a := range run.Annotations {
				if a["title"] == "author-not-speaker" {
					got = append(got, a["path"].(string))
				}
			}
			slices.Sort(got)
			if !slices.Equal(slices.Compact(got), tt.want) {
				t.Errorf("author-not-speaker at %v, want %v\n%s", got, tt.want, run.Summary)
			}
		})
	}
}

func TestManyProblemsComeInBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var changes []forgetest.Change
	for i := range 120 {
		changes = append(changes, file(fmt.Sprintf("%sf%03d.cue", physics, i), request("lsa-physics", fmt.Sprintf("142.211.13.%d", i))))
	}
	n := w.hub.Fork(w.speaker, "mine", "Many", changes...)
	before := len(w.hub.Calls())
	run := w.reported(n, forge.Failure)
	if len(run.Annotations) != 120 || run.Title != "120 errors" {
		t.Errorf("%d annotations: %s", len(run.Annotations), run.Title)
	}
	var writes []string
	for _, c := range w.hub.Calls()[before:] {
		if !strings.HasPrefix(c, "GET ") {
			writes = append(writes, regexp.MustCompile(`[0-9]+$`).ReplaceAllString(c, "N"))
		}
	}
	want := []string{"POST /check-runs", "PATCH /check-runs/N", "PATCH /check-runs/N", "PATCH /check-runs/N", "POST /issues/1/comments"}
	if !slices.Equal(writes, want) {
		t.Errorf("wrote %q, want %q", writes, want)
	}
	w.contains("the comment", w.comment(n).Body, "**120 errors.**", "more: `gatepost check`")
}

// TestOnlyTheHeadOfAnOpenRequestIsReportedOn: all else is left to a newer run,
// or needs none.
func TestOnlyTheHeadOfAnOpenRequestIsReportedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	old := w.hub.Pull(n).Head
	moved := w.hub.Push(n, file(physics+"new.cue", request("lsa-physics", "141.211.13.24")))
	for name, head := range map[string]string{"an old head": old, "main": w.hub.Branch("main"), "nothing": strings.Repeat("0a", 20)} {
		out, err := w.run(head)
		if err != nil || out.Conclusion != "" || len(out.Lines) != 1 || !strings.Contains(out.Lines[0], "no open pull request stands at "+head) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	w.hub.SetBranch("release", w.hub.Branch("main"))
	w.hub.Retarget(n, "release")
	if out, err := w.run(moved); err != nil || out.Conclusion != "" || !strings.Contains(strings.Join(out.Lines, "\n"), "goes into release") {
		t.Errorf("another branch: %+v, %v", out, err)
	}
	w.hub.Retarget(n, "main")
	w.hub.Close(n)
	if out, err := w.run(moved); err != nil || out.Conclusion != "" {
		t.Errorf("closed: %+v, %v", out, err)
	}
	if _, err := w.run("main"); err == nil {
		t.Error("a branch is taken for a commit")
	}
	if runs, comments := w.hub.Runs(), w.hub.Comments(n); len(runs)+len(comments) != 0 {
		t.Errorf("written: %v %v", runs, comments)
	}
}

// TestAHeadThatMovesMeanwhile: the verdict stays on the commit that it is about.
func TestAHeadThatMovesMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	head := w.hub.Pull(n).Head
	w.wait = func(r *http.Request) {
		if r.Method == http.MethodPatch { // the check is concluded
			w.wait = nil
			w.hub.Push(n, file(physics+"new.cue", "evil"))
		}
	}
	out, err := w.run(head)
	if err != nil || out.Conclusion != forge.Success || w.last().Head != head || len(w.hub.Comments(n)) != 0 {
		t.Errorf("%+v, %v, %+v, comments %v", out, err, w.last(), w.hub.Comments(n))
	}
	w.contains("the log", strings.Join(out.Lines, "\n"), "moved on")
}

// TestWhatIsNotToldInFullDoesNotPass: a list of commits or a folder that was
// cut, a name that cannot be told, more than is read.
func TestWhatIsNotToldInFullDoesNotPass(t *testing.T) {
	t.Parallel()
	good := file(physics+"new.cue", request("lsa-physics", "141.211.13.23"))
	for name, tt := range map[string]struct {
		changes []forgetest.Change
		prepare func(w *world, n int)
		want    string
	}{
		"commits are missing": {nil, func(w *world, _ int) { w.hub.Uncounted(1) }, "did not tell everything"},
		"a commit is left out": {nil, func(w *world, n int) {
			head := w.hub.Push(n, file(physics+"more.cue", request("lsa-physics", "141.211.13.24")))
			parent := w.hub.MakeCommit(head, head)
			w.hub.Fail(forgetest.Failure{Method: "GET", Path: "/compare/", Times: -1, Status: http.StatusOK,
				Body: fmt.Sprintf(`{"total_commits": 1, "commits": [{"sha": %q, "parents": [{"sha": %q}]}]}`, head, parent)})
		}, "did not tell everything"},
		"a folder is cut": {nil, func(w *world, n int) {
			sha := w.hub.Listing(w.hub.Pull(n).Head, "registrations")["lsa-physics"].SHA
			w.hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/trees/" + sha, Times: -1, Status: http.StatusOK, Body: `{"sha": "` + sha + `", "tree": []}`})
		}, "did not tell everything"},
		"a name that is not text": {[]forgetest.Change{file(physics+"caf\xe9.cue", "x")}, nil, "did not tell everything"},
		"301 files":               {slices.Repeat([]forgetest.Change{{}}, 300), nil, "more than is read of one request"},
		"a history of its own": {nil, func(w *world, n int) {
			w.hub.SetBranch("own", w.hub.MakeCommit(w.hub.Pull(n).Head))
		}, "nothing in common"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range tt.changes {
				if tt.changes[i].Path == "" {
					tt.changes[i] = file(fmt.Sprintf("%sf%d.cue", physics, i), "x")
				}
			}
			n := w.hub.Fork(w.speaker, "mine", "Register it", append(tt.changes, good)...)
			if tt.prepare != nil {
				tt.prepare(w, n)
			}
			if w.hub.Branch("own") != "" {
				n = w.hub.OpenPull(w.speaker, "own", "A history of its own")
			}
			run := w.reported(n, forge.Failure)
			w.contains("the title", run.Title, tt.want)
			w.contains("the comment", w.comment(n).Body, "**It cannot be judged:**", tt.want)
		})
	}
}

// TestWhatStrangersWriteMakesNoMarkup looks at a comment without its code spans:
// what is left are our own words.
func TestWhatStrangersWriteMakesNoMarkup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evil := "`|@octocat <script>alert(1)</script> [x](https://evil.example) #1 ![y](z) ``` ~~~ <!-- gatepost:register --> ##[add-mask]x"
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(evil)
	hostile := strings.Replace(request("lsa-physics", "141.211.13.66"), `name: "IT"`, "name: \"`|@octocat <script>alert(1)\"", 1)
	changed := strings.Replace(request("lsa-physics", "141.211.13.21"), "Scan-to-email", quoted, 1)
	names := []forgetest.Change{
		file(physics+"hostile.cue", hostile),
		file(physics+"mfp.cue", changed),
		file(physics+"@octocat|`<b>`.cue", "x"),
		file(physics+"[x](https:evil.example).cue", "x"),
		file("registrations/<script>alert(1)<script>/x.cue", "x"),
		file(physics+"unknown.cue", hostile+"\n\""+quoted+"\": 1\n"),
		file(physics+"broken.cue", "department: \"`@octocat` <script>\n"),
	}
	n := w.hub.Fork(w.speaker, "mine", "@octocat", names...)
	w.reported(n, forge.Failure)
	body := w.comment(n).Body
	w.contains("the comment", body, "141.211.13.66", "alert(1)", "octocat")
	if left := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(strings.TrimPrefix(body, "<!-- gatepost:register -->"), ""); regexp.MustCompile("(?i)octocat|script|https:|evil|alert|<!--|##\\[|`|!\\[").MatchString(left) {
		t.Errorf("outside of code spans:\n%s", left)
	}
	if strings.Contains(body, "##[") {
		t.Error("a runner's command")
	}
}

func TestSpeakersByTeam(t *testing.T) {
	t.Parallel()
	scan := file("registrations/library/scan.cue", request("library", "141.211.15.5"))
	for name, tt := range map[string]struct {
		prepare func(*world)
		changes []forgetest.Change
		want    forge.Conclusion
		says    []string
	}{
		"a member, seen by an App": {func(w *world) { w.asApp(); w.hub.AddTeam(42, "library-it", w.stranger) }, nil, forge.Success, []string{"Nothing to mend"}},
		"no member":                {func(w *world) { w.asApp(); w.hub.AddTeam(42, "library-it", w.speaker) }, nil, forge.Failure, []string{"`hubot does not speak for library`"}},
		"another team of that name": {func(w *world) { w.asApp(); w.hub.AddTeam(43, "library-it", w.stranger) }, nil, forge.Failure,
			[]string{"`hubot does not speak for library`"}},
		"a workflow's token sees no team": {func(w *world) { w.hub.AddTeam(42, "library-it", w.stranger) }, nil, forge.ActionRequired,
			[]string{"Somebody must act", "`library-it`", "organisation permission “Members: read”", "`author-not-speaker`"}},
		"the team is gone": {func(w *world) { w.asApp() }, nil, forge.ActionRequired, []string{"`library-it`"}},
		"and there is an error besides": {func(w *world) { w.hub.AddTeam(42, "library-it", w.stranger) },
			[]forgetest.Change{file("registrations/library/more.cue", request("library", "141.211.13.9"))}, forge.Failure,
			[]string{"**1 error, 2 warnings.**", "`library-it`", "Members: read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.prepare(w)
			n := w.hub.Fork(w.stranger, "mine", "A scanner", append(tt.changes, scan)...)
			w.reported(n, tt.want)
			w.contains("the comment", w.comment(n).Body, tt.says...)
		})
	}
}

// TestTheForgeIsDown: nothing is known, and nothing passes, not even what
// passed before.
func TestTheForgeIsDown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		failures []forgetest.Failure
		want     error
		check    string // of the newest run
	}{
		"before anything":       {[]forgetest.Failure{{Method: "GET", Path: "/pulls", Status: 503}}, forge.ErrUnreachable, "completed success"}, // nothing has begun
		"when the check begins": {[]forgetest.Failure{{Method: "POST", Path: "/check-runs", Status: 500}}, forge.ErrUnreachable, "completed success"},
		"no checks: write":      {[]forgetest.Failure{{Method: "POST", Path: "/check-runs", Status: 403}}, forge.ErrRefused, "completed success"},
		"while reading":         {[]forgetest.Failure{{Method: "GET", Path: "/git/trees/", Status: 502}}, forge.ErrUnreachable, "completed failure"},
		"the tip":               {[]forgetest.Failure{{Method: "GET", Path: "/git/ref/", Status: 500}}, forge.ErrUnreachable, "completed failure"},
		"the limit":             {[]forgetest.Failure{{Method: "GET", Path: "/compare/", Status: 429}}, forge.ErrLimited, "completed failure"},
		"and then for good": {[]forgetest.Failure{{Method: "GET", Path: "/git/trees/", Status: 502}, {Method: "PATCH", Path: "/check-runs", Status: 502}},
			forge.ErrUnreachable, "in_progress "},
		"when the check is concluded": {[]forgetest.Failure{{Method: "PATCH", Path: "/check-runs", Status: 500}}, forge.ErrUnreachable, "in_progress "},
		"at the comment":              {[]forgetest.Failure{{Method: "GET", Path: "/comments", Status: 500}}, forge.ErrUnreachable, "completed success"}, // judged
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
			w.reported(n, forge.Success)
			for _, f := range tt.failures {
				f.Times = -1
				w.hub.Fail(f)
			}
			_, err := w.run(w.hub.Pull(n).Head)
			if run := w.last(); !errors.Is(err, tt.want) || run.Status+" "+run.Conclusion != tt.check {
				t.Errorf("%v; the check: %s %s (%s)", err, run.Status, run.Conclusion, run.Title)
			}
		})
	}
}

// TestAnotherCloneIsNoBase: whoever was a speaker yesterday is none today.
func TestAnotherCloneIsNoBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	w.hub.Commit("main", "Merged where this clone does not see it", file("README.md", "# New\n"))
	_, err := w.run(w.hub.Pull(n).Head)
	if run := w.last(); !errors.Is(err, report.ErrStale) || run.Conclusion != "failure" {
		t.Errorf("%v; the check: %+v", err, run)
	}
}

func TestAClonesDamageIsNoVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	empty := t.TempDir()
	workdir, err := gitsync.OpenWorkdir(empty)
	if err != nil {
		t.Fatal(err)
	}
	defer workdir.Close()
	w.options.Repo = workdir.Repo
	if _, err := w.run(w.hub.Pull(n).Head); !errors.Is(err, gitsync.ErrNoRepository) || w.last().Conclusion != "failure" {
		t.Errorf("%v; the check: %+v", err, w.last())
	}
}
