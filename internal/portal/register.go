package portal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

const maxForm = 2 << 20 // octets of a form that is sent

func (s *server) registerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /register", s.signedIn(s.registerPage))
	mux.HandleFunc("POST /register", s.registerSent)
	mux.HandleFunc("POST /register/check", s.registerCheck)
}

// registerPage is the form: an empty one, for the addresses of ?ip=, or filled
// from the registration ?from=.
func (s *server) registerPage(w http.ResponseWriter, r *http.Request, who session.Person) {
	now := s.register()
	if now == nil {
		s.noRegister(w, r)
		return
	}
	query := r.URL.Query()
	v := form.New(who.Name, who.Email, s.now(), query["ip"]...)
	p := &registerBody{}
	snapshot := now.Base.Snapshot()
	if from := query.Get("from"); from != "" {
		f := now.Base.File(from)
		if f == nil || f.Registration == nil {
			s.notFound(w, r, "There is no such registration")
			return
		}
		v = form.Of(f, s.now())
	} else {
		v.Department = query.Get("department")
		if v.Department == "" {
			v.Department = s.guessDepartment(snapshot, who, query["ip"])
		}
		p.Known = known(snapshot, query["ip"])
	}
	v.Key = newKey()
	s.renderForm(w, r, http.StatusOK, who, v, nil, p)
}

// guessDepartment is who holds the first address, or else the only department
// that somebody speaks for; "" if there is no telling.
func (s *server) guessDepartment(snapshot *policy.Snapshot, who session.Person, ips []string) string {
	for _, text := range ips {
		if ip, err := netip.ParseAddr(text); err == nil {
			if h, ok := snapshot.Holder(ip); ok && h.Use == "static" {
				return h.Department
			}
		}
	}
	if mine := speaksFor(snapshot, who); len(mine) == 1 {
		return mine[0]
	}
	return ""
}

// speaksFor are the departments that somebody speaks for.
func speaksFor(snapshot *policy.Snapshot, who session.Person) (ids []string) {
	for d := range snapshot.Departments() {
		if speaks(who, d) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// A knownAddress is one that is registered already.
type knownAddress struct{ IP, Path, Department string }

func known(snapshot *policy.Snapshot, ips []string) (list []knownAddress) {
	for _, text := range ips[:min(len(ips), form.MaxHosts)] {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		if e, ok := snapshot.Find(ip); ok {
			list = append(list, knownAddress{ip.String(), e.Registration.Path, e.Registration.Department})
		}
	}
	return list
}

// newKey is a name for one form that is shown.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// readForm reads what was sent. It answers by itself if that is too much.
func (s *server) readForm(w http.ResponseWriter, r *http.Request) (form.Values, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.pages.Fail(w, r, http.StatusRequestEntityTooLarge, s.frame(w, r, nil), page.Failure{
			Heading: "That is too much for one form",
			Next:    []string{"Go back, and leave some of it out. A registration has 64 machines at most."},
		})
		return form.Values{}, false
	}
	v := form.Parse(r.PostForm)
	if !isKey(v.Key) {
		v.Key = newKey()
	}
	return v, true
}

func isKey(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 16 && s == strings.ToLower(s)
}

// registerSent is the form as it comes back, whichever button was pressed.
func (s *server) registerSent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	v, ok := s.readForm(w, r)
	if !ok {
		return
	}
	who, signedIn := s.sessions.Who(r)
	if !signedIn {
		s.showAgain(w, r, v)
		return
	}
	now := s.register()
	if now == nil {
		s.renderForm(w, r, http.StatusServiceUnavailable, who, v, nil, &registerBody{Trouble: "The portal has not read the register yet. Wait a moment, and press the button again."})
		return
	}
	v.Department = departmentOf(now.Base.Snapshot(), v.Department)
	do := r.PostForm.Get("do")
	switch {
	case do == "add":
		v = v.Add()
		s.renderForm(w, r, http.StatusOK, who, v, nil, &registerBody{Focus: form.RowField(len(v.Hosts)-1, form.RowIP)})
		return
	case strings.HasPrefix(do, "remove-"):
		n, _ := strconv.Atoi(strings.TrimPrefix(do, "remove-"))
		v = v.Remove(n - 1)
		s.renderForm(w, r, http.StatusOK, who, v, nil, &registerBody{Focus: form.RowField(min(max(n-1, 0), len(v.Hosts)-1), form.RowIP)})
		return
	case strings.HasPrefix(do, "volume-"):
		if n, err := strconv.Atoi(strings.TrimPrefix(do, "volume-")); err == nil && n >= 0 && n < len(volumes) {
			v.PerHour, v.PerDay = volumes[n].PerHour, volumes[n].PerDay
		}
		s.renderForm(w, r, http.StatusOK, who, v, nil, &registerBody{Focus: form.FieldPerHour})
		return
	}
	if strings.TrimSpace(v.Pasted) != "" {
		v = v.Paste()
	}
	if do == "paste" {
		s.renderForm(w, r, http.StatusOK, who, v, &form.Judgement{Findings: v.Cut}, &registerBody{Focus: form.RowField(0, form.RowIP)})
		return
	}
	j, err := s.judgeForm(now.Base, v)
	if err != nil {
		s.log.Error("a form cannot be judged", "event", "portal.judge_failed", "err", err)
		s.renderForm(w, r, http.StatusServiceUnavailable, who, v, nil, &registerBody{Trouble: "The form cannot be checked at the moment; that is our fault, and the log says why. Press the button again in a while."})
		return
	}
	if do != "send" || !j.Fine() {
		status := http.StatusOK
		if !j.Fine() {
			status = http.StatusUnprocessableEntity
		}
		s.renderForm(w, r, status, who, v, j, &registerBody{Checked: true})
		return
	}
	s.send(w, r, who, v, j, now)
}

// judgeForm judges a form, beside the requests that are open: no new file takes
// the path of one of theirs, and who asks for an address that one of them is about
// is told so.
func (s *server) judgeForm(base *review.Base, v form.Values) (*form.Judgement, error) {
	ips, paths := s.book.Pending()
	j, err := form.Judge(base, v, form.Options{Now: s.now(), Taken: func(path string) bool { return paths[path] > 0 }})
	if err != nil {
		return nil, err
	}
	for i, h := range v.Hosts {
		ip, err := netip.ParseAddr(strings.TrimSpace(h.IP))
		if n := ips[ip.Unmap()]; err == nil && n > 0 {
			j.Findings = append(j.Findings, form.Finding{
				Field: form.RowField(i, form.RowIP), Warning: true,
				Message: fmt.Sprintf("request %d, which is open, is about this address", n), Hint: "look at it first: " + requestURL(n),
			})
		}
	}
	return j, nil
}

// departmentOf is the id of a department that was written by its full name.
func departmentOf(snapshot *policy.Snapshot, typed string) string {
	text := strings.TrimSpace(typed)
	if text == "" || snapshot.Department(text) != nil {
		return typed
	}
	if id := strings.ToLower(text); snapshot.Department(id) != nil {
		return id
	}
	for d := range snapshot.Departments() {
		if strings.EqualFold(d.Name, text) {
			return d.ID
		}
	}
	return typed
}

// send makes the request of a form that is fine. The same form with the same in
// it makes one request, however often it comes.
func (s *server) send(w http.ResponseWriter, r *http.Request, who session.Person, v form.Values, j *form.Judgement, now *view.Register) {
	d := now.Base.Snapshot().Department(j.Made.Department)
	asker := form.Asker{Name: who.Name, Email: who.Email, Postmaster: who.Postmaster, Speaks: d != nil && speaks(who, d)}
	c := change{
		Request: j.Request(asker, v.Comment), Kind: book.KindForm, Once: onceOf(v), Department: j.Made.Department,
		Contacts: []book.Contact{book.Contact(j.Made.Contact)},
	}
	for _, h := range j.Made.Hosts {
		c.IPs = append(c.IPs, h.IP)
	}
	number, problem := s.propose(r.Context(), who, now, c)
	if problem != "" {
		s.renderForm(w, r, http.StatusServiceUnavailable, who, v, j, &registerBody{Checked: true, Trouble: problem + " What you typed is still here, and sending it twice is sending it once."})
		return
	}
	http.Redirect(w, r, requestURL(number), http.StatusSeeOther)
}

// onceOf is what makes two forms the same: what was typed, with the key. One that
// was changed after it had been sent, as a browser shows it again, asks for
// something else.
func onceOf(v form.Values) string { return v.Encode().Encode() }

// registerCheck is what a script asks while somebody types.
func (s *server) registerCheck(w http.ResponseWriter, r *http.Request) {
	who, signedIn := s.sessions.Who(r)
	now := s.register()
	w.Header().Set("Cache-Control", "no-store")
	if !signedIn || now == nil {
		w.WriteHeader(map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusUnauthorized}[signedIn])
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if r.ParseForm() != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	v := form.Parse(r.PostForm)
	v.Department = departmentOf(now.Base.Snapshot(), v.Department)
	j, err := s.judgeForm(now.Base, v)
	if err != nil {
		s.log.Error("a form cannot be judged", "event", "portal.judge_failed", "err", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	type finding struct {
		Field   string `json:"field"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
		Warning bool   `json:"warning"`
	}
	answer := struct {
		Findings []finding `json:"findings"`
		Fine     bool      `json:"fine"`
		Path     string    `json:"path"`
		File     string    `json:"file"`
		Plan     []string  `json:"plan"`
		Speaks   string    `json:"speaks"`
	}{Findings: []finding{}, Fine: j.Fine(), Path: j.Path, File: string(j.Text), Plan: planWords(j), Speaks: speaksWords(now.Base.Snapshot(), who, strings.TrimSpace(v.Department))}
	for _, f := range j.Findings {
		answer.Findings = append(answer.Findings, finding{f.Field, asSentence(f.Message), asSentence(f.Hint), f.Warning})
	}
	text, err := json.Marshal(answer)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // the visitor may have gone
}

// showAgain shows a form as it was typed to somebody who is not signed in any
// more, or whose token is too old. Nothing is judged: that would tell a stranger
// whose addresses are registered.
func (s *server) showAgain(w http.ResponseWriter, r *http.Request, v form.Values) {
	v.Cut = nil
	who, signedIn := s.sessions.Who(r)
	p := &registerBody{Trouble: "This form has been open for too long, so nothing was sent yet. What you typed is all here: press the button once more."}
	if !signedIn {
		p.Trouble = "You are not signed in any more, so nothing was sent. What you typed is all here: sign in in another tab, come back to this one, and press the button again."
		p.SignIn = "/sign-in?" + url.Values{"next": {"/requests"}}.Encode()
	}
	s.renderForm(w, r, http.StatusForbidden, who, v, nil, p)
}

// formAgain shows the form of a request that was refused for its token. It
// reports false, and does nothing, unless the request is a form of this portal's
// own page.
func (s *server) formAgain(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.Path != "/register" || !sameOrigin(r) || r.PostForm == nil {
		return false
	}
	v := form.Parse(r.PostForm)
	if !isKey(v.Key) {
		v.Key = newKey()
	}
	s.showAgain(w, r, v)
	return true
}

// sameOrigin reports whether a browser says that a page of this site made the
// request.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	from, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && from.Host != "" && from.Host == r.Host
}

// A volume is a preset in words.
type volume struct{ Words, PerHour, PerDay string }

var volumes = []volume{ // read only
	{"A few messages a day", "10", "40"},
	{"A busy scanner: a hundred a day", "50", "300"},
	{"Alarms and reports: some hundreds a day", "200", "1000"},
	{"An application: some thousands a day", "1000", "10000"},
}

// asSentence is a message of the register's, fit for a page.
func asSentence(text string) string {
	if text == "" {
		return ""
	}
	first := []rune(text)
	if !slices.ContainsFunc(first[:min(len(first), 12)], func(r rune) bool { return r == '.' || r == ':' || r == '"' || r == '/' }) {
		text = strings.ToUpper(string(first[:1])) + string(first[1:])
	}
	if strings.ContainsAny(text[len(text)-1:], ".?!") {
		return text
	}
	return text + "."
}
