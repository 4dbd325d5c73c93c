// Package page is the portal's look: the layout that every page has, its
// templates, its style sheet and script, and the words for errors. It knows no
// register and no request; what is to be seen comes in as a value.
//
// Invariants:
//   - A page is made whole before its first octet leaves, so that no visitor sees
//     half of one, and a template that fails is a 500 with words.
//   - Everything that is shown goes through html/template; there is no way to hand
//     markup in but an SVG that package chart made.
//   - No page has a style or a script of its own in it: the content security
//     policy allows none.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed assets
var assets embed.FS

// A Site is what is the university's own, by configuration.
type Site struct {
	University string // "University of Michigan"
	Service    string // what the relay is called: "Mail relay"
	Hostname   string // of the relay, as devices are told: "relay.mail.example.edu"; may be ""
	Postmaster string // a mailbox
	Policies   string // URL of the IT policies; may be ""
	Help       string // URL; may be ""
	Accent     Accent // zero: the default
	Logo       []byte // an image; nil: none
	LogoType   string // its media type
	Demo       bool   // says so on every page
}

// An Accent is the site's colour as it can be read, "#rrggbb" each.
type Accent struct {
	Light, Dark     string // of links and buttons, on a light ground and on a dark one
	OnLight, OnDark string // of what stands on it
}

// A Visitor is who looks at a page; nil is nobody who has signed in.
type Visitor struct {
	Name       string
	Postmaster bool
}

// A Frame is all that a page is made of.
type Frame struct {
	Visitor *Visitor
	Token   string // for the forms of this page
	Path    string // of the request, for the navigation
	Body    any    // what the page's own template shows
}

// Pages renders. It is safe for concurrent use.
type Pages struct {
	site   Site
	log    *slog.Logger
	layout *template.Template            // never executed itself, so that it can be cloned
	pages  map[string]*template.Template // by name
	files  map[string]file               // by URL path
}

// A file is one asset.
type file struct {
	data []byte
	kind string
	tag  string // of its content
}

// New reads the templates and assets.
func New(site Site, log *slog.Logger) (*Pages, error) {
	p := &Pages{site: site, log: log, pages: map[string]*template.Template{}, files: map[string]file{}}
	if err := p.readAssets(); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	layout, err := template.New("layout").Funcs(p.functions()).ParseFS(templates, "templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	p.layout = layout
	if err := p.Add(templates); err != nil {
		return nil, err
	}
	return p, nil
}

// Add reads the pages of another room: the files templates/NAME.html, each of
// which defines "title" and "main". It is called before the first page is
// rendered.
func (p *Pages) Add(from fs.FS) error {
	names, err := fs.Glob(from, "templates/*.html")
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	for _, name := range names {
		base := path.Base(name)
		if base == "layout.html" {
			continue
		}
		t, err := p.layout.Clone()
		if err == nil {
			_, err = t.ParseFS(from, name)
		}
		if err != nil {
			return fmt.Errorf("page: %s: %w", base, err)
		}
		p.pages[strings.TrimSuffix(base, ".html")] = t
	}
	return nil
}

// Render writes a page. Whatever is somebody's own is not kept by anybody.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, name string, f Frame) {
	if f.Path == "" {
		f.Path = r.URL.Path
	}
	text, err := p.execute(name, "layout.html", f)
	if err != nil {
		p.log.Error("a page cannot be made", "event", "portal.page_failed", "page", name, "err", err)
		http.Error(w, "This page cannot be shown. It is our fault; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // the visitor may have gone
	}
}

// Part is one template of a page by itself, for what a script replaces.
func (p *Pages) Part(name, part string, f Frame) ([]byte, error) { return p.execute(name, part, f) }

func (p *Pages) execute(name, part string, f Frame) ([]byte, error) {
	t := p.pages[name]
	if t == nil {
		return nil, fmt.Errorf("page: there is no template %s", name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, part, struct {
		Frame
		Site Site
	}{f, p.site}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A Failure is what the page "failure" shows.
type Failure struct {
	Heading string
	Text    string   // what it means
	Next    []string // what to do
	Link    Link     // may be zero
}

// A Link is a place to go.
type Link struct{ URL, Text string }

// Fail writes an error in words.
func (p *Pages) Fail(w http.ResponseWriter, r *http.Request, status int, f Frame, why Failure) {
	f.Body = why
	p.Render(w, r, status, "failure", f)
}

// Static serves the style sheet, the script and the logo, below /static/.
func (p *Pages) Static() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := p.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("ETag", `"`+f.tag+`"`)
		h.Set("Cache-Control", "public, max-age=300")
		if r.URL.Query().Get("v") == f.tag {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	})
}

func (p *Pages) readAssets() error {
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assets.ReadFile(name)
		p.add(strings.TrimPrefix(name, "assets/"), mime.TypeByExtension(path.Ext(name)), data)
		return err
	})
	if a := p.site.Accent; a != (Accent{}) {
		p.add("site.css", "text/css; charset=utf-8", fmt.Appendf(nil, ":root { --accent: light-dark(%s, %s); --on-accent: light-dark(%s, %s); }\n", a.Light, a.Dark, a.OnLight, a.OnDark))
	}
	if p.site.Logo != nil {
		p.add("logo", p.site.LogoType, p.site.Logo)
	}
	return err
}

func (p *Pages) add(name, kind string, data []byte) {
	sum := sha256.Sum256(data)
	p.files["/static/"+name] = file{data, kind, hex.EncodeToString(sum[:8])}
}

// asset is the URL of a file, which changes with its content; "" if there is
// none.
func (p *Pages) asset(name string) string {
	f, ok := p.files["/static/"+name]
	if !ok {
		return ""
	}
	return "/static/" + name + "?v=" + f.tag
}
