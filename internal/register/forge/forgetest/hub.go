// Package forgetest is a stand-in for GitHub, for tests: one repository with
// its objects, branches, pull requests, reviews, comments, checks and rules,
// behind the part of the REST API that package forge speaks.
//
// It keeps state, so that whole flows can be played, and its answers are held
// to GitHub's own description of its API by a test of package forge. It says
// nothing about what GitHub permits to whom beyond what the methods here say,
// and is never part of a command.
package forgetest

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A User is an account.
type User struct {
	ID    int64
	Login string
	Type  string // "User" or "Bot"
}

// A Hub is the forge. Make it with New; it is an http.Handler and safe for
// concurrent use.
type Hub struct {
	owner, name string
	mux         *http.ServeMux
	now         func() time.Time

	mu        sync.Mutex // guards what follows
	objects   objects
	branches  map[string]string // name → commit
	users     map[string]User   // by login
	tokens    map[string]session
	teams     map[string]team // by slug
	apps      map[int64]app   // by number
	pulls     []*pull
	wrote     map[string][2]User // by commit: who wrote and who committed it
	permits   map[int64]string   // by account
	comments  []*comment
	runs      []*run
	statuses  []map[string]any
	rules     []map[string]any
	bypass    []map[string]any // nil: not shown
	owners    []map[string]any
	settings  Settings
	failures  []*Failure
	uncounted int // commits that comparisons do not list
	calls     []string
	lastID    int64
}

type session struct {
	user User
	app  int64 // 0 for a person
	ends time.Time
	may  map[string]string // what an App's token may do, as GitHub names it
}

type team struct {
	id      int64
	slug    string
	members []User
}

type app struct {
	installation int64
	slug         string
	key          *rsa.PublicKey
	user         User
}

// A Failure is an answer to be given in place of the right one.
type Failure struct {
	Method string // of the calls that fail
	Path   string // a part of theirs
	Times  int    // how many fail; negative: all
	Status int
	Header map[string]string
	Body   string // JSON; "" is {"message": …}
}

// New makes a forge with the repository owner/name, which has a first, empty
// commit on main. now is its clock.
func New(repository string, now func() time.Time) *Hub {
	owner, name, _ := strings.Cut(repository, "/")
	h := &Hub{
		owner: owner, name: name, mux: http.NewServeMux(), now: now, objects: newObjects(), branches: map[string]string{},
		users: map[string]User{}, tokens: map[string]session{}, teams: map[string]team{}, apps: map[int64]app{},
		wrote: map[string][2]User{}, permits: map[int64]string{}, lastID: 1000,
	}
	h.branches["main"] = h.objects.commit(h.objects.write(nil), nil, "First", "First <first@example.edu>", now())
	h.routes()
	return h
}

// AddUser makes an account; a token, if given, signs it in.
func (h *Hub) AddUser(id int64, login, token string) User {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := User{ID: id, Login: login, Type: "User"}
	h.users[login] = u
	if token != "" {
		h.tokens[token] = session{user: u}
	}
	return u
}

// AddTeam makes a team of the organisation.
func (h *Hub) AddTeam(id int64, slug string, members ...User) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.teams[slug] = team{id, slug, members}
}

// AddApp installs an App whose tickets are signed with the key.
func (h *Hub) AddApp(id, installation int64, slug string, key *rsa.PublicKey) User {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := User{ID: id*1000 + 7, Login: slug + "[bot]", Type: "Bot"}
	h.users[u.Login] = u
	h.apps[id] = app{installation, slug, key, u}
	return u
}

// May is what a token of an App may do now, as GitHub names it; nil if the
// token is none, or no longer one.
func (h *Hub) May(token string) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.tokens[token]
	if !h.now().Before(s.ends) {
		return nil
	}
	return s.may
}

// EndTokens ends the tokens of all Apps before their time.
func (h *Hub) EndTokens() {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.tokens, func(_ string, s session) bool { return s.app != 0 })
}

// Fail makes calls fail from now on.
func (h *Hub) Fail(f Failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = append(h.failures, &f)
}

// SetRules says which rules hold for every branch, in GitHub's own JSON, and
// who may bypass them; nil is a list that the caller may not see.
func (h *Hub) SetRules(rules, bypass []map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rules, h.bypass = rules, bypass
}

// SetOwnersErrors says what is wrong with CODEOWNERS, in GitHub's own JSON.
func (h *Hub) SetOwnersErrors(errors ...map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owners = errors
}

// Calls is what was asked so far, "METHOD /path?query", without the
// repository's name.
func (h *Hub) Calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.calls...)
}

// ServeHTTP answers one call. GitHub Enterprise has the API below /api/v3.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api/v3")
	r.Body = http.MaxBytesReader(w, r.Body, 64<<20)
	short := strings.TrimPrefix(r.URL.Path, "/repos/"+h.owner+"/"+h.name)
	if r.URL.RawQuery != "" {
		short += "?" + r.URL.RawQuery
	}
	h.calls = append(h.calls, r.Method+" "+short)
	for _, f := range h.failures {
		if f.Times != 0 && f.Method == r.Method && strings.Contains(r.URL.Path, f.Path) {
			f.Times--
			for k, v := range f.Header {
				w.Header().Set(k, v)
			}
			if f.Body != "" {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				w.WriteHeader(f.Status)
				fmt.Fprint(w, f.Body)
				return
			}
			fail(w, f.Status, http.StatusText(f.Status))
			return
		}
	}
	h.mux.ServeHTTP(w, r)
}

// handle adds a route of the repository for those who are signed in.
func (h *Hub) handle(pattern string, f func(http.ResponseWriter, *http.Request, session)) {
	method, path, _ := strings.Cut(pattern, " ")
	h.signedIn(method+" /repos/{owner}/{repo}"+path, func(w http.ResponseWriter, r *http.Request, s session) {
		if r.PathValue("owner") != h.owner || r.PathValue("repo") != h.name {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		f(w, r, s)
	})
}

func (h *Hub) signedIn(pattern string, f func(http.ResponseWriter, *http.Request, session)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s, ok := h.tokens[token]
		if !ok || !s.ends.IsZero() && !h.now().Before(s.ends) {
			fail(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		f(w, r, s)
	})
}

func (h *Hub) routes() {
	h.gitRoutes()
	h.pullRoutes()
	h.compareRoutes()
	h.reportRoutes()
	h.accountRoutes()
	h.settingsRoutes()
	h.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "Not Found") })
}

// id is the next number for anything.
func (h *Hub) id() int64 {
	h.lastID++
	return h.lastID
}

func fail(w http.ResponseWriter, status int, message string, details ...map[string]any) {
	body := map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)}
	if len(details) > 0 {
		body["errors"] = details
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone; nothing to tell it
}

// list answers with one page of a list, and the links to the others.
func list[T any](w http.ResponseWriter, r *http.Request, all []T, shape func(T) map[string]any) {
	out := []map[string]any{}
	for _, v := range slice(w, r, all) {
		out = append(out, shape(v))
	}
	answer(w, http.StatusOK, out)
}

// slice is the page of a list that is asked for; it writes the links to the
// others.
func slice[T any](w http.ResponseWriter, r *http.Request, all []T) []T {
	q := r.URL.Query()
	page, size := max(number(q.Get("page")), 1), number(q.Get("per_page"))
	if size == 0 {
		size = 30
	}
	size = min(size, 100)
	from, to := min((page-1)*size, len(all)), min(page*size, len(all))
	var links []string
	link := func(n int, rel string) {
		u := url.URL{Scheme: "https", Host: "api.github.com", Path: r.URL.Path}
		q.Set("page", strconv.Itoa(n))
		u.RawQuery = q.Encode()
		links = append(links, fmt.Sprintf(`<%s>; rel="%s"`, u.String(), rel))
	}
	if to < len(all) {
		link(page+1, "next")
		link((len(all)+size-1)/size, "last")
	}
	if page > 1 {
		link(page-1, "prev")
		link(1, "first")
	}
	if len(links) > 0 {
		w.Header().Set("Link", strings.Join(links, ", "))
	}
	return all[from:to]
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// read decodes the body of a call.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		fail(w, http.StatusBadRequest, "Problems parsing JSON")
		return false
	}
	return true
}
