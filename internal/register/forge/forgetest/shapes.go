package forgetest

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The shapes are GitHub's: every field that its description calls required is
// there, with a value that is plausible where nothing here knows a better one.

func (h *Hub) api(format string, args ...any) string {
	return "https://api.github.com/repos/" + h.owner + "/" + h.name + fmt.Sprintf(format, args...)
}

func (h *Hub) web(format string, args ...any) string {
	return "https://github.com/" + h.owner + "/" + h.name + fmt.Sprintf(format, args...)
}

// links adds fields that hold an address and nothing else.
func links(m map[string]any, base string, fields string) map[string]any {
	for f := range strings.FieldsSeq(fields) {
		m[f] = base
	}
	return m
}

func userShape(u User) map[string]any {
	m := map[string]any{"login": u.Login, "id": u.ID, "node_id": fmt.Sprint("U_", u.ID), "gravatar_id": "", "type": u.Type, "site_admin": false}
	return links(m, "https://api.github.com/users/"+url.PathEscape(u.Login), `avatar_url url html_url followers_url following_url
		gists_url starred_url subscriptions_url organizations_url repos_url events_url received_events_url`)
}

func publicUserShape(u User) map[string]any {
	m := userShape(u)
	for f := range strings.FieldsSeq("name company blog location email hireable bio") {
		m[f] = nil
	}
	for f := range strings.FieldsSeq("public_repos public_gists followers following") {
		m[f] = 0
	}
	m["created_at"], m["updated_at"] = "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"
	return m
}

func (h *Hub) repoShape(fork bool) map[string]any {
	id := 4711
	if fork {
		id = 4712
	}
	m := map[string]any{
		"id": id, "node_id": "R", "name": h.name, "full_name": h.owner + "/" + h.name, "private": false, "description": nil, "fork": fork,
		"owner": userShape(User{1, h.owner, "Organization"}), "homepage": nil, "language": nil, "license": nil, "default_branch": "main",
		"visibility": "public", "archived": false, "disabled": false, "mirror_url": nil,
		"pushed_at": "2026-01-01T00:00:00Z", "created_at": "2020-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
	}
	for f := range strings.FieldsSeq("forks_count stargazers_count watchers_count size open_issues_count forks open_issues watchers") {
		m[f] = 0
	}
	for f := range strings.FieldsSeq("has_issues has_projects has_wiki has_pages has_downloads has_discussions") {
		m[f] = false
	}
	return links(m, h.api(""), `html_url url archive_url assignees_url blobs_url branches_url collaborators_url comments_url commits_url
		compare_url contents_url contributors_url deployments_url downloads_url events_url forks_url git_commits_url git_refs_url git_tags_url
		git_url issue_comment_url issue_events_url issues_url keys_url labels_url languages_url merges_url milestones_url notifications_url
		pulls_url releases_url ssh_url stargazers_url statuses_url subscribers_url subscription_url tags_url teams_url trees_url clone_url
		hooks_url svn_url`)
}

func (h *Hub) refShape(branch, sha string) map[string]any {
	return map[string]any{"ref": "refs/heads/" + branch, "node_id": "REF", "url": h.api("/git/refs/heads/%s", branch),
		"object": map[string]any{"type": "commit", "sha": sha, "url": h.api("/git/commits/%s", sha)}}
}

func (h *Hub) commitShape(sha string) map[string]any {
	c := h.objects.commits[sha]
	name, rest, _ := strings.Cut(c.author, " <")
	who := map[string]any{"name": name, "email": strings.TrimSuffix(rest, ">"), "date": c.at.Format(time.RFC3339)}
	parents := []map[string]any{}
	for _, p := range c.parents {
		parents = append(parents, map[string]any{"sha": p, "url": h.api("/git/commits/%s", p), "html_url": h.web("/commit/%s", p)})
	}
	return map[string]any{
		"sha": sha, "node_id": "C", "url": h.api("/git/commits/%s", sha), "html_url": h.web("/commit/%s", sha), "author": who, "committer": who,
		"message": c.message, "tree": map[string]any{"sha": c.tree, "url": h.api("/git/trees/%s", c.tree)}, "parents": parents,
		"verification": map[string]any{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil},
	}
}

func (h *Hub) treeShape(sha string) map[string]any {
	entries := []map[string]any{}
	for _, e := range h.objects.trees[sha] {
		m := map[string]any{"path": e.name, "mode": e.mode, "type": "blob", "sha": e.sha, "url": h.api("/git/blobs/%s", e.sha)}
		switch e.mode {
		case "040000":
			m["type"] = "tree"
		case "160000":
			m["type"] = "commit"
		default:
			m["size"] = len(h.objects.blobs[e.sha])
		}
		entries = append(entries, m)
	}
	return map[string]any{"sha": sha, "url": h.api("/git/trees/%s", sha), "truncated": false, "tree": entries}
}

func (h *Hub) blobShape(sha string, data []byte) map[string]any {
	text := base64.StdEncoding.EncodeToString(data)
	var lines strings.Builder // GitHub breaks it into lines
	for len(text) > 60 {
		lines.WriteString(text[:60] + "\n")
		text = text[60:]
	}
	return map[string]any{"sha": sha, "node_id": "B", "url": h.api("/git/blobs/%s", sha), "size": len(data), "encoding": "base64", "content": lines.String() + text}
}

func (h *Hub) side(p *pull, branch, sha string, fork bool) map[string]any {
	return map[string]any{"label": h.owner + ":" + branch, "ref": branch, "sha": sha, "user": userShape(User{1, h.owner, "Organization"}), "repo": h.repoShape(fork)}
}

func (h *Hub) pullSimpleShape(p *pull) map[string]any {
	at := p.createdAt.UTC().Format(time.RFC3339)
	m := map[string]any{
		"id": p.id, "node_id": fmt.Sprint("PR_", p.id), "number": p.number, "state": p.state, "locked": false, "title": p.title, "body": p.body,
		"user": userShape(p.user), "labels": []any{}, "milestone": nil, "created_at": at, "updated_at": at, "closed_at": nil, "merged_at": nil,
		"merge_commit_sha": nil, "assignee": nil, "assignees": []any{}, "requested_reviewers": []any{}, "requested_teams": []any{}, "draft": false,
		"head": h.side(p, p.branch, h.head(p), p.fork), "base": h.side(p, p.base, h.branches[p.base], false), "author_association": "MEMBER",
		"auto_merge": nil, "active_lock_reason": nil,
	}
	m["updated_at"] = p.changedAt.UTC().Format(time.RFC3339)
	ended := p.endedAt.UTC().Format(time.RFC3339)
	if p.state == "closed" {
		m["closed_at"] = ended
	}
	if p.mergedAs != "" {
		m["merged_at"], m["merge_commit_sha"] = ended, p.mergedAs
	}
	links(m, h.api("/pulls/%d", p.number), "url issue_url commits_url review_comments_url review_comment_url comments_url statuses_url")
	links(m, h.web("/pull/%d", p.number), "html_url diff_url patch_url")
	refs := map[string]any{}
	for f := range strings.FieldsSeq("self html issue comments review_comments review_comment commits statuses") {
		refs[f] = map[string]any{"href": h.api("/pulls/%d", p.number)}
	}
	m["_links"] = refs
	return m
}

func (h *Hub) pullShape(p *pull) map[string]any {
	m := h.pullSimpleShape(p)
	for f, v := range map[string]any{
		"merged": p.mergedAs != "", "mergeable": true, "rebaseable": true, "mergeable_state": "clean", "merged_by": nil, "comments": 0,
		"review_comments": 0, "maintainer_can_modify": false, "commits": len(h.commits(p)), "additions": 0, "deletions": 0, "changed_files": len(h.changes(p)) + p.miscount,
	} {
		m[f] = v
	}
	if p.mergedBy != nil {
		m["merged_by"] = userShape(*p.mergedBy)
	}
	return m
}

func (h *Hub) lineCommentShape(p *pull, c lineComment) map[string]any {
	at := c.at.UTC().Format(time.RFC3339)
	m := map[string]any{
		"id": c.id, "node_id": "PRRC", "url": h.api("/pulls/comments/%d", c.id), "html_url": h.web("/pull/%d", p.number), "body": c.body,
		"user": userShape(c.user), "created_at": at, "updated_at": at, "pull_request_url": h.api("/pulls/%d", p.number), "author_association": "MEMBER",
		"pull_request_review_id": nil, "diff_hunk": "@@", "path": "registrations/x.cue", "commit_id": c.commit, "original_commit_id": c.commit,
	}
	refs := map[string]any{}
	for f := range strings.FieldsSeq("self html pull_request") {
		refs[f] = map[string]any{"href": h.api("/pulls/%d", p.number)}
	}
	m["_links"] = refs
	return m
}

// collaboratorShape is somebody with what they may do, where GitHub tells that.
func collaboratorShape(u User) map[string]any {
	m := userShape(u)
	m["role_name"] = "x"
	return m
}

func (h *Hub) changedShape(p *pull, c changed) map[string]any {
	m := map[string]any{"sha": c.sha, "filename": c.path, "status": c.status, "additions": 1, "deletions": 0, "changes": 1}
	if c.from != "" {
		m["previous_filename"] = c.from
	}
	return links(m, h.web("/blob/%s/file", h.head(p)), "blob_url raw_url contents_url")
}

func (h *Hub) reviewShape(p *pull, v review) map[string]any {
	return map[string]any{
		"id": v.id, "node_id": "V", "user": userShape(v.user), "body": v.body, "state": v.state, "html_url": h.web("/pull/%d", p.number),
		"pull_request_url": h.api("/pulls/%d", p.number), "commit_id": v.commit, "author_association": "MEMBER", "submitted_at": v.at.UTC().Format(time.RFC3339Nano),
		"_links": map[string]any{"html": map[string]any{"href": h.web("/pull/%d", p.number)}, "pull_request": map[string]any{"href": h.api("/pulls/%d", p.number)}},
	}
}

func (h *Hub) eventShape(p *pull, e event) map[string]any {
	return map[string]any{
		"id": e.id, "node_id": "E", "url": h.api("/issues/events/%d", e.id), "actor": userShape(p.user), "event": e.what, "commit_id": nil, "commit_url": nil,
		"created_at": e.at.UTC().Format(time.RFC3339Nano), "performed_via_github_app": nil, "lock_reason": nil,
	}
}

func (h *Hub) commentShape(c *comment) map[string]any {
	at := c.at.UTC().Format(time.RFC3339)
	return map[string]any{
		"id": c.id, "node_id": "IC", "url": h.api("/issues/comments/%d", c.id), "html_url": h.web("/pull/%d", c.pull), "body": c.body,
		"user": userShape(c.user), "created_at": at, "updated_at": at, "issue_url": h.api("/issues/%d", c.pull), "author_association": "MEMBER",
		"performed_via_github_app": nil,
	}
}

func (h *Hub) appShape(id int64) map[string]any {
	return map[string]any{
		"id": id, "slug": h.apps[id].slug, "node_id": "A", "owner": userShape(User{1, h.owner, "Organization"}), "name": h.apps[id].slug, "description": nil,
		"external_url": "https://example.edu", "html_url": "https://github.com/apps/x", "created_at": "2026-01-01T00:00:00Z",
		"updated_at": "2026-01-01T00:00:00Z", "permissions": map[string]any{"checks": "write"}, "events": []string{"pull_request"},
	}
}

func (h *Hub) runShape(r *run) map[string]any {
	m := map[string]any{
		"id": r.id, "head_sha": r.head, "node_id": "CR", "external_id": "", "url": h.api("/check-runs/%d", r.id), "html_url": h.web("/runs/%d", r.id),
		"details_url": nil, "status": r.status, "conclusion": nil, "started_at": nil, "completed_at": nil, "name": r.name,
		"check_suite": map[string]any{"id": 1}, "app": h.appShape(r.app), "pull_requests": []any{},
		"output": map[string]any{"title": r.title, "summary": r.summary, "text": nil, "annotations_count": len(r.annotations),
			"annotations_url": h.api("/check-runs/%d/annotations", r.id)},
	}
	if r.conclusion != "" {
		m["conclusion"], m["completed_at"] = r.conclusion, h.now().UTC().Format(time.RFC3339)
	}
	return m
}

func (h *Hub) teamShape(t team) map[string]any {
	org := map[string]any{
		"login": h.owner, "id": 1, "node_id": "O", "description": nil, "has_organization_projects": true, "has_repository_projects": true,
		"public_repos": 1, "public_gists": 0, "followers": 0, "following": 0, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
		"archived_at": nil, "type": "Organization",
	}
	links(org, "https://api.github.com/orgs/"+h.owner, "url repos_url events_url hooks_url issues_url members_url public_members_url avatar_url html_url")
	m := map[string]any{
		"id": t.id, "node_id": "T", "name": t.slug, "slug": t.slug, "description": nil, "permission": "pull", "privacy": h.privacy(t.slug), "parent": nil,
		"members_count": len(t.members), "repos_count": 1, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z", "organization": org,
		"type": "organization",
	}
	return links(m, "https://api.github.com/teams/"+t.slug, "url html_url members_url repositories_url")
}

func (h *Hub) privacy(slug string) string {
	if slices.Contains(h.settings.Secret, slug) {
		return "secret"
	}
	return "closed"
}
