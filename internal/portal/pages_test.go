package portal

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/status"
)

// TestNobodyLearnsAddresses: whoever is not signed in sees nothing of anybody's,
// and comes back to where they wanted to go.
func TestNobodyLearnsAddresses(t *testing.T) {
	w := newWorld(t, nil)
	for _, path := range []string{"/ip", "/ip/192.0.2.1", "/departments", "/departments/lab", "/requests", "/requests/1"} {
		if code, body := get(t, w.server, path); code != http.StatusSeeOther || !strings.Contains(body, "/sign-in?next="+url.QueryEscape(path)) || strings.Contains(body, "192.0.2.1 ") {
			t.Errorf("%s is %d for a stranger:\n%s", path, code, body)
		}
	}
	w.as(dana)
	w.opens("registrations/lab/new.cue", registrationCUE("lab", "it@physics.example.edu", "2027-06-30", "192.0.2.10"))
	w.sends(http.StatusForbidden, "/requests/1/merge", nil, "This is for postmasters")
	w.sends(http.StatusForbidden, "/requests/1/close", url.Values{"words": {"no"}})
	w.sends(http.StatusForbidden, "/requests/1/ask", url.Values{"words": {"why?"}})
	if r, err := w.git.Get(t.Context(), 1); err != nil || r.State != "open" {
		t.Errorf("a department has changed its state: %+v %v", r, err)
	}
}

// TestLookUp: one address, in each standing.
func TestLookUp(t *testing.T) {
	w := newWorld(t, dana)
	now := time.Now()
	w.seen.addresses = map[string]status.Address{
		"192.0.2.1": {Standing: status.MaySend, Seen: now, Mail: status.Mail{First: now, Last: now, Week: 12}, Confirmation: &status.Confirmation{SentAt: now},
			Refusals: []status.Refusal{{At: now, Count: 3, Reason: "tls", Said: "must <b>issue</b> STARTTLS"}}},
		"192.0.2.3": {Standing: "expired"},
		"192.0.2.9": {Standing: "unregistered", Blocks: []status.Blocked{{Prefix: "192.0.2.9", Reason: "spam", Source: status.ByCommand, Since: now}}},
	}
	w.shows(200, "/ip", "Look up an address")
	w.shows(422, "/ip?ip=300.1.1.1", "That is no IP address", `aria-invalid="true"`, `value="300.1.1.1"`)
	w.shows(422, "/ip?ip=192.0.2.0/24", "Look up one address of it")
	w.shows(303, "/ip?ip=+::ffff:192.0.2.1+", "/ip/192.0.2.1")
	w.shows(200, "/ip/192.0.2.1", "It may send", "12 messages", "/register?from=registrations%2Flab%2Fprinters.cue", "STARTTLS", "3 times", "Switch it on in the machine", "Confirmed")
	w.shows(200, "/ip/192.0.2.2", "it is blocked", "sent &lt;i&gt;spam")
	w.shows(200, "/ip/192.0.2.3", "has expired", "Renew")
	w.shows(200, "/ip/192.0.2.9", "it is blocked", "spam", "on r1")
	w.shows(200, "/ip/192.0.2.77", "it is not registered", `href="/register?ip=192.0.2.77"`)
	w.shows(200, "/ip/198.51.100.4", "in a pool (wireless)", "!/register?ip=")
	w.shows(200, "/ip/203.0.113.4", "not an address of this university")
	w.shows(404, "/ip/nonsense", "That is no IP address")
	w.seen.fail = errors.New("no route to host")
	w.shows(200, "/ip/192.0.2.1", "No answer just now from r1", "It may send")
}

// TestDepartments: what ends, what is silent.
func TestDepartments(t *testing.T) {
	w := newWorld(t, dana)
	w.seen.last = map[netip.Addr]time.Time{netip.MustParseAddr("192.0.2.1"): time.Now().AddDate(0, -5, 0)}
	w.shows(200, "/departments", "The &lt;Laboratory&gt;", "1 address</span>", "Library")
	w.shows(200, "/departments/lab", "192.0.2.1", "192.0.2.3", "expired", "blocked", "silent for 5 months", "no mail yet", "!192.0.2.200", "192.0.2.0/25 (static)")
	w.shows(404, "/departments/nobody", "There is no such department")
	w.sends(422, "/departments/lab", url.Values{"do": {"renew"}}, "Choose one address at least")
	w.sends(422, "/departments/lab", url.Values{"do": {"renew"}, "ip": {"192.0.2.200"}}, "Choose one address at least") // not theirs
	w.sends(422, "/departments/lab", url.Values{"do": {"renew"}, "ip": {"192.0.2.2"}}, "This cannot be done: they hold until", `value="192.0.2.2" aria-label="Choose 192.0.2.2" checked`)

	if to := w.sends(303, "/departments/lab", url.Values{"do": {"renew"}, "ip": {"192.0.2.3"}}); to != "/requests/1" {
		t.Errorf("it leads to %q", to)
	}
	w.shows(200, "/requests/1", "Renew 1 address until "+time.Now().UTC().AddDate(1, 0, 0).Format(time.DateOnly)+" of lab", "by Dana Ito", "Nothing is wrong with it")
	if to := w.sends(303, "/departments/lab", url.Values{"do": {"remove"}, "ip": {"192.0.2.1", "192.0.2.2"}}); to != "/requests/2" {
		t.Errorf("it leads to %q", to)
	}
	w.shows(200, "/requests/2", "Remove 2 addresses of lab", "Removed", "192.0.2.1")
	if r, ok := w.book.Get(2); !ok || r.By.Email != dana.Email || len(r.Contacts) != 1 || r.Contacts[0].Email != "it@physics.example.edu" || len(r.IPs) != 2 {
		t.Errorf("it is remembered as %+v", r)
	}
}

// TestRequestPage follows one from its form to its confirmation.
func TestRequestPage(t *testing.T) {
	w := newWorld(t, dana)
	w.shows(200, "/requests", "None is open")
	w.shows(404, "/requests/1", "There is no such request")
	w.shows(404, "/requests/x", "There is no such request")
	r := w.opens("registrations/lab/new.cue", registrationCUE("lab", "it@physics.example.edu", time.Now().AddDate(0, 6, 0).Format(time.DateOnly), "192.0.2.10", "192.0.2.11"))
	at := fmt.Sprintf("/requests/%d", r.Number)
	w.shows(200, "/requests", "Register registrations/lab/new.cue", "in review")
	w.shows(200, at, "Nothing is wrong with it", "0 of 2 addresses so far", "prove&#43;", "@relay.example.edu", "swaks", "!Merge: approve it", "by Dana Ito")
	one := netip.MustParseAddr("192.0.2.10")
	w.seen.addresses = map[string]status.Address{"192.0.2.10": {Proofs: []status.Proof{{IP: one, At: time.Now()}}}}
	w.shows(200, at, "1 of 2 addresses so far", "shown</span>")

	w.as(pat)
	w.shows(200, at, "Merge: approve it", r.Head)
	w.sends(409, at+"/merge", url.Values{"head": {strings.Repeat("0", 40)}}, "It has changed since you looked at it")
	if to := w.sends(303, at+"/merge", url.Values{"head": {r.Head}}); to != at {
		t.Errorf("it leads to %q", to)
	}
	w.eventually("the merge is read", func() bool { _, ok := w.snapshot().Find(one); return ok })
	w.seen.live = []liveness{{Relay: "r1", Known: true}, {Relay: "r2", Known: true}}
	w.shows(200, at, "approved</span>", "Live on 0 of 2 relays", "by Pat Moss")
	if _, err := w.book.Update(r.Number, func(b *book.Request) { b.Live = map[string]time.Time{"r1": time.Now()} }); err != nil {
		t.Fatal(err)
	}
	w.seen.live[1].Live = true
	w.shows(200, at, "Live on 2 of 2 relays", "0 of 2 addresses so far; one message")
	for _, ip := range []string{"192.0.2.10", "192.0.2.11"} {
		w.seen.addresses[ip] = status.Address{Confirmation: &status.Confirmation{SentAt: time.Now()}}
	}
	w.shows(200, at, "The contact has it", `data-over="yes"`)
	w.sends(422, at+"/close", url.Values{"words": {"too late"}}, "It is not open any more")
}

// TestFaultyRequest: what is wrong stands there in the register's words, and it
// cannot be merged.
func TestFaultyRequest(t *testing.T) {
	w := newWorld(t, pat)
	r := w.opens("registrations/lab/new.cue", registrationCUE("lab", "it@elsewhere.example", "2020-06-30", "192.0.2.200", "198.51.100.1"))
	at := fmt.Sprintf("/requests/%d", r.Number)
	w.shows(200, at, "What is wrong", "ip-pool", "contact-domain", "expired", "must be mended", "!Merge: approve it")
	w.sends(409, at+"/merge", url.Values{"head": {r.Head}}, "It is not fit to be merged")
	w.sends(422, at+"/close", url.Values{"words": {"  "}}, "Write a few words")
	w.sends(303, at+"/close", url.Values{"words": {"Use the library's own scanner, please."}})
	w.shows(200, at, "Closed without being approved", `data-over="yes"`)
	remarks, err := w.git.Remarks(t.Context(), r.Number)
	if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0].Body, "own scanner") {
		t.Errorf("the reason is not at the request: %+v %v", remarks, err)
	}
}
