package forgetest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// Settings are what the settings of the repository and of its organisation say.
type Settings struct {
	Person      bool              // the owner is a person
	Private     bool              // …, and so on as GitHub names them
	NoForks     bool              // the repository cannot be forked
	NotAdmin    bool              // whoever asks may not change the settings
	Protected   bool              // the branch has protection of some kind
	Rulesets    []map[string]any  // in GitHub's own JSON; those of Protection come by SetRules
	Actions     map[string]any    // …
	Token       map[string]any    // … of workflows
	Forks       map[string]any    // … of a public repository
	PrivateFork map[string]any    // … of a private one
	Variables   map[string]string // of the repository
	OrgVars     map[string]string // of the organisation
	Writes      []string          // slugs of the teams that may write
	Reads       []string          // … that may read
	Secret      []string          // … that are not visible
}

// SetSettings replaces the settings.
func (h *Hub) SetSettings(s Settings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settings = s
}

func (h *Hub) settingsRoutes() {
	say := func(pattern string, say func(r *http.Request) map[string]any) {
		h.handle(pattern, func(w http.ResponseWriter, r *http.Request, _ session) { answer(w, http.StatusOK, say(r)) })
	}
	say("GET ", func(*http.Request) map[string]any { return h.fullRepoShape() })
	h.handle("GET /branches/{branch}", func(w http.ResponseWriter, r *http.Request, _ session) {
		name := r.PathValue("branch")
		sha, ok := h.branches[name]
		if !ok {
			fail(w, http.StatusNotFound, "Branch not found")
			return
		}
		url := h.api("/branches/%s/protection", name)
		answer(w, http.StatusOK, map[string]any{
			"name": name, "commit": h.repositoryCommitShape(sha), "protected": h.settings.Protected, "protection": map[string]any{"enabled": h.settings.Protected},
			"protection_url": url, "_links": map[string]any{"self": url, "html": url},
		})
	})
	h.handle("GET /rulesets", func(w http.ResponseWriter, r *http.Request, _ session) {
		list(w, r, h.settings.Rulesets, func(m map[string]any) map[string]any { return m })
	})
	say("GET /actions/permissions", func(*http.Request) map[string]any { return h.settings.Actions })
	say("GET /actions/permissions/workflow", func(*http.Request) map[string]any { return h.settings.Token })
	say("GET /actions/permissions/fork-pr-contributor-approval", func(*http.Request) map[string]any { return h.settings.Forks })
	say("GET /actions/permissions/fork-pr-workflows-private-repos", func(*http.Request) map[string]any { return h.settings.PrivateFork })
	h.handle("GET /actions/variables", func(w http.ResponseWriter, r *http.Request, _ session) { variables(w, r, h.settings.Variables) })
	h.handle("GET /actions/organization-variables", func(w http.ResponseWriter, r *http.Request, _ session) { variables(w, r, h.settings.OrgVars) })
	h.signedIn("GET /orgs/{org}/teams", func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesMembers() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		var visible []team
		for _, slug := range slices.Sorted(maps.Keys(h.teams)) {
			if !slices.Contains(h.settings.Secret, slug) {
				visible = append(visible, h.teams[slug])
			}
		}
		list(w, r, visible, h.teamShape)
	})
	h.signedIn("GET /orgs/{org}/teams/{slug}/repos/{owner}/{repo}", func(w http.ResponseWriter, r *http.Request, s session) {
		if !s.seesMembers() {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		slug := r.PathValue("slug")
		writes, reads := slices.Contains(h.settings.Writes, slug), slices.Contains(h.settings.Reads, slug)
		if !writes && !reads {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		m := h.repoShape(false)
		m["permissions"] = map[string]any{"admin": false, "maintain": false, "push": writes, "triage": writes, "pull": true}
		answer(w, http.StatusOK, m)
	})
	h.signedIn("GET /user/{id}", func(w http.ResponseWriter, r *http.Request, _ session) {
		for _, u := range h.users {
			if strconv.FormatInt(u.ID, 10) == r.PathValue("id") {
				answer(w, http.StatusOK, publicUserShape(u))
				return
			}
		}
		fail(w, http.StatusNotFound, "Not Found")
	})
}

// variables answers with a page of variables; GitHub gives 30 at most.
func variables(w http.ResponseWriter, r *http.Request, all map[string]string) {
	out := []map[string]any{}
	for _, name := range slice(w, r, slices.Sorted(maps.Keys(all))) {
		out = append(out, map[string]any{"name": name, "value": all[name], "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"})
	}
	answer(w, http.StatusOK, map[string]any{"total_count": len(all), "variables": out})
}

func (h *Hub) fullRepoShape() map[string]any {
	m := h.repoShape(false)
	kind := "Organization"
	if h.settings.Person {
		kind = "User"
	}
	m["owner"] = userShape(User{1, h.owner, kind})
	m["private"], m["allow_forking"] = h.settings.Private, !h.settings.NoForks
	m["network_count"], m["subscribers_count"] = 0, 0
	admin := !h.settings.NotAdmin
	m["permissions"] = map[string]any{"admin": admin, "maintain": admin, "push": true, "triage": true, "pull": true}
	return m
}
