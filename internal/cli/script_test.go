package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"example.edu/gatepost/internal/cli"
)

// now is the clock of every script, unless it sets GATEPOST_NOW itself.
const now = "2026-11-23T12:00:00Z"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gatepost": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			at, err := time.Parse(time.RFC3339, os.Getenv("GATEPOST_NOW"))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(3)
			}
			code := cli.Main(ctx, cli.Options{
				Args:   os.Args[1:],
				Stdin:  os.Stdin,
				Stdout: os.Stdout,
				Stderr: os.Stderr,
				Now:    func() time.Time { return at },
			})
			stop()
			os.Exit(code)
		},
	})
}

// fixture is a small register without a problem.
const fixture = "testdata/register"

// TestScript runs the scripts of testdata/script, each in a folder of its own
// with a git that knows nothing of the machine.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values[hubKey{}] = &hubs{}
			env.Vars = append(env.Vars,
				"GORACE=atexit_sleep_ms=0", // the race detector's programs wait a second at their end
				"GATEPOST_NOW="+now, "ESCAPE=\x1b[31m",
				"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
				"GIT_AUTHOR_NAME=Postmaster", "GIT_AUTHOR_EMAIL=postmaster@example.edu",
				"GIT_COMMITTER_NAME=Postmaster", "GIT_COMMITTER_EMAIL=postmaster@example.edu",
				"GIT_AUTHOR_DATE=2026-11-01T08:00:00Z", "GIT_COMMITTER_DATE=2026-11-01T08:00:00Z",
			)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"at":         at,
			"deadsocket": deadSocket,
			"dnsserver":  dnsServer,
			"exits":      exits,
			"fakeforge":  fakeForge,
			"fakerelay":  relay,
			"files":      files,
			"fork":       fork,
			"gold":       gold,
			"hash":       hash,
			"needs":      needs,
			"servejudge": serveJudge,
			"settings":   settings,
			"step":       runStep,
			"places":     places,
			"reports":    reports,
			"requests":   requests,
			"register":   register,
			"rules":      rules,
			"sarif":      sarif,
			"toolarge":   tooLarge,
			"webserver":  webServer,
		},
	})
}

// exits runs a command and wants an exit code: exits 1 gatepost check. The
// output is there for stdout and stderr as after exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%v: exit code %s, want %s", args[1:], got, args[0])
	}
}

// register makes the register of testdata/register in a new folder, outside of
// git, with empty folders for its departments.
func register(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: register DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.CopyFS(dir, os.DirFS(fixture)))
	for _, folder := range []string{"its", "blocks"} {
		ts.Check(os.MkdirAll(filepath.Join(dir, "registrations", folder), 0o777))
	}
}

// gold compares the last output (stdout, stderr) or a file with a file in which
// $BASE, $HEAD and the like stand for commits that hash has named, in full or
// cut to twelve digits. With
// SHOW_GOLD set it prints what the file would have to be.
func gold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: gold GOT WANT")
	}
	got := ts.ReadFile(args[0])
	for _, name := range []string{"BASE", "WROTE", "MERGED", "HEAD"} {
		if commit := ts.Getenv(name); commit != "" {
			got = strings.NewReplacer(commit, "$"+name, commit[:12], "$"+name).Replace(got)
		}
	}
	if os.Getenv("SHOW_GOLD") != "" {
		ts.Logf("-- %s --\n%s", filepath.Base(args[1]), got)
		return
	}
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("%s:\n%s\nwant %s:\n%s", args[0], got, args[1], want)
	}
}

// hash names a commit for gold: hash REV NAME.
func hash(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hash REV NAME")
	}
	ts.Check(ts.Exec("git", "rev-parse", args[0]))
	ts.Setenv(args[1], strings.TrimSpace(ts.ReadFile("stdout")))
}

// at sets git's clock.
func at(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: at TIME")
	}
	ts.Setenv("GIT_AUTHOR_DATE", args[0])
	ts.Setenv("GIT_COMMITTER_DATE", args[0])
}

// files wants the files below a folder to be exactly those named: nothing
// left behind. Git's own are not counted.
func files(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: files DIR NAME...")
	}
	var got []string
	root := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if !d.IsDir() {
			rel, err := filepath.Rel(root, path)
			got = append(got, rel)
			return err
		}
		return nil
	}))
	want := slices.Sorted(slices.Values(args[1:]))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		ts.Fatalf("files below %s: %v, want %v", args[0], got, want)
	}
}

// relay listens on a socket for the rest of the script and answers from the
// files of a folder: "GET /v1/queue?held=1" from "GET v1 queue?held=1", with
// 404 and the text of "not-found" where there is none. A first line "HTTP 409"
// sets the status. Requests are noted in DIR/requests.
func relay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fakerelay SOCKET DIR")
	}
	listener, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	dir := ts.MkAbs(args[1])
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		log, err := os.OpenFile(filepath.Join(dir, "requests"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprintf(log, "%s %s %s\n", r.Method, r.RequestURI, body)
			log.Close()
		}
		answer, err := os.ReadFile(filepath.Join(dir, r.Method+strings.ReplaceAll(r.RequestURI, "/", " ")))
		if err != nil {
			http.Error(w, `{"error": "no such thing here"}`, http.StatusNotFound)
			return
		}
		if rest, ok := strings.CutPrefix(string(answer), "HTTP "); ok {
			code, rest, _ := strings.Cut(rest, "\n")
			var n int
			fmt.Sscan(code, &n)
			w.WriteHeader(n)
			answer = []byte(rest)
		}
		w.Write(answer)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	ts.Defer(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			ts.Logf("relay: %v", err)
		}
	})
}

// deadSocket leaves a socket behind that nobody listens on, as a killed relay
// does.
func deadSocket(ts *testscript.TestScript, neg bool, args []string) {
	listener, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	ts.Check(listener.Close())
}
