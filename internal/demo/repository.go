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

// department is the one department of the demo's register.
const department = "demo-lab"

// campusCUE is the demo's university: the loopback network.
const campusCUE = `// The university's address space. In the demo it is the loopback network.
campus: ["127.0.0.0/8"]

// Which department holds which part of it.
networks: "127.0.0.0/24": {department: "` + department + `", use: "static"}

// Who may speak for a department.
departments: "` + department + `": {
	name: "Demo Laboratory"
	speakers: [{github: "octocat", id: 583231}]
	contactDomains: ["demo.example"]
}
`

// registrationCUE is one device's registration.
func registrationCUE(ip, name, kind, purpose string, expires time.Time) string {
	return fmt.Sprintf(`// %s
department: %q
contact: {name: "Demo IT", email: "it@demo.example"}
purpose:   %q
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
	{ip: %q, name: %q, kind: %q},
]
volume: {perHour: 200, perDay: 1000}
expires: %q
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, purpose, department, purpose, ip, name, kind, expires.Format(time.DateOnly))
}

// registerScript is what the visitor runs to register 127.0.0.2. It shows the
// commands as it goes, since git is all that there is to it.
const registerScript = `set -ex
cd "${0%/*}/register"
git switch -q -c scanner
cp ../scanner.cue registrations/` + department + `/
git add registrations
git commit -q -m 'Register the scanner'
git switch -q main
git merge -q --no-ff -m 'Merge pull request #1 from ` + department + `/scanner' scanner
`

// makeRegister makes a git repository with a sample register in dir/register:
// one department, 127.0.0.1 registered. Beside it stand scanner.cue, for
// 127.0.0.2, and the script that registers it.
func makeRegister(ctx context.Context, dir string, now time.Time) (repository string, err error) {
	repository = filepath.Join(dir, "register")
	expires := now.AddDate(1, 0, 0)
	files := map[string]string{
		"register/registrations/campus/campus.cue": campusCUE,
		"register/registrations/" + department + "/printer.cue": registrationCUE("127.0.0.1", "printer.demo.example", "printer",
			"Scan-to-email from the printer in the demo laboratory.", expires),
		"scanner.cue": registrationCUE("127.0.0.2", "scanner.demo.example", "scanner",
			"Scan-to-email from the scanner in the demo laboratory.", expires),
		scriptName: registerScript,
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
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"config", "user.name", "Demo Postmaster"}, // so that the visitor's own commits work
		{"config", "user.email", "postmaster@demo.example"},
		{"config", "commit.gpgSign", "false"},
		{"add", "."},
		{"commit", "-q", "-m", "A register with one printer"},
	} {
		if err := git(ctx, repository, args...); err != nil {
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
