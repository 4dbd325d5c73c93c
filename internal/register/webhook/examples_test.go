package webhook_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/webhook"
)

// TestGitHubsExamples delivers every delivery that GitHub's own examples have, of
// github.com and of its Enterprise server, in both forms, signed and not.
func TestGitHubsExamples(t *testing.T) {
	t.Parallel()
	total, pushes := 0, 0
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var events []struct {
			Name     string
			Examples []json.RawMessage
		}
		if err := json.Unmarshal(data, &events); err != nil {
			t.Fatal(err)
		}
		for _, event := range events {
			for i, example := range event.Examples {
				total++
				where := fmt.Sprintf("%s, %s %d", filepath.Base(filepath.Dir(file)), event.Name, i)
				body := string(example)
				var said struct{ Ref string }
				if err := json.Unmarshal(example, &said); err != nil {
					t.Fatal(err)
				}
				branch, isBranch := strings.CutPrefix(said.Ref, "refs/heads/")
				if !isBranch {
					branch = "main"
				}
				result := "ignored"
				switch {
				case event.Name == "ping":
					result = "ping"
				case event.Name == "push" && isBranch:
					result = "woke"
					pushes++
				}
				form := delivery(event.Name, "payload="+url.QueryEscape(body))
				form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				for _, req := range []*http.Request{delivery(event.Name, body), form} {
					d := newDesk(t, func(o *webhook.Options) { o.Branch = branch })
					if code, text := d.take(req); code/100 != 2 || d.count(result) != 1 {
						t.Errorf("%s: not %s but %d %s", where, result, code, text)
					}
				}
				d := newDesk(t, func(o *webhook.Options) { o.Branch = branch })
				req := delivery(event.Name, body)
				req.Header.Del("X-Hub-Signature-256")
				if code, _ := d.take(req); code != http.StatusForbidden || d.count("unsigned") != 1 {
					t.Errorf("%s, not signed: %d", where, code)
				}
			}
		}
	}
	if total < 500 || pushes == 0 {
		t.Errorf("%d examples, %d pushes to a branch", total, pushes)
	}
}

// examples are the files of npm's @octokit/webhooks-examples, which stay
// outside of the repository. In CI, where .ci/run installs them, it is a
// failure that they are missing.
func examples(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("GATEPOST_CI_DIR")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "gatepost-ci")
	}
	files, err := filepath.Glob(filepath.Join(dir, "node_modules", "@octokit", "webhooks-examples", "*", "index.json"))
	switch {
	case err != nil:
		t.Fatal(err)
	case len(files) > 0:
	case os.Getenv("GATEPOST_NO_SKIP") != "":
		t.Fatal("GitHub's examples are not installed; bash .ci/run does it")
	default:
		t.Skip("GitHub's examples are not installed; bash .ci/run does it")
	}
	return files
}
