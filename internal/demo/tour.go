package demo

import (
	"net/url"
	"strconv"

	"example.edu/gatepost/internal/portal/page"
)

// suggested is the address that the tour registers.
const suggested = "127.0.0.9"

// deeds is what has happened to the address of the tour.
type deeds struct {
	requested bool // a request for it was opened
	number    int  // its number
	proved    bool
	merged    bool
	live      bool // its confirmation has arrived
	sent      bool // mail of it has arrived
}

// A step of the tour.
type step struct {
	Title, Text string
	Done        bool
	Now         bool // the first that is not done
	Links       []action
	Send        string // the address of a button that sends a mail; "": none
}

// An action is a link and what it is good for.
type action struct{ URL, Text, Why string }

// tour is the story that the demo tells, for whoever looks at it.
func tour(d deeds, who *page.Visitor) []step {
	form, request := "/register?ip="+suggested, action{URL: "/requests", Text: "Requests"}
	if d.requested {
		request = action{URL: "/requests/" + strconv.Itoa(d.number), Text: "The request"}
	}
	signIn := func(text, next string) action {
		return action{URL: "/sign-in?" + url.Values{"next": {next}}.Encode(), Text: text}
	}
	steps := []step{
		{Title: "Sign in as Dana, who speaks for Physics", Text: "A new scanner in the department is to send mail. Its address is " + suggested + ".",
			Done: who != nil || d.requested, Links: []action{signIn("Sign in", form)}},
		{Title: "Fill in the form and send it", Text: "Make a mistake on purpose: an address of the library, a date in ten years. Each problem shows beside its field.",
			Done: d.requested, Links: []action{{URL: form, Text: "The form, for " + suggested}}},
		{Title: "Show that the machine is yours", Text: "The request’s page has an address for it. “Send it from here” there does what the scanner would do.",
			Done: d.proved || d.live, Links: []action{request}},
		{Title: "Become Pat, the postmaster, and press “Merge”", Text: "Then watch the request’s page: within seconds the relay has taken it over, and it is live.",
			Done: d.merged, Links: []action{signIn("Sign in as Pat", request.URL)}},
		{Title: "Read the confirmation", Text: "One for each address, to the department’s contact.",
			Done: d.live, Links: []action{{URL: "/demo/inbox", Text: "The inbox"}}},
		{Title: "Send a mail from " + suggested, Text: "Before it was registered, the relay would have refused it and said why.",
			Done: d.sent, Send: suggested},
	}
	for i := range steps {
		if !steps[i].Done {
			steps[i].Now = true
			break
		}
	}
	return steps
}

// more is what else there is to try.
var more = []action{
	{"/demo/send?from=127.0.3.99", "Send from a machine that nobody registered", "The reply says what to do; the status page shows who tried."},
	{"/register?ip=127.0.2.9", "Ask for an address of the library as Dana", "The form says whose it is."},
	{"/register?ip=127.0.5.7", "Ask for a wireless address", "Those change hands, so none is registered."},
	{"/ip/127.0.1.20", "Look up a machine that is blocked", "Who blocked it, why, and until when."},
	{"/departments/physics", "All of a department’s machines", "One of them ends in twelve days. The portal has asked to renew it already."},
	{"/requests", "As Pat, ask Dana something", "The question is in the inbox, with a link to where Dana answers it."},
	{"/status", "The relay, as a postmaster sees it", "Charts, who sends most, and a button that blocks within a second."},
}
