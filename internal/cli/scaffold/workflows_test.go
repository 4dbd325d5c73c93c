package scaffold_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"example.edu/gatepost/internal/cli/scaffold"
)

// A workflow is what is judged of one.
type workflow struct {
	On          yaml.Node      `yaml:"on"`
	Permissions yaml.Node      `yaml:"permissions"`
	Env         map[string]any `yaml:"env"`
	Jobs        map[string]job `yaml:"jobs"`
}

type job struct {
	Uses        string    `yaml:"uses"`
	Permissions yaml.Node `yaml:"permissions"`
	Secrets     yaml.Node `yaml:"secrets"`
	Steps       []step    `yaml:"steps"`
}

type step struct {
	Name string         `yaml:"name"`
	Uses string         `yaml:"uses"`
	Run  string         `yaml:"run"`
	With map[string]any `yaml:"with"`
}

// strangers are the events that somebody without rights can cause.
var strangers = []string{"pull_request", "pull_request_target", "merge_group", "workflow_run", "issue_comment", "issues", "pull_request_review", "pull_request_review_comment", "discussion", "discussion_comment", "fork", "watch"}

// armed are those of them that come with a token that may write, and secrets.
var armed = slices.DeleteFunc(slices.Clone(strangers), func(s string) bool { return s == "pull_request" || s == "merge_group" })

var (
	pinned     = regexp.MustCompile(`@(v[0-9]+(\.[0-9]+)*|[0-9a-f]{40})$`)
	pinnedTo   = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	ofHead     = regexp.MustCompile(`(?i)head|refs/pull|github\.sha|github\.ref\b`)
	headByHand = regexp.MustCompile(`refs/pull|pull/[^ ]*/(head|merge)|gh +pr +checkout|head_ref|HEAD_REF`)
)

// faults says what a workflow must not be. It is stricter than need be, so
// that it can be simple: an expression in a script is refused whatever is in it.
func faults(data []byte) []string {
	var w workflow
	if err := yaml.Unmarshal(data, &w); err != nil {
		return []string{"it is no workflow: " + err.Error()}
	}
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	events := eventsOf(&w.On)
	has := func(list ...string) bool {
		return slices.ContainsFunc(events, func(e string) bool { return slices.Contains(list, e) })
	}
	if len(events) == 0 || len(w.Jobs) == 0 {
		fault("it has no events or no jobs")
	}
	if has("pull_request_target") {
		fault("pull_request_target: it runs on what a stranger sends, with a token that may write")
	}
	if w.Permissions.IsZero() {
		fault("it does not say which permissions its token has")
	}
	if has("pull_request", "merge_group") && regexp.MustCompile(`\bsecrets\s*[.\[]|secrets:\s*inherit`).Match(data) {
		fault("a secret in a workflow that runs for strangers")
	}
	for name, j := range w.Jobs {
		mayWrite := writes(&w.Permissions)
		if !j.Permissions.IsZero() {
			mayWrite = writes(&j.Permissions)
		}
		checked(j.Uses, fault)
		for i, s := range j.Steps {
			where := fmt.Sprintf("%s, step %d", name, i+1)
			checked(s.Uses, fault)
			head := headByHand.MatchString(s.Run)
			if strings.Contains(s.Uses, "checkout@") {
				if fmt.Sprint(s.With["persist-credentials"]) != "false" {
					fault("%s: a checkout without persist-credentials: false leaves the token on the disk", where)
				}
				ref := fmt.Sprint(s.With["ref"], s.With["repository"])
				head = head || ofHead.MatchString(ref) || has("pull_request", "merge_group", "pull_request_target") && s.With["ref"] == nil
			}
			if head && mayWrite {
				fault("%s: what a request brings is checked out, and the token may write", where)
			}
			if head && has(armed...) {
				fault("%s: what a request brings is checked out in a run that has secrets", where)
			}
			for _, script := range []string{s.Run, fmt.Sprint(s.With["script"])} {
				if strings.Contains(script, "${{") {
					fault("%s: an expression in a script; pass it by env", where)
				}
			}
			if strings.HasPrefix(s.Uses, "./") && has(strangers...) {
				fault("%s: an action out of the work tree runs what the request brings", where)
			}
		}
	}
	return found
}

// checked refuses an action that can change under its name.
func checked(uses string, fault func(string, ...any)) {
	switch {
	case uses == "", strings.HasPrefix(uses, "./"):
	case strings.HasPrefix(uses, "docker://"):
		if !pinnedTo.MatchString(uses) {
			fault("%s is not pinned by its digest", uses)
		}
	case !pinned.MatchString(uses):
		fault("%s is not pinned to a version or a commit", uses)
	}
}

// eventsOf reads on: a word, a list or a map.
func eventsOf(on *yaml.Node) []string {
	switch on.Kind {
	case yaml.ScalarNode:
		return []string{on.Value}
	case yaml.SequenceNode, yaml.MappingNode:
		var out []string
		for i, n := range on.Content {
			if on.Kind == yaml.SequenceNode || i%2 == 0 {
				out = append(out, n.Value)
			}
		}
		return out
	}
	return nil
}

// writes reports whether permissions let the token write anything. Without any,
// it may.
func writes(p *yaml.Node) bool {
	if p.IsZero() {
		return true
	}
	if p.Kind == yaml.ScalarNode {
		return p.Value != "read-all" && p.Value != ""
	}
	for i := 1; i < len(p.Content); i += 2 {
		if v := p.Content[i].Value; v != "read" && v != "none" {
			return true
		}
	}
	return false
}

// allWorkflows are those of this repository, and those of the scaffold.
func allWorkflows(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	root := filepath.Join("..", "..", "..", ".github", "workflows")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(root, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[".github/workflows/"+e.Name()] = data
	}
	for kind, site := range map[string]scaffold.Site{"release": elsewhere, "version": begun} {
		for _, f := range files(t, site) {
			if strings.HasPrefix(f.Path, ".github/workflows/") {
				all["scaffold, "+kind+" "+f.Path] = f.Data
			}
		}
	}
	if len(all) < 7 {
		t.Fatalf("only %d workflows", len(all))
	}
	return all
}

func TestWorkflowsAreSafe(t *testing.T) {
	for name, data := range allWorkflows(t) {
		for _, fault := range faults(data) {
			t.Errorf("%s: %s", name, fault)
		}
		if strings.HasSuffix(name, "/validate.yml") || strings.HasSuffix(name, "/report.yml") {
			text := string(data)
			if strings.Contains(text, "actions/cache") || strings.Count(text, "actions/setup-go") != strings.Count(text, "cache: false") {
				t.Errorf("%s: a cache is shared with runs that a stranger causes", name)
			}
		}
	}
}

// TestUnsafeWorkflowsAreRefused shows that each rule can fail: good is
// without a fault, and each change of it has the one that is named.
func TestUnsafeWorkflowsAreRefused(t *testing.T) {
	const good = `
on:
  pull_request:
permissions:
  contents: read
jobs:
  judge:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          ref: ${{ github.event.pull_request.head.sha }}
          persist-credentials: false
      - env:
          TITLE: ${{ github.event.pull_request.title }}
        run: echo "$TITLE"
`
	if found := faults([]byte(good)); len(found) > 0 {
		t.Fatalf("the good one: %v", found)
	}
	for name, tt := range map[string]struct{ from, to, want string }{
		"pull_request_target with a head checkout":   {"pull_request:", "pull_request_target:", "pull_request_target"},
		"the same, in a list":                        {"on:\n  pull_request:", "on: [push, pull_request_target]", "pull_request_target"},
		"the same, as a word":                        {"on:\n  pull_request:", "on: pull_request_target", "run that has secrets"},
		"workflow_run with a head checkout":          {"pull_request:\n", "workflow_run: {workflows: [x]}\n", "run that has secrets"},
		"a comment that checks out the head":         {"pull_request:\n", "issue_comment:\n", "run that has secrets"},
		"a head by another repository":               {"contents: read\njobs:\n  judge:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n        with:\n          ref: ${{ github.event.pull_request.head.sha }}\n", "contents: write\njobs:\n  judge:\n    steps:\n      - uses: actions/checkout@v4\n        with:\n          ref: main\n          repository: ${{ github.event.pull_request.head.repo.full_name }}\n", "the token may write"},
		"write beside a head checkout":               {"contents: read", "contents: write", "the token may write"},
		"… where the token may write something else": {"contents: read", "contents: read\n  pull-requests: write", "the token may write"},
		"… in the job":                               {"    runs-on:", "    permissions: {checks: write}\n    runs-on:", "the token may write"},
		"… all of it":                                {"permissions:\n  contents: read", "permissions: write-all", "the token may write"},
		"no word on permissions":                     {"permissions:\n  contents: read\n", "", "does not say which permissions"},
		"… beside a head checkout":                   {"permissions:\n  contents: read\n", "", "the token may write"},
		"… where no ref is given":                    {"contents: read\njobs:\n  judge:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n        with:\n          ref: ${{ github.event.pull_request.head.sha }}\n", "contents: write\njobs:\n  judge:\n    steps:\n      - uses: actions/checkout@v4\n        with:\n", "the token may write"},
		"… by hand":                                  {"contents: read\njobs:\n  judge:\n", "contents: write\njobs:\n  other:\n    steps:\n      - run: git fetch origin refs/pull/1/head\n  judge:\n", "other, step 1: what a request brings is checked out, and the token may write"},
		"a title in a script":                        {`echo "$TITLE"`, `echo "${{ github.event.pull_request.title }}"`, "expression in a script"},
		"a body in a script of several lines":        {`run: echo "$TITLE"`, "run: |\n          set -e\n          echo '${{ github.event.pull_request.body }}'", "expression in a script"},
		"a branch in a script":                       {`echo "$TITLE"`, `git checkout ${{ github.head_ref }}`, "expression in a script"},
		"a title in a script of github-script":       {"- env:\n          TITLE: ${{ github.event.pull_request.title }}\n        run: echo \"$TITLE\"", "- uses: actions/github-script@v7\n        with:\n          script: core.info(\"${{ github.event.pull_request.title }}\")", "expression in a script"},
		"a secret":                                   {"${{ github.event.pull_request.title }}", "${{ secrets.KEY }}", "secret"},
		"a secret by another spelling":               {"${{ github.event.pull_request.title }}", "${{ secrets['KEY'] }}", "secret"},
		"all secrets handed on":                      {"    runs-on: ubuntu-latest\n", "    secrets: inherit\n", "secret"},
		"the token left on the disk":                 {"          persist-credentials: false\n", "", "persist-credentials"},
		"… on purpose":                               {"persist-credentials: false", "persist-credentials: true", "persist-credentials"},
		"an action that follows a branch":            {"checkout@v4", "checkout@main", "not pinned"},
		"an action without a version":                {"actions/checkout@v4", "actions/checkout", "not pinned"},
		"an action by a short commit":                {"checkout@v4", "checkout@0a0a0a0", "not pinned"},
		"an image by its tag":                        {"actions/checkout@v4", "docker://alpine:3", "not pinned"},
		"an action out of the request":               {`run: echo "$TITLE"`, "uses: ./request/action", "work tree"},
		"a workflow that is called, by a branch":     {"    runs-on: ubuntu-latest\n", "    uses: a/b/.github/workflows/c.yml@main\n", "not pinned"},
		"no workflow":                                {"jobs:", "jobs: 1 #", "no workflow"},
		"no event":                                   {"on:\n  pull_request:\n", "", "no events"},
	} {
		if strings.Count(good, tt.from) != 1 {
			t.Errorf("%s: %q stands %d times in the good one", name, tt.from, strings.Count(good, tt.from))
			continue
		}
		found := faults([]byte(strings.Replace(good, tt.from, tt.to, 1)))
		if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, tt.want) }) {
			t.Errorf("%s: %q, want one with %q", name, found, tt.want)
		}
	}
}
