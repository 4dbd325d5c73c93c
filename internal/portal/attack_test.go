package portal

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A vastForge has requests that change more than is read of one.
type vastForge struct{ *forge.Git }

func (vastForge) Files(context.Context, forge.Request) ([]forge.File, error) {
	return nil, forge.ErrTooMuch
}

// TestTooMuchToJudge: what was not read is not called fit, and not merged.
func TestTooMuchToJudge(t *testing.T) {
	w := newWorld(t, pat)
	r := w.opens("registrations/lab/new.cue", "this is no registration")
	vast := vastForge{w.git}
	w.forge, w.dossiers = vast, newDossiers(vast, w.now)
	w.shows(200, requestURL(r.Number), "It changes more files than are looked at here", "!Nothing is wrong with it", "!Merge: approve it")
	w.sends(http.StatusConflict, requestURL(r.Number)+"/merge", url.Values{"head": {r.Head}}, "It is not fit to be merged")
}

// TestNamesAreNotBelieved: a name is whatever its owner likes, so that the address
// of the sign-in stands beside it.
func TestNamesAreNotBelieved(t *testing.T) {
	w := newWorld(t, &session.Person{ID: "m", Name: "Pat Moss", Email: "mallory@example.edu"})
	at := w.sends(http.StatusSeeOther, "/departments/lab", url.Values{"do": {"renew"}, "ip": {"192.0.2.3"}})
	if _, err := w.book.Update(1, func(b *book.Request) {
		b.Asked = []book.Ask{{ID: "a", By: "Pat Moss", At: time.Now(), Text: "Whose?", Answer: "Mine.", AnsweredBy: b.By, Answered: time.Now()}}
	}); err != nil {
		t.Fatal(err)
	}
	w.shows(http.StatusOK, at, "by Pat Moss (mallory@example.edu)", "<b>Pat Moss (mallory@example.edu):</b>")
	if _, err := w.book.Update(1, func(b *book.Request) {
		b.Asked[0].AnsweredBy = book.Person{ID: "e", Name: "Eve", Email: "eve@example.edu"}
	}); err != nil {
		t.Fatal(err)
	}
	w.shows(http.StatusOK, at, "<b>Eve (eve@example.edu), who did not ask for this, and neither is a contact")
	w.sends(http.StatusUnprocessableEntity, at+"/answer", url.Values{"question": {"a"}, "answer": {strings.Repeat("€", 3000)}}, "That is too long")
}

// TestMergingWhatWasSeen: what was judged here is what is merged.
func TestMergingWhatWasSeen(t *testing.T) {
	w := newWorld(t, pat)
	r := w.opens("registrations/lab/new.cue", registrationCUE("lab", "it@physics.example.edu", time.Now().AddDate(0, 6, 0).Format(time.DateOnly), "192.0.2.10"))
	known, err := w.dossiers.get(t.Context(), "pat", r.Number)
	if err != nil {
		t.Fatal(err)
	}
	// As if the page had read it before the push of what is there now.
	at := time.Now()
	w.dossiers.now = func() time.Time { return at }
	k := w.dossiers.kept[r.Number]
	known.Head, k.at = strings.Repeat("0", 40), at
	k.value = known
	w.sends(http.StatusConflict, requestURL(r.Number)+"/merge", url.Values{"head": {r.Head}}, "It has changed since you looked at it")
	if now, err := w.git.Get(t.Context(), r.Number); err != nil || now.State != forge.Open {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestLargePlansAreCut, and say so.
func TestLargePlansAreCut(t *testing.T) {
	entries := make([]policy.PlanEntry, 400)
	list, more := shown([]review.Section{{Title: "Added", Entries: entries}, {Title: "Removed"}, {Title: "Changed", Entries: entries}, {Title: "Blocked", Entries: entries}}, maxEntries)
	if len(list) != 2 || len(list[0].Entries) != 400 || len(list[1].Entries) != 100 || more != 700 {
		t.Errorf("%d sections, and %d more", len(list), more)
	}
}

// TestNoEventWithinAnEvent: a text with a carriage return, which ends a line of a
// stream, begins no field of its own.
func TestNoEventWithinAnEvent(t *testing.T) {
	got := event("status", "a\r\revent: status\rdata: forged\r\nb")
	if want := "event: status\ndata: a\ndata: \ndata: event: status\ndata: data: forged\ndata: b\n\n"; got != want {
		t.Errorf("%q", got)
	}
}

// TestAnotherDepartmentsFile: nobody takes a registration into their own
// department, in whose name they might then speak.
func TestAnotherDepartmentsFile(t *testing.T) {
	w := newWorld(t, dana)
	f := w.register().Base.File("registrations/library/scanners.cue")
	v := form.Of(f, w.now())
	v.Department, v.Accept = "lab", registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true}
	w.sends(http.StatusUnprocessableEntity, "/register", press(v, "send"), "A registration stays with its department")
	v.From = "registrations/library/../campus/campus.cue"
	w.sends(http.StatusUnprocessableEntity, "/register", press(v, "send"), "is not in the register")
	if list, err := w.git.List(t.Context(), forge.Open); err != nil || len(list) != 0 {
		t.Errorf("%d requests, %v", len(list), err)
	}
}

// TestAFormThatWasChanged after it was sent asks for something else.
func TestAFormThatWasChanged(t *testing.T) {
	w := newWorld(t, dana)
	v := typed()
	v.Key = newKey()
	first := w.sends(http.StatusSeeOther, "/register", press(v, "send"))
	v.Purpose = "Something else, which came to mind afterwards."
	if second := w.sends(http.StatusSeeOther, "/register", press(v, "send")); second == first {
		t.Errorf("both lead to %s", first)
	}
}
