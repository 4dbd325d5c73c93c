package forgetest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// AddActions signs in the workflows of the repository: a token that may write
// checks and comments, and knows nothing of the organisation.
func (h *Hub) AddActions(token string) User {
	h.mu.Lock()
	defer h.mu.Unlock()
	const number = 15368 // as on github.com, both of them
	u := User{ID: 41898282, Login: "github-actions[bot]", Type: "Bot"}
	h.users[u.Login] = u
	h.apps[number] = app{slug: "github-actions", user: u}
	h.tokens[token] = session{user: u, app: number, may: map[string]string{"checks": "write", "contents": "read", "pull_requests": "write"}}
	return u
}

// Fork opens a pull request of a branch in somebody's fork, which is made of
// what Commit would make of main. It returns the number.
func (h *Hub) Fork(by User, branch, title string, changes ...Change) int {
	h.Commit("fork of "+branch, title, changes...)
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.open(by, branch, "main", title, "")
	p.fork, p.tip = true, h.branches["fork of "+branch]
	delete(h.branches, "fork of "+branch)
	return p.number
}

// Push moves the head of a pull request out of a fork.
func (h *Hub) Push(number int, changes ...Change) string {
	h.mu.Lock()
	at := h.pulls[number-1].tip
	h.branches["push"] = at
	h.mu.Unlock()
	at = h.Commit("push", "More", changes...)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.branches, "push")
	h.pulls[number-1].tip = at
	return at
}

// Retarget has a pull request go into another branch.
func (h *Hub) Retarget(number int, base string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pulls[number-1]
	p.base = base
	p.events = append(p.events, event{h.id(), "base_ref_changed", h.now()})
}

// SetBranch has a branch stand at a commit, as a force push would.
func (h *Hub) SetBranch(name, commit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.branches[name] = commit
}

// MakeCommit stores a commit of the files of one commit with parents of its
// own, and no branch.
func (h *Hub) MakeCommit(files string, parents ...string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.objects.commit(h.objects.commits[files].tree, parents, "Made", "Somebody <somebody@example.edu>", h.now())
}

func (h *Hub) compareRoutes() {
	h.handle("GET /compare/{range}", h.compare)
	h.handle("GET /git/matching-refs/{ref...}", func(w http.ResponseWriter, r *http.Request, _ session) {
		var found []string
		for _, name := range slices.Sorted(maps.Keys(h.branches)) {
			if strings.HasPrefix("heads/"+name, r.PathValue("ref")) {
				found = append(found, name)
			}
		}
		list(w, r, found, func(name string) map[string]any { return h.refShape(name, h.branches[name]) })
	})
}

func (h *Hub) compare(w http.ResponseWriter, r *http.Request, _ session) {
	from, to, ok := strings.Cut(r.PathValue("range"), "...")
	_, known := h.objects.commits[from]
	_, alsoKnown := h.objects.commits[to]
	fork := ""
	if ok && known && alsoKnown {
		fork = h.objects.fork(from, to)
	}
	if fork == "" {
		fail(w, http.StatusNotFound, "Not Found")
		return
	}
	had, has := h.objects.past(from), h.objects.past(to)
	var ahead []string
	behind := 0
	for c := range has {
		if !had[c] {
			ahead = append(ahead, c)
		}
	}
	for c := range had {
		if !has[c] {
			behind++
		}
	}
	slices.Sort(ahead)
	status := "diverged"
	switch {
	case len(ahead) == 0 && behind == 0:
		status = "identical"
	case behind == 0:
		status = "ahead"
	case len(ahead) == 0:
		status = "behind"
	}
	m := map[string]any{
		"base_commit": h.repositoryCommitShape(from), "merge_base_commit": h.repositoryCommitShape(fork), "status": status,
		"ahead_by": len(ahead), "behind_by": behind, "total_commits": len(ahead) + h.uncounted, "files": []any{},
	}
	links(m, h.web("/compare/%s...%s", from, to), "html_url permalink_url diff_url patch_url")
	m["url"] = h.api("/compare/%s...%s", from, to)
	page, commits := slice(w, r, ahead), []map[string]any{}
	for _, c := range page {
		commits = append(commits, h.repositoryCommitShape(c))
	}
	m["commits"] = commits
	answer(w, http.StatusOK, m)
}

// Uncounted makes comparisons of commits count n more than they list.
func (h *Hub) Uncounted(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uncounted = n
}

// repositoryCommitShape is a commit as the repository's part of the API has it.
func (h *Hub) repositoryCommitShape(sha string) map[string]any {
	c := h.commitShape(sha)
	inner := map[string]any{"comment_count": 0, "url": c["url"]}
	for f := range strings.FieldsSeq("author committer message tree verification") {
		inner[f] = c[f]
	}
	m := map[string]any{
		"sha": sha, "node_id": "C", "url": h.api("/commits/%s", sha), "html_url": h.web("/commit/%s", sha), "comments_url": h.api("/commits/%s/comments", sha),
		"commit": inner, "author": nil, "committer": nil, "parents": c["parents"],
	}
	if who, ok := h.wrote[sha]; ok {
		m["author"], m["committer"] = userShape(who[0]), userShape(who[1])
	}
	return m
}
