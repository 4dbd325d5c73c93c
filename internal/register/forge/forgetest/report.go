package forgetest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

type comment struct {
	id   int64
	pull int
	user User
	body string
	at   time.Time
}

// A Comment is what tests see of a comment.
type Comment struct {
	ID   int64
	By   string
	Body string
}

type run struct {
	id                 int64
	app                int64
	name, head         string
	status, conclusion string
	title, summary     string
	annotations        []map[string]any
}

// A Run is what tests see of a check run.
type Run struct {
	Name, Head, Status, Conclusion, Title, Summary string
	Annotations                                    []map[string]any
}

// AddComment writes a comment, as somebody would on the web.
func (h *Hub) AddComment(number int, by User, body string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.touch(number)
	c := &comment{h.id(), number, by, body, h.now()}
	h.comments = append(h.comments, c)
	return c.id
}

// Comments lists the comments of a pull request.
func (h *Hub) Comments(number int) []Comment {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Comment
	for _, c := range h.comments {
		if c.pull == number {
			out = append(out, Comment{c.id, c.user.Login, c.body})
		}
	}
	return out
}

// Runs lists the check runs.
func (h *Hub) Runs() []Run {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Run
	for _, r := range h.runs {
		out = append(out, Run{r.name, r.head, r.status, r.conclusion, r.title, r.summary, r.annotations})
	}
	return out
}

// Statuses lists the commit statuses, each as "commit context state description".
func (h *Hub) Statuses() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, s := range h.statuses {
		out = append(out, fmt.Sprint(s["sha"], " ", s["context"], " ", s["state"], " ", s["description"]))
	}
	return out
}

func (h *Hub) reportRoutes() {
	h.handle("GET /issues/{number}/comments", func(w http.ResponseWriter, r *http.Request, _ session) {
		var found []*comment
		for _, c := range h.comments {
			if c.pull == number(r.PathValue("number")) {
				found = append(found, c)
			}
		}
		list(w, r, found, h.commentShape)
	})
	h.handle("POST /issues/{number}/comments", func(w http.ResponseWriter, r *http.Request, s session) {
		var in struct{ Body string }
		if !read(w, r, &in) {
			return
		}
		n := number(r.PathValue("number"))
		if n < 1 || n > len(h.pulls) {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		h.touch(n)
		c := &comment{h.id(), n, s.user, in.Body, h.now()}
		h.comments = append(h.comments, c)
		answer(w, http.StatusCreated, h.commentShape(c))
	})
	h.handle("PATCH /issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, s session) {
		var in struct{ Body string }
		if i := h.ownComment(w, r, s); i >= 0 && read(w, r, &in) {
			h.comments[i].body = in.Body
			answer(w, http.StatusOK, h.commentShape(h.comments[i]))
		}
	})
	h.handle("DELETE /issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, s session) {
		if i := h.ownComment(w, r, s); i >= 0 {
			h.comments = slices.Delete(h.comments, i, i+1)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	h.handle("POST /statuses/{sha}", h.createStatus)
	h.handle("POST /check-runs", func(w http.ResponseWriter, r *http.Request, s session) { h.setRun(w, r, s, nil) })
	h.handle("PATCH /check-runs/{id}", func(w http.ResponseWriter, r *http.Request, s session) {
		id := int64(number(r.PathValue("id")))
		i := slices.IndexFunc(h.runs, func(r *run) bool { return r.id == id })
		if i < 0 {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		h.setRun(w, r, s, h.runs[i])
	})
	h.handle("GET /codeowners/errors", func(w http.ResponseWriter, _ *http.Request, _ session) {
		answer(w, http.StatusOK, map[string]any{"errors": append([]map[string]any{}, h.owners...)})
	})
	h.handle("GET /rules/branches/{branch}", func(w http.ResponseWriter, r *http.Request, _ session) {
		list(w, r, h.rules, func(m map[string]any) map[string]any { return m })
	})
	h.handle("GET /rulesets/{id}", func(w http.ResponseWriter, r *http.Request, _ session) {
		set := map[string]any{"id": number(r.PathValue("id")), "name": "register", "target": "branch", "source_type": "Repository",
			"source": h.owner + "/" + h.name, "enforcement": "active", "rules": []any{}}
		if h.bypass != nil {
			set["bypass_actors"] = h.bypass
		}
		answer(w, http.StatusOK, set)
	})
	h.handle("GET /branches/{branch}/protection", func(w http.ResponseWriter, _ *http.Request, _ session) {
		fail(w, http.StatusNotFound, "Branch not protected")
	})
}

// ownComment finds the comment of a call, if the caller may change it.
func (h *Hub) ownComment(w http.ResponseWriter, r *http.Request, s session) int {
	id := int64(number(r.PathValue("id")))
	i := slices.IndexFunc(h.comments, func(c *comment) bool { return c.id == id })
	if i < 0 {
		fail(w, http.StatusNotFound, "Not Found")
		return -1
	}
	if h.comments[i].user.ID != s.user.ID {
		fail(w, http.StatusForbidden, "Must be the author of the comment")
		return -1
	}
	return i
}

func (h *Hub) createStatus(w http.ResponseWriter, r *http.Request, s session) {
	var in struct {
		State, Context, Description string
		URL                         *string `json:"target_url"`
	}
	if !read(w, r, &in) {
		return
	}
	if !slices.Contains([]string{"error", "failure", "pending", "success"}, in.State) || len([]rune(in.Description)) > 140 {
		fail(w, http.StatusUnprocessableEntity, "Validation Failed")
		return
	}
	now := h.now().UTC().Format(time.RFC3339)
	status := map[string]any{
		"id": h.id(), "node_id": "x", "url": h.api("/statuses/%s", r.PathValue("sha")), "avatar_url": "https://github.com/x", "state": in.State,
		"description": in.Description, "target_url": in.URL, "context": in.Context, "created_at": now, "updated_at": now, "creator": userShape(s.user),
	}
	answer(w, http.StatusCreated, status)
	status["sha"] = r.PathValue("sha")
	h.statuses = append(h.statuses, status)
}

// setRun makes a check run, or changes one; annotations are added to those
// that it has.
func (h *Hub) setRun(w http.ResponseWriter, r *http.Request, s session, to *run) {
	if s.app == 0 {
		fail(w, http.StatusForbidden, "You must authenticate via a GitHub App.")
		return
	}
	var in struct {
		Name, Status, Conclusion string
		Head                     string `json:"head_sha"`
		Output                   *struct {
			Title, Summary string
			Annotations    []map[string]any
		}
	}
	if !read(w, r, &in) {
		return
	}
	status := http.StatusOK
	if to == nil {
		to = &run{id: h.id(), app: s.app, name: in.Name, head: in.Head, status: "queued"}
		status = http.StatusCreated
	}
	_, known := h.objects.commits[to.head]
	switch {
	case to.name == "" || !known:
		fail(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+to.head)
		return
	case in.Output != nil && len(in.Output.Annotations) > 50:
		fail(w, http.StatusUnprocessableEntity, "Invalid request. No more than 50 items are allowed")
		return
	case in.Status == "completed" && in.Conclusion == "":
		fail(w, http.StatusUnprocessableEntity, "Invalid request. \"conclusion\" wasn't supplied.")
		return
	}
	if in.Status != "" {
		to.status = in.Status
	}
	if in.Conclusion != "" {
		to.status, to.conclusion = "completed", in.Conclusion
	}
	if in.Output != nil {
		to.title, to.summary = in.Output.Title, in.Output.Summary
		to.annotations = append(to.annotations, in.Output.Annotations...)
	}
	if status == http.StatusCreated {
		h.runs = append(h.runs, to)
	}
	answer(w, status, h.runShape(to))
}

func (h *Hub) accountRoutes() {
	h.handle("GET /collaborators/{login}/permission", func(w http.ResponseWriter, r *http.Request, _ session) {
		u, ok := h.users[r.PathValue("login")]
		if !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		may := h.permits[u.ID]
		if may == "" {
			may = "none"
		}
		answer(w, http.StatusOK, map[string]any{"permission": may, "role_name": may, "user": collaboratorShape(u)})
	})
	h.signedIn("GET /user", func(w http.ResponseWriter, _ *http.Request, s session) {
		if s.app != 0 {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		answer(w, http.StatusOK, publicUserShape(s.user))
	})
	h.mux.HandleFunc("GET /users/{login}", func(w http.ResponseWriter, r *http.Request) {
		u, ok := h.users[r.PathValue("login")]
		if !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		answer(w, http.StatusOK, publicUserShape(u))
	})
	h.signedIn("GET /orgs/{org}/teams/{slug}", func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesMembers() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		if t, ok := h.teams[r.PathValue("slug")]; ok && r.PathValue("org") == h.owner {
			answer(w, http.StatusOK, h.teamShape(t))
			return
		}
		fail(w, http.StatusNotFound, "Not Found")
	})
	h.signedIn("GET /orgs/{org}/teams/{slug}/members", func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesMembers() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		list(w, r, h.teams[r.PathValue("slug")].members, userShape)
	})
	h.mux.HandleFunc("GET /app", func(w http.ResponseWriter, r *http.Request) {
		if id, ok := h.ticket(r); ok {
			answer(w, http.StatusOK, h.appShape(id))
			return
		}
		fail(w, http.StatusUnauthorized, "A JSON web token could not be decoded")
	})
	h.mux.HandleFunc("POST /app/installations/{id}/access_tokens", func(w http.ResponseWriter, r *http.Request) {
		id, ok := h.ticket(r)
		if !ok {
			fail(w, http.StatusUnauthorized, "A JSON web token could not be decoded")
			return
		}
		if h.apps[id].installation != int64(number(r.PathValue("id"))) {
			fail(w, http.StatusNotFound, "Integration not found")
			return
		}
		var in struct {
			Repositories []string
			Permissions  map[string]string
		}
		if r.ContentLength != 0 && !read(w, r, &in) {
			return
		}
		if in.Permissions == nil { // all that the App may do
			in.Permissions = map[string]string{"checks": "write", "contents": "read", "pull_requests": "write", "members": "read"}
		}
		if len(in.Repositories) > 0 && !slices.Equal(in.Repositories, []string{h.name}) {
			fail(w, http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
			return
		}
		token, ends := fmt.Sprintf("ghs_%d", h.id()), h.now().Add(time.Hour).UTC().Truncate(time.Second)
		h.tokens[token] = session{user: h.apps[id].user, app: id, ends: ends, may: in.Permissions}
		answer(w, http.StatusCreated, map[string]any{"token": token, "expires_at": ends.Format(time.RFC3339),
			"permissions": in.Permissions, "repository_selection": "selected"})
	})
}

// seesMembers reports whether the caller may look into teams.
func (s session) seesMembers() bool { return s.app == 0 || s.may["members"] != "" }

// ticket verifies the JSON Web Token of a call and says whose it is.
func (h *Hub) ticket(r *http.Request) (int64, bool) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	var claims struct {
		IssuedAt int64  `json:"iat"`
		Ends     int64  `json:"exp"`
		Issuer   string `json:"iss"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return 0, false
	}
	id, _ := strconv.ParseInt(claims.Issuer, 10, 64)
	app, ok := h.apps[id]
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if !ok || err != nil {
		return 0, false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := h.now().Unix()
	if rsa.VerifyPKCS1v15(app.key, crypto.SHA256, sum[:], signature) != nil || claims.IssuedAt > now || claims.Ends <= now || claims.Ends > now+600 {
		return 0, false
	}
	return id, true
}
