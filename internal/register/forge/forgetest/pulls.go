package forgetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

type pull struct {
	number       int
	id           int64
	title, body  string
	user         User
	branch, base string
	state        string // open, closed
	fork         bool
	mergedAs     string
	head         string // once merged or closed; else the branch's tip
	tip          string // of the branch of a fork
	start        string // once merged: where the base stood
	createdAt    time.Time
	endedAt      time.Time // merged or closed
	changedAt    time.Time // anything happened to it
	mergedBy     *User
	reviews      []review
	remarks      []lineComment
	events       []event
	miscount     int
}

type event struct {
	id   int64
	what string
	at   time.Time
}

type review struct {
	id     int64
	user   User
	state  string
	commit string
	at     time.Time
	body   string
}

// A lineComment is a comment on a line of a file.
type lineComment struct {
	id     int64
	user   User
	body   string
	commit string
	at     time.Time
}

// A Pull is what tests see of a pull request.
type Pull struct {
	Number                          int
	Title, Body, Branch, Base       string
	State, Head, MergedAs, OpenedBy string
}

// OpenPull opens a pull request of a branch, as somebody would on the web.
func (h *Hub) OpenPull(by User, branch, title string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open(by, branch, "main", title, "").number
}

func (h *Hub) open(by User, branch, base, title, body string) *pull {
	p := &pull{
		number: len(h.pulls) + 1, id: h.id(), title: title, body: body, user: by,
		branch: branch, base: base, state: "open", createdAt: h.now(), changedAt: h.now(),
	}
	h.pulls = append(h.pulls, p)
	return p
}

// Review leaves a review ("APPROVED", "CHANGES_REQUESTED", "COMMENTED",
// "DISMISSED") on the commit that the pull request stands at.
func (h *Hub) Review(number int, by User, state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	p.reviews = append(p.reviews, review{h.id(), by, state, h.head(p), h.now(), ""})
}

// ReviewWith is Review with a text.
func (h *Hub) ReviewWith(number int, by User, state, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	p.changedAt = h.now()
	p.reviews = append(p.reviews, review{h.id(), by, state, h.head(p), h.now(), body})
}

// AddLineComment writes a comment on a line of a file.
func (h *Hub) AddLineComment(number int, by User, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	p.changedAt = h.now()
	p.remarks = append(p.remarks, lineComment{h.id(), by, body, h.head(p), h.now()})
}

// Permit says what somebody may do to the repository: "admin", "write", "read" or
// "none", which is what everybody else may.
func (h *Hub) Permit(u User, permission string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.permits[u.ID] = permission
}

// MergeBy is Merge by somebody.
func (h *Hub) MergeBy(number int, by User) string {
	h.mu.Lock()
	h.pulls[number-1].mergedBy = &by
	h.mu.Unlock()
	return h.Merge(number)
}

// Merge merges a pull request with a merge commit, and returns that.
func (h *Hub) Merge(number int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	head, base := h.head(p), h.branches[p.base]
	files := h.objects.files(h.objects.commits[base].tree)
	theirs := h.objects.files(h.objects.commits[head].tree)
	for _, c := range h.objects.diff(h.objects.commits[h.objects.fork(base, head)].tree, h.objects.commits[head].tree) {
		delete(files, c.from)
		if c.status == "removed" {
			delete(files, c.path)
		} else {
			files[c.path] = theirs[c.path]
		}
	}
	message := fmt.Sprintf("Merge pull request #%d from %s/%s\n\n%s", p.number, h.owner, p.branch, p.title)
	p.start, p.head = base, head
	p.mergedAs = h.objects.commit(h.objects.write(files), []string{base, head}, message, "GitHub <noreply@github.com>", h.now())
	p.state = "closed"
	p.endedAt, p.changedAt = h.now(), h.now()
	h.branches[p.base] = p.mergedAs
	return p.mergedAs
}

// MergedWith says that a pull request came into its branch with a commit that
// git made on top of base: by a squash, or by a push that contains its head.
func (h *Hub) MergedWith(number int, commit, base string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	p.start, p.head, p.mergedAs, p.state = base, h.head(p), commit, "closed"
	p.endedAt, p.changedAt = h.now(), h.now()
}

// Dismiss takes back all reviews of somebody, as who may write can.
func (h *Hub) Dismiss(number int, by User) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, v := range h.pulls[number-1].reviews {
		if v.user.ID == by.ID {
			h.pulls[number-1].reviews[i].state = "DISMISSED"
		}
	}
}

// Wrote says whose accounts the addresses in a commit are. Those of other
// commits are nobody's.
func (h *Hub) Wrote(commit string, author, committer User) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrote[commit] = [2]User{author, committer}
}

// Close closes a pull request without merging it.
func (h *Hub) Close(number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	h.end(p)
}

// touch notes that something happened to a pull request.
func (h *Hub) touch(number int) { h.pulls[number-1].changedAt = h.now() }

func (h *Hub) end(p *pull) {
	p.head, p.state = h.head(p), "closed"
	p.endedAt, p.changedAt = h.now(), h.now()
}

// Miscount makes changed_files differ from the list by n, as when the list is
// cut.
func (h *Hub) Miscount(number, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulls[number-1].miscount = n
}

// Pull is a pull request as it is.
func (h *Hub) Pull(number int) Pull {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	return Pull{p.number, p.title, p.body, p.branch, p.base, p.state, h.head(p), p.mergedAs, p.user.Login}
}

// Pulls is how many pull requests there are.
func (h *Hub) Pulls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pulls)
}

func (h *Hub) head(p *pull) string {
	if p.head != "" {
		return p.head
	}
	if p.fork {
		return p.tip
	}
	return h.branches[p.branch]
}

func (h *Hub) changes(p *pull) []changed {
	base := p.start
	if base == "" {
		base = h.branches[p.base]
	}
	fork := h.objects.fork(base, h.head(p))
	return h.objects.diff(h.objects.commits[fork].tree, h.objects.commits[h.head(p)].tree)
}

// commits are those of a pull request, oldest first.
func (h *Hub) commits(p *pull) []string {
	base := p.start
	if base == "" {
		base = h.branches[p.base]
	}
	past, seen := h.objects.past(base), map[string]bool{}
	var out []string
	for queue := []string{h.head(p)}; len(queue) > 0; queue = queue[1:] {
		if c := queue[0]; !past[c] && !seen[c] {
			seen[c] = true
			out = append(out, c)
			queue = append(queue, h.objects.commits[c].parents...)
		}
	}
	slices.Reverse(out)
	return out
}

func (h *Hub) pullRoutes() {
	h.handle("GET /pulls", h.listPulls)
	h.handle("POST /pulls", h.createPull)
	h.handle("GET /commits/{sha}/pulls", func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesPulls() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		var found []*pull
		for _, p := range h.pulls {
			// GitHub does not promise to know the heads of forks here.
			if p.mergedAs == r.PathValue("sha") || !p.fork && h.head(p) == r.PathValue("sha") {
				found = append(found, p)
			}
		}
		list(w, r, found, h.pullSimpleShape)
	})
	h.onePull("GET /pulls/{number}", func(w http.ResponseWriter, _ *http.Request, p *pull) {
		answer(w, http.StatusOK, h.pullShape(p))
	})
	h.onePull("GET /pulls/{number}/files", func(w http.ResponseWriter, r *http.Request, p *pull) {
		list(w, r, h.changes(p), func(c changed) map[string]any { return h.changedShape(p, c) })
	})
	h.onePull("GET /issues/{number}/events", func(w http.ResponseWriter, r *http.Request, p *pull) {
		list(w, r, p.events, func(e event) map[string]any { return h.eventShape(p, e) })
	})
	h.onePull("GET /pulls/{number}/commits", func(w http.ResponseWriter, r *http.Request, p *pull) {
		list(w, r, h.commits(p), h.repositoryCommitShape)
	})
	h.onePull("GET /pulls/{number}/reviews", func(w http.ResponseWriter, r *http.Request, p *pull) {
		list(w, r, p.reviews, func(v review) map[string]any { return h.reviewShape(p, v) })
	})
	h.onePull("GET /pulls/{number}/comments", func(w http.ResponseWriter, r *http.Request, p *pull) {
		list(w, r, p.remarks, func(c lineComment) map[string]any { return h.lineCommentShape(p, c) })
	})
	h.onePull("PATCH /pulls/{number}", func(w http.ResponseWriter, r *http.Request, p *pull) {
		var in struct{ State string }
		if !read(w, r, &in) {
			return
		}
		if in.State == "closed" && p.state == "open" {
			h.end(p)
		}
		answer(w, http.StatusOK, h.pullShape(p))
	})
}

// seesPulls reports whether the caller may look into pull requests.
func (s session) seesPulls() bool { return s.app == 0 || s.may["pull_requests"] != "" }

func (h *Hub) onePull(pattern string, f func(http.ResponseWriter, *http.Request, *pull)) {
	h.handle(pattern, func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesPulls() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		n := number(r.PathValue("number"))
		if n < 1 || n > len(h.pulls) {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		f(w, r, h.pulls[n-1])
	})
}

func (h *Hub) listPulls(w http.ResponseWriter, r *http.Request, _ session) {
	q := r.URL.Query()
	state := q.Get("state")
	if state == "" {
		state = "open"
	}
	var found []*pull
	for _, p := range slices.Backward(h.pulls) {
		if (state == "all" || p.state == state) && (q.Get("head") == "" || q.Get("head") == h.owner+":"+p.branch) {
			found = append(found, p)
		}
	}
	if q.Get("sort") == "updated" {
		slices.SortStableFunc(found, func(a, b *pull) int { return b.changedAt.Compare(a.changedAt) })
	}
	if q.Get("direction") == "asc" {
		slices.Reverse(found)
	}
	list(w, r, found, h.pullSimpleShape)
}

func (h *Hub) createPull(w http.ResponseWriter, r *http.Request, s session) {
	var in struct{ Title, Head, Base, Body string }
	if !read(w, r, &in) {
		return
	}
	branch := strings.TrimPrefix(in.Head, h.owner+":")
	invalid := func(field, message string) {
		fail(w, http.StatusUnprocessableEntity, "Validation Failed",
			map[string]any{"resource": "PullRequest", "code": "custom", "field": field, "message": message})
	}
	head, ok := h.branches[branch]
	base, hasBase := h.branches[in.Base]
	switch {
	case in.Title == "":
		invalid("title", "title is missing")
	case !ok:
		invalid("head", "head is no branch")
	case !hasBase:
		invalid("base", "base is no branch")
	case h.objects.past(base)[head]:
		invalid("base", "No commits between "+in.Base+" and "+branch)
	case slices.ContainsFunc(h.pulls, func(p *pull) bool { return p.state == "open" && p.branch == branch && p.base == in.Base }):
		invalid("head", "A pull request already exists for "+h.owner+":"+branch+".")
	default:
		answer(w, http.StatusCreated, h.pullShape(h.open(s.user, branch, in.Base, in.Title, in.Body)))
	}
}
