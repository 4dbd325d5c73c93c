package forgetest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Change is a file that Commit writes; Mode "" is a regular file, and Remove
// takes it away.
type Change struct {
	Path, Content, Mode string
	Remove              bool
}

// Commit puts a commit on a branch, as a push would, and makes the branch from
// main if it is not there.
func (h *Hub) Commit(branch, message string, changes ...Change) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	parent, ok := h.branches[branch]
	if !ok {
		parent = h.branches["main"]
	}
	files := h.objects.files(h.objects.commits[parent].tree)
	for _, c := range changes {
		if c.Remove {
			delete(files, c.Path)
			continue
		}
		mode := c.Mode
		if mode == "" {
			mode = "100644"
		}
		files[c.Path] = File{mode, h.objects.blob([]byte(c.Content))}
	}
	sha := h.objects.commit(h.objects.write(files), []string{parent}, message, "Somebody <somebody@example.edu>", h.now())
	h.branches[branch] = sha
	return sha
}

// Branch is the commit that a branch stands at.
func (h *Hub) Branch(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.branches[name]
}

// Branches lists the branches.
func (h *Hub) Branches() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.branches))
}

// Content is a file of a commit, and whether it is there.
func (h *Hub) Content(commit, path string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.objects.files(h.objects.commits[commit].tree)[path]
	return string(h.objects.blobs[f.SHA]), ok
}

func (h *Hub) gitRoutes() {
	h.handle("GET /git/ref/{ref...}", func(w http.ResponseWriter, r *http.Request, _ session) {
		branch := strings.TrimPrefix(r.PathValue("ref"), "heads/")
		sha, ok := h.branches[branch]
		if !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		answer(w, http.StatusOK, h.refShape(branch, sha))
	})
	h.handle("POST /git/refs", h.createRef)
	h.handle("GET /git/commits/{sha}", func(w http.ResponseWriter, r *http.Request, _ session) {
		if _, ok := h.objects.commits[r.PathValue("sha")]; !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		answer(w, http.StatusOK, h.commitShape(r.PathValue("sha")))
	})
	h.handle("POST /git/commits", h.createCommit)
	h.handle("GET /git/trees/{sha}", func(w http.ResponseWriter, r *http.Request, _ session) {
		if _, ok := h.objects.trees[r.PathValue("sha")]; !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		answer(w, http.StatusOK, h.treeShape(r.PathValue("sha")))
	})
	h.handle("POST /git/trees", h.createTree)
	h.handle("GET /git/blobs/{sha}", func(w http.ResponseWriter, r *http.Request, _ session) {
		data, ok := h.objects.blobs[r.PathValue("sha")]
		if !ok {
			fail(w, http.StatusNotFound, "Not Found")
			return
		}
		answer(w, http.StatusOK, h.blobShape(r.PathValue("sha"), data))
	})
	h.handle("POST /git/blobs", func(w http.ResponseWriter, r *http.Request, _ session) {
		var in struct{ Content, Encoding string }
		if !read(w, r, &in) {
			return
		}
		data := []byte(in.Content)
		if in.Encoding == "base64" {
			var err error
			if data, err = base64.StdEncoding.DecodeString(in.Content); err != nil {
				fail(w, http.StatusUnprocessableEntity, "content is not valid Base64")
				return
			}
		}
		sha := h.objects.blob(data)
		answer(w, http.StatusCreated, map[string]any{"sha": sha, "url": h.api("/git/blobs/%s", sha)})
	})
}

func (h *Hub) createRef(w http.ResponseWriter, r *http.Request, _ session) {
	var in struct{ Ref, SHA string }
	if !read(w, r, &in) {
		return
	}
	branch, ok := strings.CutPrefix(in.Ref, "refs/heads/")
	_, taken := h.branches[branch]
	_, known := h.objects.commits[in.SHA]
	switch {
	case !ok || branch == "":
		fail(w, http.StatusUnprocessableEntity, "Reference name must start with 'refs/heads/'")
	case taken:
		fail(w, http.StatusUnprocessableEntity, "Reference already exists")
	case !known:
		fail(w, http.StatusUnprocessableEntity, "Object does not exist")
	default:
		h.branches[branch] = in.SHA
		answer(w, http.StatusCreated, h.refShape(branch, in.SHA))
	}
}

func (h *Hub) createCommit(w http.ResponseWriter, r *http.Request, s session) {
	var in struct {
		Message, Tree string
		Parents       []string
		Author        *struct {
			Name, Email string
			Date        time.Time
		}
	}
	if !read(w, r, &in) {
		return
	}
	if _, ok := h.objects.trees[in.Tree]; !ok || in.Message == "" {
		fail(w, http.StatusUnprocessableEntity, "Tree SHA does not exist")
		return
	}
	for _, p := range in.Parents {
		if _, ok := h.objects.commits[p]; !ok {
			fail(w, http.StatusUnprocessableEntity, "Parent SHA does not exist or is not a commit object")
			return
		}
	}
	author, at := fmt.Sprintf("%s <%d+%s@users.noreply.github.com>", s.user.Login, s.user.ID, s.user.Login), h.now()
	if in.Author != nil {
		author = fmt.Sprintf("%s <%s>", in.Author.Name, in.Author.Email)
		if !in.Author.Date.IsZero() {
			at = in.Author.Date
		}
	}
	answer(w, http.StatusCreated, h.commitShape(h.objects.commit(in.Tree, in.Parents, in.Message, author, at)))
}

func (h *Hub) createTree(w http.ResponseWriter, r *http.Request, _ session) {
	var in struct {
		Base string `json:"base_tree"`
		Tree []struct {
			Path, Mode, Type string
			SHA, Content     *string
		}
	}
	if !read(w, r, &in) {
		return
	}
	if _, ok := h.objects.trees[in.Base]; !ok && in.Base != "" {
		fail(w, http.StatusNotFound, "Not Found")
		return
	}
	files := h.objects.files(in.Base)
	for _, e := range in.Tree {
		switch {
		case e.SHA != nil:
			files[e.Path] = File{e.Mode, *e.SHA}
		case e.Content != nil:
			files[e.Path] = File{e.Mode, h.objects.blob([]byte(*e.Content))}
		default:
			if _, ok := files[e.Path]; !ok {
				fail(w, http.StatusUnprocessableEntity, "GitRPC::BadObjectState")
				return
			}
			delete(files, e.Path)
		}
	}
	answer(w, http.StatusCreated, h.treeShape(h.objects.write(files)))
}

// Listing is what is in a folder of a commit ("" is the root), by name, folders
// included; nil where there is no such folder.
func (h *Hub) Listing(commit, dir string) map[string]File {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.objects.commits[commit].tree
	for name := range strings.SplitSeq(dir, "/") {
		if dir == "" {
			break
		}
		i := slices.IndexFunc(h.objects.trees[at], func(e entry) bool { return e.name == name && e.mode == "040000" })
		if i < 0 {
			return nil
		}
		at = h.objects.trees[at][i].sha
	}
	list := map[string]File{}
	for _, e := range h.objects.trees[at] {
		list[e.name] = File{e.mode, e.sha}
	}
	return list
}

// Files is every file of a commit, by path.
func (h *Hub) Files(commit string) map[string]File {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.objects.files(h.objects.commits[commit].tree)
}
