package session

import (
	"net/http"

	"example.edu/gatepost/internal/config"
)

// A trial is the way in for trying the portal out: whoever comes chooses who to
// be. The configuration allows it on loopback addresses only.
type trial struct {
	s      *Sessions
	people []config.Someone
}

var _ way = (*trial)(nil)

const trialFrom = "development"

// find is one of the people, by mail address.
func (t *trial) find(email string) (Person, bool) {
	for _, p := range t.people {
		if p.Email == email {
			return Person{ID: p.Email, Name: p.Name, Email: p.Email, Postmaster: p.Postmaster}, true
		}
	}
	return Person{}, false
}

func (t *trial) who(_ *http.Request, had *ticket) (Person, bool) {
	if had == nil || had.From != trialFrom {
		return Person{}, false
	}
	return t.find(had.ID)
}

func (t *trial) strip(*http.Request) {}
func (t *trial) out() string         { return "/" }
func (t *trial) origins() []string   { return nil }

func (t *trial) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		c := Choice{Token: t.s.Token(w, r), Next: nextOf(r)}
		for _, p := range t.people {
			who, _ := t.find(p.Email)
			c.People = append(c.People, who)
		}
		t.s.pages.Choose(w, r, c)
	})
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		who, ok := t.find(r.PostFormValue("person"))
		if !ok {
			t.s.pages.Refuse(w, r, http.StatusUnprocessableEntity, Refusal{
				Heading: "There is no such person", Text: "The configuration names those who can be chosen (signIn.development).", Link: "/sign-in", Label: "Choose again",
			})
			return
		}
		t.s.signedIn(w, r, ticket{From: trialFrom, ID: who.ID, Email: who.Email}, nextOf(r))
	})
}
