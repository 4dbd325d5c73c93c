package portal

import (
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"example.edu/gatepost/internal/portal/page"
)

// TestExtra: pages of another room look like all others, and stay below /demo.
func TestExtra(t *testing.T) {
	s := testServer(t, dana)
	if code, _ := get(t, s, "/demo"); code != http.StatusNotFound {
		t.Errorf("without extra pages, /demo is %d", code)
	}
	var more fs.FS = fstest.MapFS{"templates/more.html": {Data: []byte(`{{define "title"}}More{{end}}{{define "main"}}<h1>{{.Body}}</h1>{{end}}`)}}
	err := s.addExtra(func(pages *page.Pages, frame FrameFunc) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pages.Render(w, r, http.StatusOK, "more", frame(w, r, "<b>of mine</b>"))
		}), pages.Add(more)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/demo", "/demo/inbox"} {
		code, body := get(t, s, path)
		if code != http.StatusOK || !strings.Contains(body, "<h1>&lt;b&gt;of mine&lt;/b&gt;</h1>") || !strings.Contains(body, "Dana Ito") {
			t.Errorf("%s is %d:\n%s", path, code, body)
		}
	}
}
