package demo

import (
	"context"
	"net/http"
	"regexp"
	"testing"
	"time"
)

// A running demo, in this process.
type running struct {
	Options
	out *screen
	dir string
	url string
}

// startDemo runs the demo on free ports until the test ends.
func startDemo(t *testing.T) *running {
	t.Helper()
	needed(t, "git")
	t.Setenv("TMPDIR", t.TempDir())
	r := &running{out: &screen{}}
	r.Options = Options{Out: r.out, Program: "gatepost", Relay: free(t), Submission: free(t), Status: free(t), Portal: free(t)}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, r.Options) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	r.out.await(t, "logs, mails: ")
	r.dir = regexp.MustCompile(`logs, mails: (.+)\n`).FindStringSubmatch(r.out.String())[1]
	r.url = "http://" + r.Portal
	return r
}

// signIn is the visitor's choice of who to be.
func (v *visitor) signIn(who, next string) {
	v.t.Helper()
	v.open("/sign-in?next=" + next)
	v.do("press", args{"at": args{"role": "button", "name": who, "loose": true}}, nil)
	v.arrive("^" + regexp.QuoteMeta(next) + "$")
}

// A machine is what the story registers.
type machine struct{ ip, name string }

// fillIn fills in the form for a machine of Physics, which stands open, without
// a mistake.
func (v *visitor) fillIn(m machine) {
	v.t.Helper()
	v.fill("Department", "physics")
	v.fill("Contact", "Physics IT")
	v.fill("The contact’s mail address", "it@physics.demo.example")
	v.fill("What is the mail for?", "Scan-to-email from the scanner in the workshop.")
	v.fill("Why can it not sign in (SMTP AUTH)?", "Its firmware has no field for a password.")
	v.fill("Address", m.ip)
	v.fill("Full name in the DNS", m.name)
	v.choose("Kind", "Scanner")
	v.fill("Most messages in an hour", "20")
	v.fill("Most messages in a day", "100")
	v.fill("Last day", today().AddDate(1, 0, 0).Format(time.DateOnly))
	for _, condition := range []string{
		"I accept the university’s IT policies.", "The mail is no bulk mail, such as newsletters or campaigns.",
		"None of the machines is a personal workstation.", "None of the machines runs a mail server of its own that could send by itself.",
	} {
		v.tick(condition)
	}
}

// merge is the postmaster's part: the page of a request, and the button.
func (v *visitor) merge(request string) {
	v.t.Helper()
	v.open(request)
	v.press("Merge: approve it")
}

// TestStory is what the demo's first page tells of, from the form to the first
// mail, in a real browser: with the mouse, with the keyboard alone, without
// scripts, and on a small screen. It looks at every page on its way.
func TestStory(t *testing.T) {
	d := startDemo(t)
	b := startBrowser(t, d.url)
	dana, pat := b.visitor(t, "dana", wide), b.visitor(t, "pat", wide)
	t.Run("the pages as they are", func(t *testing.T) { everyPage(t, b, dana.in(t), pat.in(t)) })
	t.Run("from the form to the first mail", func(t *testing.T) { wholeStory(t, dana.in(t), pat.in(t)) })
}

// everyPage looks at every page, as it is when the demo begins.
func everyPage(t *testing.T, b *browser, dana, pat *visitor) {
	type view struct{ name, path string }
	look := func(v *visitor, views ...view) {
		for _, p := range views {
			if status := v.open(p.path); status != http.StatusOK {
				t.Errorf("%s is %d:\n%s", p.path, status, v.text())
			}
			v.look(p.name)
		}
	}
	look(b.visitor(t, "anybody", wide), view{"home", "/"}, view{"demo", "/demo"}, view{"sign-in", "/sign-in?next=/status"})
	dana.signIn("Dana", "/ip")
	look(dana, view{"ip", "/ip"}, view{"ip-live", "/ip/127.0.0.3"}, view{"ip-blocked", "/ip/127.0.1.20"}, view{"ip-soon", "/ip/127.0.0.6"},
		view{"ip-unregistered", "/ip/127.0.3.99"}, view{"departments", "/departments"}, view{"department", "/departments/physics"},
		view{"department-silent", "/departments/museum"}, view{"requests-none", "/requests"}, view{"status", "/status"})
	pat.signIn("Pat", "/status")
	look(pat, view{"status-postmaster", "/status"}, view{"status-block", "/status/block"})
}

// wholeStory is the tour of the demo's first page.
func wholeStory(t *testing.T, dana, pat *visitor) {
	scanner := machine{suggested, "scanner2.physics.demo.example"}

	// The form, with two mistakes in it.
	dana.open("/demo")
	dana.follow("The form, for " + suggested)
	dana.arrive("^/register")
	dana.look("register-empty")
	dana.fillIn(machine{"127.0.2.9", scanner.name})
	dana.fill("Last day", "2040-01-01")
	dana.see("127.0.2.9 is in 127.0.2.0/24, which library holds") // while it is typed
	dana.press("Send Form")
	dana.see("2 things have to be mended")
	dana.look("register-problems")
	dana.fill("Address", scanner.ip)
	dana.fill("Last day", today().AddDate(1, 0, 0).Format(time.DateOnly))
	dana.press("Check")
	dana.see("All is in order.", "a confirmation for 127.0.0.9 goes to it@physics.demo.example")
	dana.look("register-fine")
	dana.press("Send Form")
	request := dana.arrive("^/requests/[0-9]+$")
	dana.look("request")

	// The proof, by a message through the relay.
	dana.follow("Send it from here as " + suggested)
	dana.arrive("^/demo/send")
	dana.look("demo-send")
	dana.press("Send it")
	dana.see("It shows that 127.0.0.9 is in your hands")
	dana.look("demo-proved")
	dana.open(request)
	dana.see("shown")
	dana.look("request-proved")

	// The merge; both pages tell by themselves what becomes of it.
	pat.open(request)
	pat.look("request-postmaster")
	pat.merge(request)
	merged := time.Now()
	pat.see("Live on 1 of 1 relay")
	t.Logf("live %.1f s after the merge", time.Since(merged).Seconds())
	pat.look("request-live")
	dana.see("Live on 1 of 1 relay")

	// The confirmation and the first mail.
	dana.open("/demo/inbox")
	dana.see("Your address 127.0.0.9 is registered")
	dana.look("inbox")
	dana.follow("Your address 127.0.0.9 is registered with relay.demo.example")
	dana.see("STARTTLS")
	dana.look("confirmation")
	dana.open("/demo")
	dana.press("Send a mail from 127.0.0.9")
	dana.see("The relay took it")
	dana.look("demo-sent")
	dana.follow("The inbox")
	dana.see("Scan from 127.0.0.9")
	dana.open("/demo")
	dana.look("demo-done")

	dana.open("/ip/127.0.0.9")
	dana.see("It may send")
	dana.look("ip-registered")
	dana.open("/requests")
	dana.look("requests")
	dana.open("/departments/physics")
	dana.see("127.0.0.9")
	pat.open("/status")
	pat.look("status-after")
}
