package portal

import (
	"net/http"

	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
)

// signInPages shows what the sign-in has to say.
type signInPages struct {
	pages *page.Pages
	again func(http.ResponseWriter, *http.Request) bool // shows a form as it was typed; false: it is none to be shown
}

var _ session.Pages = signInPages{}

// Choose shows the people to choose from.
func (p signInPages) Choose(w http.ResponseWriter, r *http.Request, c session.Choice) {
	p.pages.Render(w, r, http.StatusOK, "sign-in", page.Frame{Token: c.Token, Body: c})
}

// Refuse says why somebody is not let on.
func (p signInPages) Refuse(w http.ResponseWriter, r *http.Request, status int, why session.Refusal) {
	if p.again != nil && p.again(w, r) {
		return
	}
	p.pages.Fail(w, r, status, page.Frame{}, page.Failure{Heading: why.Heading, Text: why.Text, Next: why.Next, Link: page.Link{URL: why.Link, Text: why.Label}})
}
