package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A browser is Chromium, driven by testdata/browser.mjs. One is started for all
// visitors of a test; it ends with the test.
type browser struct {
	in       io.Writer
	out      *bufio.Scanner
	pictures string // the folder for screenshots
	stderr   *screen
}

// startBrowser starts the browser for the pages below base, such as
// "http://127.0.0.1:1234". The screenshots go to the folder that
// GATEPOST_TEST_SCREENSHOTS names, else to the test's artifacts (go test
// -artifacts).
func startBrowser(t *testing.T, base string) *browser {
	t.Helper()
	node, chromium := needed(t, "node"), needed(t, "chromium")
	modules := ciModules(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 6*time.Minute)
	cmd := exec.CommandContext(ctx, node, "testdata/browser.mjs", modules, chromium, base)
	var stderr screen
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's own settings
	cmd.WaitDelay = 5 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its input
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser ended with %v\n%s", err, &stderr)
		}
		cancel()
	})
	b := &browser{in: in, out: bufio.NewScanner(out), stderr: &stderr}
	b.out.Buffer(nil, 8<<20)
	if b.pictures = os.Getenv("GATEPOST_TEST_SCREENSHOTS"); b.pictures == "" {
		b.pictures = t.ArtifactDir()
	}
	if b.pictures, err = filepath.Abs(b.pictures); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// needed is the path of a program that .ci/run installs. In CI it is a failure
// that it is missing.
func needed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	missing(t, err)
	return path
}

// ciModules is the folder with playwright-core and axe-core.
func ciModules(t *testing.T) string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cmp.Or(os.Getenv("GATEPOST_CI_DIR"), filepath.Join(home, ".cache", "gatepost-ci")), "node_modules")
	for _, name := range []string{"playwright-core", "axe-core"} {
		_, err := os.Stat(filepath.Join(dir, name))
		missing(t, err)
	}
	return dir
}

func missing(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("GATEPOST_NO_SKIP") != "":
		t.Fatalf("%v; bash .ci/run installs it", err)
	default:
		t.Skipf("%v; bash .ci/run installs it", err)
	}
}

// args of one step.
type args map[string]any

// step has the browser do one thing. Answers come in the order of the steps, so
// visitors take turns: a test with this browser does not run in parallel.
func (b *browser) step(t *testing.T, do string, a args, value any) {
	t.Helper()
	a["do"] = do
	line, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: %v\n%s", do, err, b.stderr)
	}
	if !b.out.Scan() {
		t.Fatalf("%s: the browser is gone (%v)\n%s", line, b.out.Err(), b.stderr)
	}
	var answer struct {
		Value json.RawMessage
		Error string
	}
	if err := json.Unmarshal(b.out.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Error != "" {
		t.Fatalf("%s: %s", line, answer.Error)
	}
	if value != nil {
		if err := json.Unmarshal(answer.Value, value); err != nil {
			t.Fatal(err)
		}
	}
}

// A visitor is one person at one screen, with cookies of their own.
type visitor struct {
	*browser
	t    *testing.T
	name string
	at   sight
}

// A sight is a screen, and how the visitor likes it.
type sight struct {
	name          string
	width, height int
	dark, plain   bool // plain: no scripts
}

var (
	wide   = sight{name: "wide", width: 1280, height: 900}
	narrow = sight{name: "narrow", width: 360, height: 740}
)

func (s sight) inTheDark() sight {
	s.name, s.dark = s.name+"-dark", true
	return s
}

func (s sight) withoutScripts() sight {
	s.name, s.plain = s.name+"-plain", true
	return s
}

// visitor begins a visit. When the test ends, whatever a page did that no page
// may do is an error: a script that fails, something that the content security
// policy forbids, a request to elsewhere.
func (b *browser) visitor(t *testing.T, name string, s sight) *visitor {
	t.Helper()
	b.step(t, "visitor", args{"name": name, "width": s.width, "height": s.height, "scripts": !s.plain, "dark": s.dark}, nil)
	v := &visitor{b, t, name, s}
	t.Cleanup(func() {
		var wrong []string
		if t.Failed() { // as it was when it failed; there is no more to be asked of it
			v.do("picture", args{"file": filepath.Join(b.pictures, "failed-"+name+".png")}, nil)
		}
		v.do("leave", args{}, &wrong)
		for _, w := range wrong {
			t.Errorf("%s: %s", name, w)
		}
	})
	return v
}

// in is the same visitor in a part of the test.
func (v *visitor) in(t *testing.T) *visitor { return &visitor{v.browser, t, v.name, v.at} }

func (v *visitor) do(step string, a args, value any) {
	v.t.Helper()
	a["name"] = v.name
	v.step(v.t, step, a, value)
}

// open goes to a page and returns the status.
func (v *visitor) open(path string) (status int) {
	v.t.Helper()
	v.do("open", args{"path": path}, &status)
	return status
}

// text is the main part of the page, as it is read.
func (v *visitor) text() (text string) {
	v.t.Helper()
	v.do("text", args{}, &text)
	return text
}

// see waits until each text is to be seen, for twenty seconds at most.
func (v *visitor) see(texts ...string) {
	v.t.Helper()
	for _, text := range texts {
		v.do("see", args{"text": text}, nil)
	}
}

// reloadUntil loads the page again and again until its main part has each text,
// for twenty seconds at most.
func (v *visitor) reloadUntil(texts ...string) {
	v.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		text := v.text()
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(text, s) }) {
			return
		}
		select {
		case <-tick.C:
			v.do("reload", args{}, nil)
		case <-deadline.C:
			v.t.Fatalf("%q was not to be seen within 20 s in:\n%s", texts, text)
		}
	}
}

// fill types into the field of that label, or of that "#id".
func (v *visitor) fill(label, value string) {
	v.t.Helper()
	v.do("fill", args{"at": labelled(label), "value": value}, nil)
}

func labelled(label string) args {
	if strings.HasPrefix(label, "#") {
		return args{"css": label}
	}
	return args{"label": label}
}

// tick ticks the box of that label.
func (v *visitor) tick(label string) {
	v.t.Helper()
	v.do("check", args{"at": labelled(label)}, nil)
}

// choose picks from the list of that label.
func (v *visitor) choose(label, value string) {
	v.t.Helper()
	v.do("choose", args{"at": labelled(label), "value": value}, nil)
}

// press presses a button; follow, a link whose name has that text in it.
func (v *visitor) press(button string) {
	v.t.Helper()
	v.do("press", args{"at": args{"role": "button", "name": button}}, nil)
}

// unfold opens what is folded away under a heading.
func (v *visitor) unfold(summary string) {
	v.t.Helper()
	v.do("press", args{"at": args{"css": "summary:text-is(\"" + summary + "\")"}}, nil)
}

func (v *visitor) follow(link string) {
	v.t.Helper()
	v.do("press", args{"at": args{"role": "link", "name": link, "loose": true}}, nil)
}

// arrive waits for the page whose path matches a pattern, and returns it.
func (v *visitor) arrive(pattern string) (path string) {
	v.t.Helper()
	v.do("arrive", args{"pattern": pattern}, &path)
	return path
}

// keys presses keys, by their names.
func (v *visitor) keys(names ...string) {
	v.t.Helper()
	for _, name := range names {
		v.do("key", args{"key": name}, nil)
	}
}

// A focus is what has the keyboard.
type focus struct {
	Name, Role, ID string
	Seen           bool // it can be seen that it has
}

func (v *visitor) focus() (f focus) {
	v.t.Helper()
	v.do("focused", args{}, &f)
	return f
}

// tabTo presses Tab until what has that name has the focus, and wants it to be
// seen at each stop.
func (v *visitor) tabTo(name string) {
	v.t.Helper()
	var stops []string
	for range 60 {
		v.keys("Tab")
		f := v.focus()
		if !f.Seen && f.Role != "" && f.Role != "main" {
			v.t.Errorf("it cannot be seen that %q has the focus", f.Name)
		}
		if f.Name == name {
			return
		}
		stops = append(stops, f.Name)
	}
	v.t.Fatalf("Tab does not lead to %q, but to %q", name, stops)
}

// typeAt tabs to a field, and types in place of what it has.
func (v *visitor) typeAt(label, value string) {
	v.t.Helper()
	v.tabTo(label)
	v.keys("Control+a")
	v.do("type", args{"value": value}, nil)
}

// screens are what each page is looked at on.
var screens = []sight{wide, wide.inTheDark(), narrow, narrow.inTheDark()}

// look holds the page, as it stands, to WCAG 2.2 AA by axe-core and to the
// width of each screen, and keeps pictures of it.
func (v *visitor) look(name string) {
	v.t.Helper()
	for _, s := range screens {
		var wrong []string
		if v.at.plain { // axe-core is a script
			v.do("screen", args{"width": s.width, "height": s.height, "dark": s.dark}, nil)
		} else {
			v.do("judge", args{"width": s.width, "height": s.height, "dark": s.dark}, &wrong)
		}
		if s.width == wide.width != s.dark { // wide and light, narrow and dark: two show all
			v.do("picture", args{"file": filepath.Join(v.pictures, fmt.Sprintf("%s-%s.png", name, s.name))}, nil)
		}
		for _, w := range wrong {
			v.t.Errorf("%s, %s: %s", name, s.name, w)
		}
	}
	v.do("screen", args{"width": v.at.width, "height": v.at.height, "dark": v.at.dark}, nil)
	var title string
	v.do("title", args{}, &title)
	if before, _, ok := strings.Cut(title, " – "); !ok || before == "" {
		v.t.Errorf("%s: its title is %q", name, title)
	}
}
