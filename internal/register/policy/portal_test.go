package policy

import (
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/registration"
)

// TestAskedThroughThePortal: who speaks by mail address, and what the account
// may do that the portal opens requests as.
func TestAskedThroughThePortal(t *testing.T) {
	base := campus()
	base[1] = departments("its", "lsa-physics", "engin-eecs")
	c := base[1].Campus
	c.Portal = registration.Account{GitHub: "gatepost-portal[bot]", ID: 900}
	d := &c.Departments[1]
	d.Speakers = append(d.Speakers, registration.Speaker{Email: "ada@lsa.umich.edu"}, registration.Speaker{GitHub: "bob", ID: 77, Email: "bob@umich.edu"})
	sum(base[1])
	mfp := request(mfpPath, "141.211.13.21")
	portal := Author{Login: "gatepost-portal[bot]", ID: 900}
	const no, gone = "error " + mfpPath + ":1:13: author-not-speaker", "error " + mfpPath + ":0:0: author-not-speaker"
	said := func(s string) string { return strings.Replace(s, "error", "warning", 1) }
	for _, tt := range []struct {
		name       string
		base, head []*registration.File
		author     Author
		want       []string
	}{
		{"a speaker by mail address", nil, files(mfp), Author{Email: "Ada@LSA.umich.edu"}, nil},
		{"by the mail address beside an account", nil, files(mfp), Author{Email: "bob@umich.edu"}, nil},
		{"by the account beside a mail address", nil, files(mfp), Author{Login: "bob", ID: 77}, nil},
		{"another mail address", nil, files(mfp), Author{Email: "ada@lsa.umich.edu.evil.example"}, []string{no}},
		{"a mail address is no login", nil, files(mfp), Author{Login: "ada@lsa.umich.edu"}, []string{no}},
		{"an account without number is nobody who has none", nil, files(mfp), Author{ID: 0, Login: ""}, nil},
		{"the portal adds", nil, files(mfp), portal, []string{said(no)}},
		{"the portal removes", files(mfp), nil, portal, []string{said(gone)}},
		{"a preview of what the portal will do", nil, files(mfp), Author{Login: "Gatepost-Portal[bot]"}, []string{said(no)}},
		{"the number decides, not the login", nil, files(mfp), Author{Login: portal.Login, ID: 9}, []string{no}},
		{"the portal, for a department that is none", nil, files(request("registrations/zoo/a.cue", "8.8.8.8")), portal, []string{
			"error registrations/zoo/a.cue:1:13: author-not-speaker", "error registrations/zoo/a.cue:1:13: unknown-department", "error registrations/zoo/a.cue:6:7: ip-not-campus"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantProblems(t, Judge(join(base, tt.base), join(base, tt.head), tt.author, today()), tt.want...)
		})
	}
	t.Run("only the base says who the portal is", func(t *testing.T) {
		wantProblems(t, Judge(campus(), join(base, files(mfp)), portal, today()), no)
		wantProblems(t, Judge(campus(), join(base, files(mfp)), Author{Email: "ada@lsa.umich.edu"}, today()), no)
	})
	t.Run("a team is not asked for the portal", func(t *testing.T) {
		if got := NewRegister(base, Options{Now: today()}).Teams(join(base, files(mfp)), portal); len(got) != 0 {
			t.Error(got)
		}
	})
	t.Run("what changes a registration alone leaves the portal known", func(t *testing.T) {
		r := NewRegister(base, Options{Now: today()})
		if next := r.With(map[string]*registration.File{mfp.Path: mfp}, Options{Now: today()}); !next.Snapshot().IsPortal(portal) || next.Snapshot().IsPortal(Author{Login: "x", ID: 9}) {
			t.Error("it is not known any more")
		}
		var none *Snapshot
		if none.IsPortal(portal) || r.Snapshot().IsPortal(Author{}) {
			t.Error("nobody is the portal")
		}
	})
}
