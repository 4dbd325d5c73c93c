package demo

import (
	"context"
	"net/http"
	"regexp"
	"testing"
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

// TestPages looks at every page, as it is when the demo begins.
func TestPages(t *testing.T) {
	d := startDemo(t)
	b := startBrowser(t, d.url)
	anybody := b.visitor(t, "anybody", wide)
	for _, p := range []struct{ name, path string }{{"home", "/"}, {"demo", "/demo"}, {"sign-in", "/sign-in?next=/status"}} {
		if status := anybody.open(p.path); status != http.StatusOK {
			t.Errorf("%s is %d", p.path, status)
		}
		anybody.look(p.name)
	}
	dana := b.visitor(t, "dana", wide)
	dana.signIn("Dana", "/ip")
	for _, p := range []struct{ name, path string }{
		{"ip", "/ip"}, {"ip-live", "/ip/127.0.0.3"}, {"ip-blocked", "/ip/127.0.1.20"}, {"ip-soon", "/ip/127.0.0.6"}, {"ip-unregistered", "/ip/127.0.3.99"},
		{"departments", "/departments"}, {"department", "/departments/physics"}, {"department-silent", "/departments/museum"}, {"requests", "/requests"},
	} {
		if status := dana.open(p.path); status != http.StatusOK {
			t.Errorf("%s is %d:\n%s", p.path, status, dana.text())
		}
		dana.look(p.name)
	}
}

// TestRenewal renews an address and merges it.
func TestRenewal(t *testing.T) {
	d := startDemo(t)
	b := startBrowser(t, d.url)
	dana := b.visitor(t, "dana", wide)
	dana.signIn("Dana", "/departments/physics")
	dana.tick("Choose 127.0.0.6")
	dana.press("Ask to renew the chosen for a year")
	at := dana.arrive("^/requests/[0-9]+$")
	dana.look("request")
	pat := b.visitor(t, "pat", wide)
	pat.signIn("Pat", at)
	pat.look("request-postmaster")
	pat.press("Merge: approve it")
	pat.see("Live on")
	pat.look("request-live")
	dana.see("Live on")
	dana.open("/ip/127.0.0.6")
	dana.look("ip-renewed")
	dana.open("/requests")
	dana.look("requests")
	pat.open("/status")
	pat.look("status")
}
