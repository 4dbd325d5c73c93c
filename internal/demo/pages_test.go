package demo

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.edu/gatepost/internal/portal/page"
)

// TestLook holds the layout by itself to what every page is held to.
func TestLook(t *testing.T) {
	pages, err := page.New(page.Site{University: "Example University", Service: "Mail relay", Hostname: "relay.example.edu",
		Postmaster: "postmaster@example.edu", Demo: true}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/static/", pages.Static())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policyOfPages)
		frame := page.Frame{Token: "a token"}
		if r.URL.Path == "/" {
			pages.Render(w, r, http.StatusOK, "home", frame)
			return
		}
		frame.Visitor = &page.Visitor{Name: "Pat Moss", Postmaster: true}
		pages.Fail(w, r, http.StatusNotFound, frame, page.Failure{Heading: "There is no such page",
			Text: "Nothing is known by this name.", Next: []string{"Is the address of the page complete?"}, Link: page.Link{URL: "/", Text: "To the first page"}})
	})
	web := httptest.NewServer(mux)
	defer web.Close()

	b := startBrowser(t, web.URL)
	v := b.visitor(t, "anybody", wide)
	if status := v.open("/"); status != http.StatusOK {
		t.Errorf("the first page is %d", status)
	}
	v.look("home")
	if status := v.open("/nowhere"); status != http.StatusNotFound {
		t.Errorf("an unknown page is %d", status)
	}
	v.look("not-found")
}
