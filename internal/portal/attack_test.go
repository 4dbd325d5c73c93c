package portal

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"example.edu/gatepost/internal/register/forge"
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
