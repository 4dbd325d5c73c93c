package scaffold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// request is a registration of the department that octocat (583231) speaks for.
const request = `department: "lsa-physics"
contact: {name: "Physics IT", email: "physics-it@umich.edu"}
purpose:   "Scan-to-email from a third multifunction printer."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
	{ip: "141.211.13.23", name: "mfp3.physics.lsa.umich.edu", kind: "printer"},
]
volume: {perHour: 200, perDay: 1000}
expires: "2027-11-20"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`

const mine = "registrations/lsa-physics/new.cue"

// opened is the event of a request of octocat's.
func (s *stage) opened(base, head string, set map[string]any) string {
	all := map[string]any{
		"pull_request.base.sha": base, "pull_request.head.sha": head, "pull_request.user.login": "octocat", "pull_request.user.id": 583231,
		"pull_request.title": "$(touch " + filepath.Join(s.dir, "pwned") + ") `id` ${{ secrets.KEY }}", "pull_request.head.ref": "$(id)",
	}
	for k, v := range set {
		all[k] = v
	}
	return s.event("pull_request", "opened", all)
}

// TestValidateUnderAct runs validate.yml on requests out of a fork and on groups
// of the merge queue. The judge is a release that the base names.
func TestValidateUnderAct(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	base := s.git(s.work, "rev-parse", "main")
	validate := func(event string, set map[string]any, base, head string) result {
		if event == "merge_group" {
			return s.act("validate.yml", event, s.event(event, "checks_requested", map[string]any{"merge_group.base_sha": base, "merge_group.head_sha": head}))
		}
		return s.act("validate.yml", event, s.opened(base, head, set))
	}
	fetched := func() string {
		data, _ := os.ReadFile(filepath.Join(s.dir, "fetched"))
		os.Remove(filepath.Join(s.dir, "fetched"))
		return strings.TrimSpace(string(data))
	}

	good := s.push(base, "refs/pull/1/head", map[string]string{mine: request})
	validate("pull_request", nil, base, good).want(true, "3 addresses: no problems", "Summary - ### What merging this does", "141.211.13.23", "1 added")
	if got := fetched(); got != "https://example.edu/gatepost" {
		t.Errorf("fetched %q", got)
	}

	bad := s.push(base, "refs/pull/2/head", map[string]string{mine: strings.ReplaceAll(request, "141.211.13.23", "141.211.14.23")})
	validate("pull_request", nil, base, bad).want(false, "::error file=registrations/lsa-physics/new.cue,line=6,col=7,title=ip-not-owned::", "What merging this does")
	validate("pull_request", map[string]any{"pull_request.user.login": "hubot", "pull_request.user.id": 480938}, base, good).want(false, "title=author-not-speaker::hubot does not speak for lsa-physics")
	fetched()

	// A request about something else gets no judge.
	other := s.push(base, "refs/pull/3/head", map[string]string{"README.md": "# Hello\n", "internal/x.go": "package x\n"})
	validate("pull_request", nil, base, other).want(true, "This changes nothing of the register.", "-Run Main check", "-What merging this does")
	// Neither does one with another title, and no job either.
	validate("pull_request", map[string]any{"action": "edited", "changes.title": map[string]any{"from": "x"}}, base, good).want(true, "-Run Main")
	if got := fetched(); got != "" {
		t.Errorf("fetched %q", got)
	}
	validate("pull_request", map[string]any{"action": "edited", "changes.base": map[string]any{"ref": map[string]any{"from": "x"}}}, base, good).want(true, "no problems")
	fetched()

	// What the request says of the judge, of the rules, of git and of everything
	// that could be run counts for nothing.
	evil := s.push(base, "refs/pull/4/head", map[string]string{
		mine: request, ".github/gatepost": s.digest + " https://evil.example/gatepost\n", ".github/workflows/validate.yml": "x",
		"schema/site.cue": "#Registration: volume: perHour: <=1\n", ".gitattributes": "*.md filter=evil diff=evil\n", "Makefile": "all:\n\ttouch pwned\n",
		"go.work": "x", "registrations/lsa-physics/$(touch pwned).cue": "::error::evil\n##[add-mask]x\n::stop-commands::x\n",
	})
	validate("pull_request", nil, base, evil).want(false, "title=path::the name holds", "-perHour", "-error::evil")
	if got := fetched(); got != "https://example.edu/gatepost" {
		t.Errorf("fetched %q", got)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
		t.Error("a title was run")
	}

	// A judge that is not what its digest says is not used.
	wrong := s.push(base, "refs/heads/wrong", map[string]string{".github/gatepost": strings.Repeat("0a", 32) + " https://example.edu/gatepost\n"})
	validate("pull_request", nil, wrong, s.push(wrong, "refs/pull/5/head", map[string]string{mine: request})).want(false, "FAILED", "-Run Main check", "-What merging this does")

	// The base goes on: what was merged meanwhile is none of the request's.
	later := s.push(base, "refs/heads/main", map[string]string{"registrations/lsa-physics/later.cue": strings.ReplaceAll(request, ".23", ".99")})
	stranger := map[string]any{"pull_request.user.login": "hubot", "pull_request.user.id": 480938}
	alarm := s.push(base, "refs/pull/6/head", map[string]string{"registrations/its/alarm.cue": strings.NewReplacer("lsa-physics", "its", "141.211.13.23", "141.211.14.23").Replace(request)})
	validate("pull_request", stranger, later, alarm).want(true, "no problems", "1 added, 0 removed")

	// Two that pass by themselves, and not together.
	one := s.push(base, "refs/heads/gh-readonly-queue/main/pr-1-0a", map[string]string{mine: request})
	validate("merge_group", nil, base, one).want(true, "no problems", "1 added")
	both := s.push(one, "refs/heads/gh-readonly-queue/main/pr-2-0a", map[string]string{"registrations/lsa-physics/same.cue": request})
	validate("merge_group", nil, one, both).want(false, "title=ip-duplicate::")
}

// TestTheJudgeIsBuiltFromTheBase runs this repository's own validate.yml: a
// request that breaks the judge, or bends it, is judged by the one before.
func TestTheJudgeIsBuiltFromTheBase(t *testing.T) {
	t.Parallel()
	s := newStage(t, true)
	base := s.git(s.work, "rev-parse", "main")
	head := s.push(base, "refs/pull/1/head", map[string]string{
		"internal/cli/check.go": "package cli\n\nbroken\n", "go.mod": "x",
		"registrations/lsa-physics/new.cue": strings.NewReplacer("141.211.13.23", "8.8.8.8").Replace(request),
	})
	s.act("validate.yml", "pull_request", s.opened(base, head, nil)).want(false, "title=ip-not-campus::8.8.8.8", "title=author-not-speaker::it could not be told whether octocat", "What merging this does")
}

// TestActionlint runs actionlint over all workflows, with shellcheck over what
// they run.
func TestActionlint(t *testing.T) {
	t.Parallel()
	program := filepath.Join(tools(t), "bin", "actionlint")
	needs(t, program, "shellcheck")
	lint := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "workflow.yml")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "-no-color", file).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return string(out)
	}
	for name, data := range allWorkflows(t) {
		if said := lint(name, data); said != "" {
			t.Errorf("%s: %s", name, said)
		}
	}
	if lint("bad", []byte("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo $x\n")) == "" {
		t.Error("shellcheck looks at nothing")
	}
}
