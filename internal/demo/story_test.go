package demo

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"strings"
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

// conditions are what the form asks to accept.
var conditions = []string{
	"I accept the university’s IT policies.", "The mail is no bulk mail, such as newsletters or campaigns.",
	"None of the machines is a personal workstation.", "None of the machines runs a mail server of its own that could send by itself.",
}

// fillIn fills in the form for a machine of Physics, or for those that are in it,
// without a mistake.
func (v *visitor) fillIn(m machine) {
	v.t.Helper()
	v.fill("Department", "physics")
	v.fill("Contact", "Physics IT")
	v.fill("The contact’s mail address", "it@physics.demo.example")
	v.fill("What is the mail for?", "Scan-to-email from the scanner in the workshop.")
	v.fill("Why can it not sign in (SMTP AUTH)?", "Its firmware has no field for a password.")
	if m.ip != "" {
		v.fill("Address", m.ip)
		v.fill("Full name in the DNS", m.name)
		v.choose("Kind", "Scanner")
	}
	v.fill("Most messages in an hour", "20")
	v.fill("Most messages in a day", "100")
	v.fill("Last day", today().AddDate(1, 0, 0).Format(time.DateOnly))
	for _, condition := range conditions {
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
	pat.signIn("Pat", "/status")
	t.Run("the pages as they are", func(t *testing.T) { everyPage(t, b, dana.in(t), pat.in(t)) })
	t.Run("from the form to the first mail", func(t *testing.T) { wholeStory(t, dana.in(t), pat.in(t)) })
	t.Run("a block", func(t *testing.T) { block(t, dana.in(t), pat.in(t)) })
	t.Run("by keyboard alone", func(t *testing.T) { byKeyboard(t, b.visitor(t, "keyboard", wide)) })
	t.Run("without scripts", func(t *testing.T) { withoutScripts(t, d, b.visitor(t, "plain", wide.withoutScripts()), pat.in(t)) })
	t.Run("on a small screen", func(t *testing.T) { onSmallScreen(t, b.visitor(t, "small", narrow), pat.in(t)) })
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
	dana.signIn("Robin", "/ip")
	dana.signIn("Dana", "/ip") // instead
	look(dana, view{"ip", "/ip"}, view{"ip-live", "/ip/127.0.0.3"}, view{"ip-blocked", "/ip/127.0.1.20"}, view{"ip-soon", "/ip/127.0.0.6"},
		view{"ip-unregistered", "/ip/127.0.3.99"}, view{"departments", "/departments"}, view{"department", "/departments/physics"},
		view{"department-silent", "/departments/museum"}, view{"requests-none", "/requests"}, view{"status", "/status"})
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
	pat.open("/demo")
	pat.see("Become Pat")
	pat.follow("Sign in as Pat")
	pat.do("press", args{"at": args{"role": "button", "name": "Pat", "loose": true}}, nil)
	pat.arrive("^" + request + "$")
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

	// What ends soon is renewed from the department's page.
	dana.open("/departments/physics")
	dana.see("127.0.0.9")
	dana.tick("Choose 127.0.0.6")
	dana.press("Ask to renew the chosen for a year")
	pat.open(dana.arrive("^/requests/[0-9]+$"))
	pat.see("Checked")
	pat.press("Merge: approve it")
	pat.see("Live on 1 of 1 relay")
	pat.look("request-renewed")
	if text := pat.text(); strings.Contains(text, "Confirmation") {
		t.Errorf("a renewal waits for a confirmation:\n%s", text)
	}
	pat.open("/status")
	pat.look("status-after")
}

// block keeps a machine from sending, and lets it again.
func block(t *testing.T, dana, pat *visitor) {
	pat.open("/status")
	pat.follow("Block an address")
	pat.press("Block it") // with nothing filled in
	pat.see("There is a problem")
	pat.look("block-problems")
	pat.fill("Address or network", "127.0.2.10")
	pat.fill("Reason", "it scans by itself at night")
	pat.tick("Yes, do it now.")
	pat.press("Block it")
	pat.see("What became of it on each relay")
	pat.look("block-done")
	dana.open("/demo/send?from=127.0.2.10")
	dana.press("Send it")
	dana.see("The relay refused it", "127.0.2.10 is blocked")
	dana.look("demo-blocked")
	dana.follow("Look 127.0.2.10 up")
	dana.see("it scans by itself at night")
	dana.look("ip-blocked-now")
	pat.open("/status")
	pat.see("by command on relay1")
	pat.look("status-blocked")
	pat.follow("End it for 127.0.2.10")
	pat.fill("Reason", "it was mended")
	pat.tick("Yes, do it now.")
	pat.press("End the block")
	pat.see("What became of it on each relay")
	dana.open("/demo/send?from=127.0.2.10")
	dana.press("Send it")
	dana.see("The relay took it")
}

// byKeyboard sends the form without the mouse, with a field left empty at first.
func byKeyboard(t *testing.T, v *visitor) {
	v.open("/demo")
	v.keys("Tab")
	if f := v.focus(); f.Name != "Skip to the content" || !f.Seen {
		t.Errorf("the first stop is %+v", f)
	}
	v.keys("Enter", "Tab")
	if f := v.focus(); f.Name != "Sign in" {
		t.Errorf("behind the skip link comes %+v", f)
	}
	v.keys("Enter")
	v.arrive("^/sign-in")
	v.tabTo("Dana of Physics dana@physics.demo.example")
	v.keys("Enter")
	v.arrive("^/register")
	v.typeAt("Contact", "Physics IT")
	v.typeAt("The contact’s mail address", "it@physics.demo.example")
	v.typeAt("What is the mail for?", "Alarms of the vacuum pump.")
	v.typeAt("Why can it not sign in (SMTP AUTH)?", "The pump has no field for a password.")
	v.typeAt("Address", "127.0.0.10")
	v.tabTo("Full name in the DNS") // nothing is typed there
	v.tabTo("Kind")
	v.do("type", args{"value": "app"}, nil)
	v.typeAt("Most messages in an hour", "5")
	v.typeAt("Most messages in a day", "20")
	for _, condition := range conditions {
		v.tabTo(condition)
		v.keys("Space")
	}
	v.tabTo("Send Form")
	v.keys("Enter")
	v.see("1 thing has to be mended")
	if f := v.focus(); f.ID != "summary" {
		t.Errorf("the focus is on %+v, and not on the list of what is wrong", f)
	}
	v.keys("Tab", "Enter")
	if f := v.focus(); f.ID != "host-1-name" || !f.Seen {
		t.Errorf("the link leads to %+v", f)
	}
	v.do("type", args{"value": "pump.physics.demo.example"}, nil)
	v.tabTo("Send Form")
	v.keys("Enter")
	v.arrive("^/requests/[0-9]+$")
	v.see("pump.physics.demo.example")
}

// withoutScripts goes the whole way with two machines, and proves control of
// them as machines do.
func withoutScripts(t *testing.T, d *running, v, pat *visitor) {
	v.signIn("Dana", "/register?ip=127.0.0.11")
	v.fillIn(machine{"127.0.0.11", "mfp11.physics.demo.example"})
	v.press("Add another machine")
	v.fill("#host-2-ip", "127.0.3.12") // of Facilities
	v.fill("#host-2-name", "mfp12.physics.demo.example")
	v.choose("#host-2-kind", "Printer")
	v.press("Send Form")
	v.see("1 thing has to be mended", "127.0.3.12 is in 127.0.3.0/24, which facilities holds")
	v.look("plain-problems")
	v.fill("#host-2-ip", "127.0.0.12")
	v.press("Send Form")
	request := v.arrive("^/requests/[0-9]+$")
	v.look("plain-request")

	proofs := regexp.MustCompile(`(127\.0\.0\.1[12]) not yet\s+(prove\+[a-z0-9]+@relay\.demo\.example)`).FindAllStringSubmatch(v.text(), -1)
	if len(proofs) != 2 {
		t.Fatalf("the page has proofs for %q:\n%s", proofs, v.text())
	}
	for _, p := range proofs {
		var dialog bytes.Buffer
		if ok, err := Send(t.Context(), &dialog, Mail{Server: d.Relay, From: netip.MustParseAddr(p[1]), To: p[2], Subject: "test"}); err != nil || !ok {
			t.Fatalf("%s: %v\n%s\n%s", p[1], err, &dialog, v.text())
		}
	}
	v.reloadUntil("127.0.0.11 shown", "127.0.0.12 shown")
	pat.merge(request)
	v.reloadUntil("Live on 1 of 1 relay")
	v.look("plain-live")
	v.open("/demo/inbox")
	v.reloadUntil("Your address 127.0.0.12 is registered")
	v.look("plain-inbox")
}

// onSmallScreen asks for a list of machines, is asked, and answers.
func onSmallScreen(t *testing.T, v, pat *visitor) {
	v.signIn("Dana", "/register")
	v.unfold("Paste a list of machines")
	v.fill("List", "127.0.0.13, pi1.physics.demo.example, sensor\npi2.physics.demo.example, sensor, 127.0.0.14\n")
	v.press("Take the list over")
	v.see("Machine 2")
	v.fillIn(machine{})
	v.look("small-register")
	v.press("Send Form")
	request := v.arrive("^/requests/[0-9]+$")

	pat.open(request)
	pat.unfold("Ask the contact, or close it")
	pat.look("ask")
	pat.fill("Your question, or the reason", "Which room are they in?\nAnd <b>why</b> two?")
	pat.press("Ask")
	pat.see("A question from Pat Moss")
	number := path.Base(request)
	v.open("/demo/inbox")
	v.see("A question about your request " + number)
	v.follow("A question about your request " + number)
	v.see("And <b>why</b> two?")
	v.look("small-question-mail")
	v.follow(request) // the link in it
	v.arrive("^" + request + "$")
	v.see("And <b>why</b> two?")
	v.look("small-question")
	v.fill("Your answer", "Room 12, one at each door. 😀")
	v.press("Send the answer")
	v.see("Room 12, one at each door. 😀")
	v.look("small-answered")
	pat.see("Room 12, one at each door. 😀")
	pat.look("answered")
	pat.unfold("Ask the contact, or close it")
	pat.fill("Your question, or the reason", "One of them is enough: send the form again.")
	pat.press("Close without approving")
	pat.see("Closed without being approved", "One of them is enough")
	v.see("Closed without being approved")
	v.look("small-closed")
	v.open("/demo/inbox")
	v.see("Your request " + number + " was closed")
	v.look("small-inbox")
}
