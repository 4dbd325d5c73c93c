package portal

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// When something is told to end soon, or to have been silent for long.
const (
	endsSoon   = 60 * 24 * time.Hour
	silentLong = 90 * 24 * time.Hour
)

func (s *server) departmentRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /departments", s.signedIn(s.departments))
	mux.HandleFunc("GET /departments/{name}", s.signedIn(s.department))
	mux.HandleFunc("POST /departments/{name}", s.signedIn(s.changeDepartment))
}

// A departmentsPage lists who may register.
type departmentsPage struct {
	Yours, Others []departmentRow
}

// A departmentRow is one of them.
type departmentRow struct {
	ID, Name  string
	Addresses int
	Soon      int // of these, whose registration ends soon, or has
}

func (s *server) departments(w http.ResponseWriter, r *http.Request, who session.Person) {
	now := s.register()
	if now == nil {
		s.noRegister(w, r)
		return
	}
	var p departmentsPage
	for d := range now.Base.Snapshot().Departments() {
		row := departmentRow{ID: d.ID, Name: cmp.Or(d.Name, d.ID), Addresses: len(now.Of(d.ID)), Soon: now.Ending(d.ID, s.now().Add(endsSoon))}
		if speaks(who, d) {
			p.Yours = append(p.Yours, row)
		} else {
			p.Others = append(p.Others, row)
		}
	}
	byName := func(a, b departmentRow) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) }
	slices.SortFunc(p.Yours, byName)
	slices.SortFunc(p.Others, byName)
	s.pages.Render(w, r, http.StatusOK, "departments", s.frame(w, r, p))
}

// speaks reports whether somebody speaks for a department.
func speaks(who session.Person, d *registration.Department) bool {
	return policy.Author{Email: who.Email}.SpeaksFor(d)
}

// A departmentPage is all addresses of a department.
type departmentPage struct {
	ID, Name string
	Speaks   bool // whoever looks speaks for it
	Networks []string
	Rows     []hostRow
	Known    bool // what the relays have seen is known
	Soon     int
	Silent   int
	Problem  string // with what was chosen
}

// A hostRow is one address with what it takes to decide about it.
type hostRow struct {
	IP      netip.Addr
	Machine string
	Kind    string
	File    string
	LastDay time.Time
	Last    time.Time // message that any relay has seen
	State   tag
	Silence tag // zero: it sends
	Chosen  bool
}

// A tag is a word with its kind.
type tag struct{ Kind, Text string }

func (s *server) department(w http.ResponseWriter, r *http.Request, who session.Person) {
	p, ok := s.departmentPage(w, r, who)
	if ok {
		s.pages.Render(w, r, http.StatusOK, "department", s.frame(w, r, p))
	}
}

// departmentPage reads what the page shows; it answers itself where it cannot.
func (s *server) departmentPage(w http.ResponseWriter, r *http.Request, who session.Person) (p departmentPage, ok bool) {
	reg := s.register()
	if reg == nil {
		s.noRegister(w, r)
		return p, false
	}
	snapshot, now := reg.Base.Snapshot(), s.now()
	d := snapshot.Department(r.PathValue("name"))
	if d == nil {
		s.notFound(w, r, "There is no such department")
		return p, false
	}
	p = departmentPage{ID: d.ID, Name: cmp.Or(d.Name, d.ID), Speaks: speaks(who, d)}
	for h := range snapshot.Networks() {
		if h.Department == d.ID && len(p.Networks) < 50 {
			p.Networks = append(p.Networks, h.Prefix.String()+" ("+h.Use+")")
		}
	}
	var last map[netip.Addr]time.Time
	if s.relays != nil {
		last, p.Known = s.relays.LastMail(r.Context())
	}
	for _, e := range reg.Of(d.ID) {
		row := hostRow{IP: e.Host.IP, Machine: e.Host.Name, Kind: e.Host.Kind, File: e.Registration.Path, LastDay: lastDay(e.Registration), Last: last[e.Host.IP]}
		row.State = stateOf(snapshot.Lookup(row.IP, now), now)
		if row.State.Kind == "warn" || row.State.Text == "expired" {
			p.Soon++
		}
		switch {
		case !p.Known:
		case row.Last.IsZero():
			row.Silence = tag{"warn", "no mail yet"}
			p.Silent++
		case now.Sub(row.Last) > silentLong:
			row.Silence = tag{"warn", "silent for " + plural(int(now.Sub(row.Last)/(30*24*time.Hour)), "month", "months")}
			p.Silent++
		}
		p.Rows = append(p.Rows, row)
	}
	return p, true
}

// stateOf is how an address stands, in a word.
func stateOf(v policy.Verdict, now time.Time) tag {
	switch v.Standing {
	case policy.Registered:
		if v.Registration.Expires.Sub(now) < endsSoon {
			return tag{"warn", "ends soon"}
		}
		return tag{"good", "may send"}
	case policy.Expired:
		return tag{"bad", "expired"}
	case policy.Blocked:
		return tag{"bad", "blocked"}
	}
	return tag{"", v.Standing.String()}
}

// changeDepartment opens one request for the addresses that were chosen.
func (s *server) changeDepartment(w http.ResponseWriter, r *http.Request, who session.Person) {
	p, ok := s.departmentPage(w, r, who)
	if !ok {
		return
	}
	chosen := map[netip.Addr]bool{}
	for i, text := range r.PostForm["ip"] {
		if addr, err := netip.ParseAddr(text); err == nil && i < len(p.Rows) {
			chosen[addr] = true
		}
	}
	var list []netip.Addr
	for i := range p.Rows {
		if row := &p.Rows[i]; chosen[row.IP] {
			row.Chosen = true
			list = append(list, row.IP)
		}
	}
	do := r.PostForm.Get("do")
	switch {
	case len(list) == 0:
		p.Problem = "Choose one address at least."
	case do != "renew" && do != "remove":
		p.Problem = "Renew or remove?"
	}
	if p.Problem == "" {
		number, problem := s.openChange(r.Context(), who, p.ID, do, list)
		if problem == "" {
			http.Redirect(w, r, requestURL(number), http.StatusSeeOther)
			return
		}
		p.Problem = problem
	}
	s.pages.Render(w, r, http.StatusUnprocessableEntity, "department", s.frame(w, r, p))
}
