package report_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

// TestTheBaseGoesOn: a request is judged as merged into the branch as it is now.
func TestTheBaseGoesOn(t *testing.T) {
	t.Parallel()
	mine := file(physics+"new.cue", request("lsa-physics", "141.211.13.23"))
	for name, tt := range map[string]struct {
		mine   []forgetest.Change
		merged []forgetest.Change
		want   forge.Conclusion
		says   []string
	}{
		"elsewhere": {[]forgetest.Change{mine}, []forgetest.Change{file("registrations/its/more.cue", request("its", "141.211.14.8"))},
			forge.Success, []string{"3 → 4 addresses**: 1 added, 0 removed"}},
		"somebody else's address now": {[]forgetest.Change{mine}, []forgetest.Change{file(physics+"theirs.cue", request("lsa-physics", "141.211.13.23"))},
			forge.Failure, []string{"`ip-duplicate`", "theirs.cue:6"}},
		"a file that both changed": {[]forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.22"))},
			[]forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.20"))},
			forge.Failure, []string{"must be brought up to date", "1 file was changed here and on `main`", "- `registrations/lsa-physics/mfp.cue`"}},
		"both to the same": {[]forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.22"))},
			[]forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.22"))},
			forge.Success, []string{"nothing changes for any address"}},
		"renamed there, changed here": {[]forgetest.Change{file(physics+"mfp.cue", request("lsa-physics", "141.211.13.22"))},
			[]forgetest.Change{gone(physics + "mfp.cue"), file(physics+"printer.cue", request("lsa-physics", "141.211.13.21"))},
			forge.Failure, []string{"must be brought up to date"}},
		"the author is a speaker no longer": {[]forgetest.Change{mine},
			[]forgetest.Change{file("registrations/campus/departments.cue", `departments: {
	"lsa-physics": {name: "Physics", speakers: [{github: "another", id: 7}], contactDomains: ["umich.edu"]}
	its: {name: "IT", speakers: [{github: "admin", id: 99}], contactDomains: ["umich.edu"]}
	library: {name: "Library", team: {slug: "library-it", id: 42}, contactDomains: ["umich.edu"]}
}
`)}, forge.Failure, []string{"`octocat does not speak for lsa-physics`"}},
		"the rules are stricter": {[]forgetest.Change{mine}, []forgetest.Change{file("schema/site.cue", "#Registration: volume: perHour: <=100\n")},
			forge.Failure, []string{"`volume`"}},
		"the rules are broken": {[]forgetest.Change{mine}, []forgetest.Change{file("schema/site.cue", "#Registration: volume: perHour: <=\n")},
			forge.Failure, []string{"the register's own rules are broken"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := w.hub.Fork(w.speaker, "mine", "Change", tt.mine...)
			w.merged(tt.merged...)
			w.reported(n, tt.want)
			w.contains("the comment", w.comment(n).Body, tt.says...)
		})
	}
}

// TestABranchThatTookTheBaseIn: its history joins that of the base, and is told
// apart from it.
func TestABranchThatTookTheBaseIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	first := w.hub.Pull(n).Head
	fork := w.hub.Branch("main")
	tip := w.merged(file("registrations/its/more.cue", request("its", "141.211.14.8")))

	// "Update branch": the base is merged into it.
	w.hub.SetBranch("updated", tip)
	both := w.hub.Commit("updated", "x", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	w.hub.SetBranch("updated", w.hub.MakeCommit(both, first, tip))
	updated := w.hub.OpenPull(w.speaker, "updated", "Register it")
	w.reported(updated, forge.Success)
	w.contains("the comment", w.comment(updated).Body, "3 → 4 addresses**: 1 added, 0 removed")

	// A merge that takes back what the base has: that is the request's own doing.
	w.hub.SetBranch("undone", w.hub.MakeCommit(first, first, tip))
	undone := w.hub.OpenPull(w.speaker, "undone", "Register it")
	w.reported(undone, forge.Failure)
	w.contains("the comment", w.comment(undone).Body, "`octocat does not speak for its`", "#### Removed (1)")

	// Two that were merged into one another.
	w.git("checkout", "-q", "-b", "side", fork)
	w.git("commit", "-q", "--allow-empty", "-m", "Their branch, merged once")
	side := w.git("rev-parse", "HEAD")
	w.git("checkout", "-q", "main")
	w.git("merge", "-q", "--no-ff", "-m", "Merged", "side")
	if err := w.hub.Import(w.dir, "main"); err != nil {
		t.Fatal(err)
	}
	w.hub.SetBranch("crossed", w.hub.MakeCommit(both, side, tip))
	crossed := w.hub.OpenPull(w.speaker, "crossed", "Register it")
	w.reported(crossed, forge.Failure)
	w.contains("the comment", w.comment(crossed).Body, "its history crosses that of the register")

	// What the base has already changes nothing.
	w.hub.SetBranch("old", fork)
	old := w.hub.OpenPull(w.speaker, "old", "Nothing")
	if run := w.reported(old, forge.Success); run.Title != "nothing of the register changes" {
		t.Error(run.Title)
	}
}

// TestTheMergeQueue: two requests that pass by themselves cannot claim one
// address together.
func TestTheMergeQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.hub.Fork(w.speaker, "one", "One", file(physics+"one.cue", request("lsa-physics", "141.211.13.23")))
	two := w.hub.Fork(w.speaker, "two", "Two", file(physics+"two.cue", request("lsa-physics", "141.211.13.23")))
	w.reported(one, forge.Success)
	w.reported(two, forge.Success)
	group := func(name string, changes ...forgetest.Change) string {
		branch := "gh-readonly-queue/main/" + name
		w.hub.SetBranch(branch, w.hub.Branch("main"))
		return w.hub.Commit(branch, "A group", changes...)
	}
	alone := group("pr-1-0a", file(physics+"one.cue", request("lsa-physics", "141.211.13.23")))
	if out, err := w.run(alone); err != nil || out.Conclusion != forge.Success || w.last().Head != alone {
		t.Errorf("%+v, %v", out, err)
	}
	both := group("pr-2-0a", file(physics+"one.cue", request("lsa-physics", "141.211.13.23")), file(physics+"two.cue", request("lsa-physics", "141.211.13.23")))
	out, err := w.run(both)
	if run := w.last(); err != nil || out.Conclusion != forge.Failure || run.Head != both || len(run.Annotations) != 1 || run.Annotations[0]["title"] != "ip-duplicate" {
		t.Errorf("%+v, %v, %+v", out, err, run)
	}
	if len(w.hub.Comments(one)) != 1 || len(w.hub.Comments(two)) != 1 {
		t.Error("a group has no request to comment on")
	}
	elsewhere := w.hub.Commit("queue/main/pr-1", "No queue of GitHub's", file(physics+"one.cue", "x"))
	if out, err := w.run(elsewhere); err != nil || out.Conclusion != "" {
		t.Errorf("no queue: %+v, %v", out, err)
	}
}

// TestTwoRequestsOfOneHead: the check is the commit's, so the worse verdict
// counts, whoever asks.
func TestTwoRequestsOfOneHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	w.reported(n, forge.Success)
	w.hub.SetBranch("same", w.hub.Pull(n).Head)
	same := w.hub.OpenPull(w.stranger, "same", "The same")
	run := w.reported(n, forge.Failure)
	w.contains("the summary", run.Summary, "## pull request 1", "## pull request 2", "**Nothing to mend.**", "**1 error.**")
	w.contains("the speaker's comment", w.comment(n).Body, "**Nothing to mend.**")
	w.contains("the stranger's comment", w.comment(same).Body, "`hubot does not speak for lsa-physics`")
	// One that goes elsewhere is none of the register's.
	w.hub.SetBranch("release", w.hub.Branch("main"))
	w.hub.Retarget(same, "release")
	w.reported(n, forge.Success)
}

// TestTheRulesOfARequestAreNotItsJudges, and are never evaluated.
func TestTheRulesOfARequestAreNotItsJudges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.merged(file("schema/site.cue", "#Registration: volume: perHour: <=100\n"))
	loose := file("schema/site.cue", "#Registration: {...}\nx: [for a in list.Range(0, 9999999, 1) {a}]\n")
	n := w.hub.Fork(w.speaker, "mine", "Register it", loose, file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	w.reported(n, forge.Failure)
	w.contains("the comment", w.comment(n).Body, "`volume`", "It changes the site's own rules (`schema/site.cue`)")

	alone := w.hub.Fork(w.speaker, "alone", "The rules", loose)
	if run := w.reported(alone, forge.Success); run.Title != "the site's rules change" {
		t.Error(run.Title)
	}
	w.contains("the comment", w.comment(alone).Body, "It changes the site's own rules", "count from the merge on")
}

func TestEvidenceIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Evidence = func(ctx context.Context, was, is *policy.Snapshot) (*review.Witnesses, error) {
		return review.Gather(ctx, was, is, []evidence.Source{down{}}, evidence.Options{}, nil)
	}
	n := w.hub.Fork(w.speaker, "mine", "Register it", file(physics+"new.cue", request("lsa-physics", "141.211.13.23")))
	w.reported(n, forge.Success)
	body := w.comment(n).Body
	w.contains("the comment", body, "#### Evidence (1)", "| `141.211.13.23` | ? unknown | down |")
	if strings.Contains(body, "141.211.13.21`") {
		t.Error("an address that was there before is asked about")
	}
}

// down is a service that does not answer.
type down struct{}

func (down) Name() string { return "down" }

func (down) Observe(context.Context, evidence.Claim) (evidence.Finding, error) {
	return evidence.Finding{}, errors.New("HTTP 503")
}
