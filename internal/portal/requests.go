package portal

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// listedFor is how far back the list of requests goes.
const listedFor = 90 * 24 * time.Hour

// How much of a large request its page shows, and asks the relays about.
const (
	maxEntries = 500 // of its plan
	maxAdds    = 256 // addresses that are new, as the reporter has it
)

func (s *server) requestRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /requests", s.signedIn(s.requests))
	mux.HandleFunc("GET /requests/{number}", s.signedIn(s.request))
	mux.HandleFunc("POST /requests/{number}/merge", s.postmaster(s.mergeRequest))
	mux.HandleFunc("POST /requests/{number}/close", s.postmaster(s.closeRequest))
	mux.HandleFunc("POST /requests/{number}/ask", s.postmaster(s.askRequest))
	mux.HandleFunc("POST /requests/{number}/answer", s.signedIn(s.answerRequest))
}

func requestURL(number int) string { return "/requests/" + strconv.Itoa(number) }

// A requestsPage lists requests, newest first.
type requestsPage struct {
	Open, Past []requestRow
}

// A requestRow is one of them.
type requestRow struct {
	Number int
	Title  string
	At     time.Time
	State  tag
	Asked  bool // a question waits for an answer
}

func (s *server) requests(w http.ResponseWriter, r *http.Request, who session.Person) {
	list, err := s.dossiers.recent(r.Context(), who.ID)
	if err != nil {
		s.forgeFailed(w, r, err)
		return
	}
	var p requestsPage
	for _, q := range list {
		row := requestRow{Number: q.Number, Title: q.Title, At: q.OpenedAt, State: stateTag(q.State), Asked: s.waiting(q.Number)}
		switch {
		case q.State == forge.Open:
			p.Open = append(p.Open, row)
		case len(p.Past) < 100:
			p.Past = append(p.Past, row)
		}
	}
	s.pages.Render(w, r, http.StatusOK, "requests", s.frame(w, r, p))
}

func stateTag(state forge.State) tag {
	switch state {
	case forge.Open:
		return tag{"warn", "in review"}
	case forge.Merged:
		return tag{"good", "approved"}
	}
	return tag{"bad", "closed"}
}

// A requestPage is a request as its owner understands it.
type requestPage struct {
	Number   int
	Title    string
	URL      string // at the forge; "" where it has no pages
	State    tag
	Steps    []step
	Over     bool
	Problems []problemLine
	Unsure   string // why it could not be judged; "" if it could
	Others   int    // files besides the register
	Sections []review.Section
	More     int // entries of them that are left out
	Adds     []proofLine
	Ports    proof.Invitation // the newest, for the server and ports
	Missing  int              // addresses without a proof
	Open     bool

	Questions []questionLine
	Closing   string // the postmaster's words at the end

	Head     string
	CanMerge bool
	CanClose bool // and ask
	Problem  string
	Typed    string
}

// A problemLine is what is wrong, in the register's words.
type problemLine struct {
	Where   string
	Rule    string
	Message string
	Hint    string
	Warning bool
}

// A proofLine is an address that is to be registered.
type proofLine struct {
	IP     netip.Addr
	Proved time.Time // zero: not yet
	To     string    // where to send the message; "" if no proof can be given
	Until  time.Time
}

// A questionLine is a question of a postmaster with its answer.
type questionLine struct {
	ID         string
	By         string
	At         time.Time
	Text       string
	Answered   time.Time
	AnsweredBy string
	Answer     string
}

func (s *server) request(w http.ResponseWriter, r *http.Request, who session.Person) {
	s.showRequest(w, r, who, http.StatusOK, "", "")
}

// showRequest is the page of a request, with a problem of what was just sent.
func (s *server) showRequest(w http.ResponseWriter, r *http.Request, who session.Person, code int, problem, typed string) {
	d, ok := s.dossier(w, r)
	if !ok {
		return
	}
	p := requestPage{
		Number: d.Number, Title: d.Title, URL: d.URL, State: stateTag(d.State), Others: d.others(), Open: d.State == forge.Open,
		Head: d.Head, CanClose: who.Postmaster && d.State == forge.Open, Problem: problem, Typed: typed,
	}
	_, merges := s.forge.(forge.Merger)
	c := course{State: d.State, Opened: d.OpenedAt, Merged: d.MergedAt, Closed: d.ClosedAt, MergedBy: personOf(d.MergedBy)}
	s.judge(&p, &c, d)
	s.fill(r.Context(), &p, &c, d)
	p.CanMerge = p.CanClose && merges && c.Checked && c.Errors == 0
	p.Steps, p.Over = c.steps(), c.over()
	s.pages.Render(w, r, code, "request", s.frame(w, r, p))
}

// dossier reads the request of a path; it answers itself where it cannot.
func (s *server) dossier(w http.ResponseWriter, r *http.Request) (dossier, bool) {
	number, err := strconv.Atoi(r.PathValue("number"))
	if err != nil || number < 1 {
		s.notFound(w, r, "There is no such request")
		return dossier{}, false
	}
	who, _ := s.sessions.Who(r)
	d, err := s.dossiers.get(r.Context(), who.ID, number)
	switch {
	case errors.Is(err, forge.ErrNotFound):
		s.notFound(w, r, "There is no such request")
	case err != nil:
		s.forgeFailed(w, r, err)
	}
	return d, err == nil
}

// judge says what is wrong with a request and what it does, by the register as
// it is now. Of one that has ended, what it did is read from its own files.
func (s *server) judge(p *requestPage, c *course, d dossier) {
	if d.Cut {
		p.Unsure = "It changes more files than are looked at here, so a postmaster must look at it at the forge. It can be asked for in several requests."
		return
	}
	edits, ok := d.edits()
	if !ok {
		p.Unsure = "It has a file that is no ordinary one, so a postmaster must look at it at the forge."
		return
	}
	reg := s.register()
	if reg == nil {
		p.Unsure = "The portal has not read the register yet."
		return
	}
	if d.State != forge.Open {
		c.Checked = true
		c.Added = addressesOf(d)
		return
	}
	change, err := reg.Base.Change(edits, s.now())
	if err != nil {
		p.Unsure = "It changes too much to be judged here."
		return
	}
	c.Checked = true
	for _, q := range change.Problems(policy.Author{}) {
		line := problemLine{Where: fmt.Sprintf("%s, line %d", q.File, q.Line), Rule: string(q.Rule), Message: q.Message, Hint: q.Hint, Warning: q.Severity == registration.Warning}
		if line.Warning {
			if !touches(edits, q.File) {
				continue // it stood there before
			}
		} else {
			c.Errors++
		}
		if len(p.Problems) < 100 {
			p.Problems = append(p.Problems, line)
		}
	}
	plan := change.Plan()
	p.Sections, p.More = shown(plan.Sections(), maxEntries)
	for _, e := range plan.Added[:min(len(plan.Added), maxAdds)] {
		if addr, err := netip.ParseAddr(e.IP); err == nil {
			c.Added = append(c.Added, addr)
		}
	}
}

// shown is the sections that say something, with so many entries at most in all,
// and how many are left out.
func shown(all []review.Section, most int) (list []review.Section, more int) {
	for _, section := range all {
		n := min(len(section.Entries), most)
		most, more = most-n, more+len(section.Entries)-n
		if section.Entries = section.Entries[:n]; n > 0 {
			list = append(list, section)
		}
	}
	return list, more
}

func touches(edits []review.Edit, path string) bool {
	for _, e := range edits {
		if e.Path == path {
			return true
		}
	}
	return false
}

// addressesOf are the addresses in the registrations of a request that has
// ended.
func addressesOf(d dossier) (list []netip.Addr) {
	parser, err := registration.NewParser(nil)
	if err != nil {
		return nil
	}
	for _, f := range d.Changes {
		if f.Removed || registration.Kind(f.Path) != registration.KindRegistration {
			continue
		}
		if parsed := parser.Parse(f.Source); parsed.Registration != nil {
			for _, h := range parsed.Registration.Hosts {
				list = append(list, h.IP)
			}
		}
		if len(list) >= maxAdds {
			return list[:maxAdds]
		}
	}
	return list
}

// personOf is an account for display.
func personOf(a forge.Account) string {
	name, _, _ := strings.Cut(a.Login, " <")
	return name
}

// forgeFailed says that the forge did not answer as it should.
func (s *server) forgeFailed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errAskedTooMuch) {
		w.Header().Set("Retry-After", "60")
		s.pages.Fail(w, r, http.StatusTooManyRequests, s.frame(w, r, nil), page.Failure{
			Heading: "That was a lot at once", Text: "The place where requests are kept answers only so many questions in an hour, and this page would be one too many just now. Mail is not affected.",
			Next: []string{"Try again in a minute."},
		})
		return
	}
	s.log.Warn("the forge did not answer a page", "event", "portal.forge_failed", "err", err)
	w.Header().Set("Retry-After", "30")
	f := page.Failure{Heading: "The requests cannot be read just now", Text: "The place where they are kept does not answer. Mail is not affected, and nothing is lost.", Next: []string{"Try again in a minute."}}
	if errors.Is(err, forge.ErrLimited) {
		f.Text = "The place where they are kept answers only so many questions in an hour, and these are used up. Mail is not affected."
		f.Next = []string{"Try again in half an hour."}
	}
	s.pages.Fail(w, r, http.StatusServiceUnavailable, s.frame(w, r, nil), f)
}
