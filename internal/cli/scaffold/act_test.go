package scaffold_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli/scaffold"
)

// tools is where .ci/run puts what is installed for tests.
func tools(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("GATEPOST_CI_DIR"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "gatepost-ci")
}

// needs skips the test by name when a program or file is missing; in CI, where
// .ci/run installs them all, it fails instead.
func needs(t *testing.T, things ...string) {
	t.Helper()
	for _, thing := range things {
		_, err := os.Stat(thing)
		if !filepath.IsAbs(thing) {
			_, err = exec.LookPath(thing)
		}
		if err == nil {
			continue
		}
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatalf("%s is not installed; bash .ci/run does it", thing)
		}
		t.Skipf("%s is not installed; bash .ci/run does it", thing)
	}
}

// A stage is a repository at GitHub as far as act needs one: what a checkout
// gets, a judge to download, and programs that stand for actions.
type stage struct {
	t      *testing.T
	dir    string
	work   string // a checkout, of main at first
	judge  string // the release
	digest string
	source bool // the judge is built from the base
}

// stubs are actions that are no download: a checkout of the stage's repository
// with plain git, and a Go that is there already.
var stubs = map[string]string{
	"checkout": `name: checkout
inputs:
  ref: {required: true}
  path: {required: true}
  fetch-depth: {default: "1"}
  persist-credentials: {required: true}
  lfs: {default: "false"}
  submodules: {default: "false"}
runs:
  using: composite
  steps:
    - name: stub
      shell: bash
      env:
        REF: ${{ inputs.ref }}
        INTO: ${{ inputs.path }}
        DEPTH: ${{ inputs.fetch-depth }}
        PERSIST: ${{ inputs.persist-credentials }}
      run: |
        test "$PERSIST" = false && test -n "$REF" && test -n "$INTO"
        git init -q "$INTO"
        cd "$INTO"
        git remote add origin "$ORIGIN"
        if [ "$DEPTH" = 0 ]; then
          git fetch -q --no-tags origin '+refs/heads/*:refs/remotes/origin/*'
          git fetch -q --no-tags origin "$REF"
        else
          git fetch -q --no-tags --depth="$DEPTH" origin "$REF"
        fi
        git checkout -q --detach FETCH_HEAD
`,
	"setup-go": `name: setup-go
inputs:
  go-version-file: {required: true}
  cache: {required: true}
runs:
  using: composite
  steps:
    - name: stub
      shell: bash
      env: {FILE: "${{ inputs.go-version-file }}", CACHE: "${{ inputs.cache }}"}
      run: test -f "$FILE" && test "$CACHE" = false
`,
}

// newStage makes a stage whose main has the register of cli's tests, or all of
// this repository, where the judge is built from its source.
func newStage(t *testing.T, source bool) *stage {
	t.Helper()
	needs(t, "git", "bash", filepath.Join(tools(t), "bin", "act"), filepath.Join(tools(t), "node_modules", "@octokit", "webhooks-examples"))
	s := &stage{t: t, dir: t.TempDir(), source: source}
	s.work = filepath.Join(s.dir, "work")
	for name, text := range stubs {
		s.write(filepath.Join(s.dir, "stubs", name, "action.yml"), text)
	}
	s.git(s.dir, "init", "-q", "-b", "main", "work")
	top, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	site := here
	if source {
		for name := range strings.SplitSeq(s.git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
			if data, err := os.ReadFile(filepath.Join(top, name)); err == nil && name != "" {
				s.write(filepath.Join(s.work, name), string(data))
			}
		}
	} else {
		s.build(top)
		if err := os.CopyFS(s.work, os.DirFS(filepath.Join(top, "internal", "cli", "testdata", "register"))); err != nil {
			t.Fatal(err)
		}
		site = elsewhere
		site.Release = s.digest + " https://example.edu/gatepost"
	}
	for _, f := range files(t, site) {
		s.write(filepath.Join(s.work, f.Path), string(f.Data))
	}
	s.commit("The register")
	s.git(s.dir, "clone", "-q", "--bare", "work", "origin.git")
	s.git(s.work, "remote", "add", "origin", filepath.Join(s.dir, "origin.git"))
	s.git(filepath.Join(s.dir, "origin.git"), "config", "uploadpack.allowAnySHA1InWant", "true")
	return s
}

// build makes the release, and a curl that fetches it and notes what it was
// asked for.
func (s *stage) build(top string) {
	s.t.Helper()
	s.judge = filepath.Join(s.dir, "gatepost")
	cmd := exec.Command("go", "build", "-o", s.judge, "./cmd/gatepost")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "GOFLAGS=") // not with the race detector of the test
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(s.judge)
	if err != nil {
		s.t.Fatal(err)
	}
	s.digest = fmt.Sprintf("%x", sha256.Sum256(data))
	s.write(filepath.Join(s.dir, "bin", "curl"), `#!/bin/bash
while [ $# -gt 1 ]; do
  if [ "$1" = --output ]; then cp "`+s.judge+`" "$2"; fi
  shift
done
echo "$1" >> "`+filepath.Join(s.dir, "fetched")+`"
`)
	if err := os.Chmod(filepath.Join(s.dir, "bin", "curl"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) write(name, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) git(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=P", "GIT_AUTHOR_EMAIL=p@umich.edu", "GIT_COMMITTER_NAME=P", "GIT_COMMITTER_EMAIL=p@umich.edu")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func (s *stage) commit(message string) string {
	s.t.Helper()
	s.git(s.work, "add", "-A", "-f")
	s.git(s.work, "commit", "-q", "--allow-empty", "-m", message)
	return s.git(s.work, "rev-parse", "HEAD")
}

// push puts a commit with some files on a branch that begins at from, and
// brings it to a reference of the repository. It returns the commit.
func (s *stage) push(from, ref string, files map[string]string) string {
	s.t.Helper()
	s.git(s.work, "checkout", "-q", "--detach", from)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.write(filepath.Join(s.work, name), files[name])
	}
	commit := s.commit("A change")
	s.git(s.work, "push", "-q", "-f", "origin", "HEAD:"+ref)
	return commit
}

// event is one of GitHub's own examples with some of its fields changed, each
// named by the keys that lead to it.
func (s *stage) event(name, action string, set map[string]any) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(tools(s.t), "node_modules", "@octokit", "webhooks-examples", "api.github.com", "index.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var all []struct {
		Name     string
		Examples []map[string]any
	}
	if err := json.Unmarshal(data, &all); err != nil {
		s.t.Fatal(err)
	}
	for _, kind := range all {
		for _, e := range kind.Examples {
			if kind.Name != name || e["action"] != action {
				continue
			}
			for path, value := range set {
				at, keys := e, strings.Split(path, ".")
				for _, key := range keys[:len(keys)-1] {
					if at[key] == nil {
						at[key] = map[string]any{}
					}
					at = at[key].(map[string]any)
				}
				if _, known := at[keys[len(keys)-1]]; !known && keys[0] != "changes" {
					s.t.Fatalf("GitHub's %s has no %s", name, path)
				}
				at[keys[len(keys)-1]] = value
			}
			out, err := json.Marshal(e)
			if err != nil {
				s.t.Fatal(err)
			}
			file := filepath.Join(s.t.TempDir(), "event.json")
			s.write(file, string(out))
			return file
		}
	}
	s.t.Fatalf("GitHub has no example of %s %s", name, action)
	return ""
}

// act runs a workflow as it is on main under act, without a container. What act
// knows nothing of are the permissions of tokens, and what GitHub keeps from
// forks; see TestWorkflowsAreSafe.
func (s *stage) act(workflow, name, event string, args ...string) result {
	s.t.Helper()
	home := s.t.TempDir()
	site := elsewhere
	if s.source {
		site = here
	}
	list, err := scaffold.Files(site)
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(home, "repository", workflow)
	for _, f := range list {
		if f.Path == ".github/workflows/"+workflow {
			s.write(file, string(f.Data))
		}
	}
	s.git(filepath.Dir(file), "init", "-q", "-b", "main")
	s.git(filepath.Dir(file), "remote", "add", "origin", "https://github.com/umich/register")
	s.git(filepath.Dir(file), "commit", "-q", "--allow-empty", "-m", "x")
	empty := filepath.Join(home, "empty")
	s.write(empty, "")
	ctx, cancel := context.WithTimeout(s.t.Context(), 8*time.Minute)
	defer cancel()
	args = append([]string{name, "-C", filepath.Dir(file), "-W", file, "-e", event, "-P", "ubuntu-latest=-self-hosted", "--no-cache-server", "--no-skip-checkout",
		"--action-cache-path", filepath.Join(home, "cache"), "--env-file", empty, "--secret-file", empty, "--var-file", empty, "--env", "ORIGIN=" + filepath.Join(s.dir, "origin.git"),
		"--local-repository", "actions/checkout@v4=" + filepath.Join(s.dir, "stubs", "checkout"),
		"--local-repository", "actions/setup-go@v5=" + filepath.Join(s.dir, "stubs", "setup-go"),
	}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(tools(s.t), "bin", "act"), args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, "xdg"), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"), "GOFLAGS=")
	if s.source { // what is built is kept where the test's own is
		cmd.Env = append(cmd.Env, "GOCACHE="+s.goEnv("GOCACHE"), "GOMODCACHE="+s.goEnv("GOMODCACHE"))
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		s.t.Fatalf("act: %v\n%s", ctx.Err(), out)
	}
	return result{s.t, string(out), err == nil}
}

func (s *stage) goEnv(name string) string {
	s.t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A result is what act printed, and whether the job passed.
type result struct {
	t      *testing.T
	log    string
	passed bool
}

// want compares a result: whether it passed, what the log has and, behind a
// minus sign, what it has not.
func (r result) want(passed bool, texts ...string) {
	r.t.Helper()
	bad := r.passed != passed
	if bad {
		r.t.Errorf("passed: %v, want %v", r.passed, passed)
	}
	for _, text := range texts {
		unwanted, not := strings.CutPrefix(text, "-")
		if strings.Contains(r.log, unwanted) == not {
			r.t.Errorf("in the log, %q: %v", unwanted, not)
			bad = true
		}
	}
	if bad {
		r.t.Log(r.log)
	}
}
