package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// registerScript is what the visitor runs to register 127.0.0.2 from a terminal.
// It shows the commands as it goes, since git is all that there is to it.
const registerScript = `set -ex
cd "${0%/*}/register"
git pull -q --ff-only
git switch -q -c scanner
cp ../scanner.cue registrations/physics/
git add registrations
git commit -q -m 'Register the scanner'
git switch -q main
git merge -q --no-ff -m 'Merge branch scanner' scanner
git push -q
`

// makeRegister makes the register, a bare git repository in dir/register.git
// with a dozen registrations, and a checkout of it in dir/register. Beside them
// stand scanner.cue, for 127.0.0.2, and the script that registers it.
func makeRegister(ctx context.Context, dir string, now time.Time) (repository string, err error) {
	repository = filepath.Join(dir, "register.git")
	files := map[string]string{
		"register/registrations/campus/campus.cue": campusCUE,
		"register/registrations/blocks/nmr.cue":    blockCUE(now),
		"scanner.cue":                              scanner.cue(now),
		scriptName:                                 registerScript,
	}
	for _, r := range requests {
		files["register/"+r.path()] = r.cue(now)
	}
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", fmt.Errorf("demo: %w", err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("demo: %w", err)
		}
	}
	checkout := filepath.Join(dir, "register")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"config", "user.name", "Demo Postmaster"}, // so that the visitor's own commits work
		{"config", "user.email", "postmaster@" + domain},
		{"config", "commit.gpgSign", "false"},
		{"add", "."},
		{"commit", "-q", "-m", "The register of a small university"},
		{"clone", "-q", "--bare", ".", repository},
		{"remote", "add", "origin", repository},
		{"fetch", "-q", "origin"},
		{"branch", "-q", "--set-upstream-to", "origin/main"},
	} {
		if err := git(ctx, checkout, args...); err != nil {
			return "", err
		}
	}
	return repository, nil
}

// git runs the git command line, as the visitor will.
func git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("demo: git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
