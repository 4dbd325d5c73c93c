package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// typed is a form of the laboratory's without fault.
func typed() form.Values {
	return form.Values{
		Department: "lab", ContactName: "Lab IT", ContactEmail: "it@physics.example.edu", Purpose: "Scan-to-email from a printer.", WhyNoAuth: "The firmware has no SMTP AUTH client.",
		Hosts: []form.Host{{IP: "192.0.2.7", Name: "mfp7.physics.example.edu", Kind: "printer"}}, PerHour: "20", PerDay: "200",
		Expires: time.Now().UTC().AddDate(1, 0, 0).Format(time.DateOnly), Comment: "Please hurry, @octocat. Fixes #1.",
		Accept: registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
	}
}

// press is a form with a button pressed.
func press(v form.Values, button string) url.Values {
	sent := v.Encode()
	sent.Set("do", button)
	return sent
}

func TestTheEmptyForm(t *testing.T) {
	w := newWorld(t, nil)
	w.shows(http.StatusSeeOther, "/register?ip=192.0.2.7")
	w.as(dana)
	w.shows(http.StatusOK, "/register?ip=192.0.2.7&ip=x%22%3E&ip=192.0.2.1", "<h1>Register a machine</h1>",
		`value="192.0.2.7"`, `value="x&#34;&gt;"`, `id="host-3-ip"`, `value="Dana Ito"`, `value="dana@physics.example.edu"`,
		`name="department" aria-describedby="department-hint department-problem" value="lab"`, // who holds the address
		`<option value="library">Library</option>`, "192.0.2.1 is registered already", `href="/register?from=registrations%2flab%2fprinters.cue"`,
		`type="date" min=`, "!aria-invalid", `<section id="preview" aria-labelledby="preview-heading" hidden>`)
	w.shows(http.StatusOK, "/register", `id="host-1-ip"`, `!id="host-2-ip"`, "!is registered already")
	w.shows(http.StatusOK, "/register?department=library", `value="library" list=`)
	w.shows(http.StatusOK, "/register?from=registrations/lab/printers.cue", "<h1>Change or renew a registration</h1>", `value="192.0.2.2"`, "readonly", `name="from" value="registrations/lab/printers.cue"`)
	for _, from := range []string{"registrations/lab/none.cue", "registrations/campus/campus.cue", "../../etc/passwd"} {
		w.shows(http.StatusNotFound, "/register?from="+url.QueryEscape(from), "There is no such registration")
	}
}

// What was typed comes back, whatever is pressed, and each problem is beside its
// field and in the summary.
func TestTheFormComesBack(t *testing.T) {
	w := newWorld(t, dana)
	v := typed()
	v.Hosts = append(v.Hosts, form.Host{IP: "198.51.100.4", Name: "<script>alert(2)</script>", Kind: "printer"})
	v.Expires, v.PerDay, v.Department = "soon", "a few", "the <Laboratory>"
	w.sends(http.StatusUnprocessableEntity, "/register", press(v, "send"),
		"4 things have to be mended", `href="#host-2-ip"`, `href="#host-2-name"`, `href="#per-day"`, `href="#expires"`,
		`value="lab" list=`, // by its full name
		`aria-describedby="host-2-ip-problem" aria-invalid="true" value="198.51.100.4"`, "198.51.100.4 is in 198.51.100.0/24, a pool (wireless)",
		`value="&lt;script&gt;alert(2)&lt;/script&gt;"`, `id="per-day" name="per-day" aria-describedby="per-day-problem" aria-invalid="true" value="a few"`,
		`<input id="expires" name="expires" aria-describedby="expires-hint expires-problem" aria-invalid="true" value="soon">`, // no field for dates, which would lose it
		"Please hurry, @octocat", `<title>4 things to mend`, "checked")
	v = typed()
	w.sends(http.StatusOK, "/register", press(v, "check"), "All is in order", "192.0.2.7 may send", "a confirmation for 192.0.2.7 goes to it@physics.example.edu",
		"registrations/lab/mfp7.cue", "department: &#34;lab&#34;", "You do not speak for it")
	w.sends(http.StatusOK, "/register", press(v, "add"), `id="host-2-ip" name="host-2-ip" aria-describedby="host-2-ip-problem" autofocus`, `value="192.0.2.7"`, "!aria-invalid")
	two := v.Add()
	two.Hosts[1].IP = "192.0.2.9"
	w.sends(http.StatusOK, "/register", press(two, "remove-1"), `value="192.0.2.9"`, `!value="192.0.2.7"`, `!id="host-2-ip"`)
	w.sends(http.StatusOK, "/register", press(v, "volume-0"), `value="10" inputmode`, `value="40" inputmode`)
	v.Pasted = "192.0.2.20, a.example.edu, server\nnonsense\n192.0.2.21"
	w.sends(http.StatusOK, "/register", press(v, "paste"), `value="192.0.2.7"`, `value="192.0.2.20"`, `value="a.example.edu"`, `id="host-3-ip"`, ">nonsense</textarea>", "One line is left here", "<details open>")
	for _, odd := range []string{"", "remove-0", "remove-99", "remove-x", "volume-9", "volume--1", "drop"} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/register", strings.NewReader(press(typed(), odd).Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.handler().ServeHTTP(rec, req)
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `value="192.0.2.7"`) {
			t.Errorf("%q is %d", odd, rec.Code)
		}
	}
	if list, err := w.git.List(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("%d requests were opened: %v", len(list), err)
	}
}

// A form that is fine becomes one request, with the file that was shown, however
// often it is sent.
func TestAFormBecomesARequest(t *testing.T) {
	w := newWorld(t, dana)
	counted := &countedForge{desk: w.forge}
	w.forge = counted
	v := typed()
	v.Key = newKey()
	to := w.sends(http.StatusSeeOther, "/register", press(v, "send"))
	if !regexp.MustCompile(`^/requests/[0-9]+$`).MatchString(to) {
		t.Fatalf("it leads to %q", to)
	}
	list, err := w.git.List(t.Context(), forge.Open)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d requests: %v", len(list), err)
	}
	r := list[0]
	if r.Title != "Register mfp7.physics.example.edu for lab" || strings.Contains(r.Body, "@octocat") || strings.Contains(r.Body, "#1") || !strings.Contains(r.Body, "`Dana Ito` (`dana@physics.example.edu`)") || !strings.Contains(r.Body, "does not speak") {
		t.Errorf("%q\n%s", r.Title, r.Body)
	}
	files, err := w.git.Files(t.Context(), r)
	if err != nil || len(files) != 1 || files[0].Path != "registrations/lab/mfp7.cue" || !strings.HasPrefix(string(files[0].Data), "department: \"lab\"\n") {
		t.Errorf("%v, %+v", err, files)
	}
	note, ok := w.book.Get(r.Number)
	if !ok || note.By.Email != "dana@physics.example.edu" || note.Department != "lab" || note.Speaks || len(note.IPs) != 1 || note.Contacts[0].Email != "it@physics.example.edu" {
		t.Errorf("%+v", note)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if again := w.sends(http.StatusSeeOther, "/register", press(v, "send")); again != to {
				t.Errorf("sent again, it leads to %q", again)
			}
		})
	}
	group.Wait()
	if n := counted.opened.Load(); n != 1 {
		t.Errorf("the forge was asked %d times", n)
	}
	// Who asks for the same address is told so, and takes no path of an open request.
	w.sends(http.StatusOK, "/register", press(v, "check"), "Request "+strings.TrimPrefix(to, "/requests/")+", which is open, is about this address", "registrations/lab/mfp7-2.cue")
	w.as(pat) // another person's form of the same key is another form
	other := v
	other.Hosts = []form.Host{{IP: "192.0.2.8", Name: "mfp8.physics.example.edu", Kind: "printer"}}
	if at := w.sends(http.StatusSeeOther, "/register", press(other, "send")); at == to {
		t.Error("two people's forms are one")
	}
	if list, err := w.git.List(t.Context(), forge.Open); err != nil || len(list) != 2 {
		t.Errorf("%d requests: %v", len(list), err)
	}
}

// A countedForge counts what is opened.
type countedForge struct {
	desk
	opened atomic.Int32
}

func (f *countedForge) Open(ctx context.Context, p forge.Proposal) (forge.Request, error) {
	f.opened.Add(1)
	return f.desk.Open(ctx, p)
}

// An awayForge is one that does not answer.
type awayForge struct{ desk }

func (awayForge) Open(context.Context, forge.Proposal) (forge.Request, error) {
	return forge.Request{}, errors.Join(forge.ErrUnreachable, errors.New("token=secret"))
}

// Nothing that was typed is lost where nothing can be done.
func TestTheFormSurvives(t *testing.T) {
	w := newWorld(t, dana)
	v := typed()
	v.Key = newKey()
	there := w.forge
	w.forge = awayForge{there}
	w.sends(http.StatusServiceUnavailable, "/register", press(v, "send"), "does not answer", `value="192.0.2.7"`, "Please hurry", `name="key" value="`+v.Key+`"`, "!secret")
	w.forge = there

	read := w.register
	w.register = func() *view.Register { return nil }
	w.sends(http.StatusServiceUnavailable, "/register", press(v, "send"), "has not read the register yet", `value="192.0.2.7"`)
	w.shows(http.StatusServiceUnavailable, "/register")
	w.register = read

	w.as(nil)
	w.sends(http.StatusForbidden, "/register", press(v, "send"), "You are not signed in any more", `value="192.0.2.7"`, "Please hurry", `href="/sign-in?`, "!aria-invalid", "!Library")
	w.as(dana)

	// What the guard of forms refuses is shown again if a page of ours made it.
	for name, tc := range map[string]struct {
		path  string
		head  map[string]string
		again bool
	}{
		"ours":           {"/register", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		"an older one":   {"/register", map[string]string{"Origin": "http://example.com"}, true},
		"another site's": {"/register", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://example.com"}, false},
		"a sister's":     {"/register", map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		"nobody says":    {"/register", nil, false},
		"another's":      {"/register", map[string]string{"Origin": "http://evil.example"}, false},
		"another page's": {"/sign-out", map[string]string{"Sec-Fetch-Site": "same-origin"}, false},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tc.path, strings.NewReader(press(v, "send").Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, value := range tc.head {
			req.Header.Set(k, value)
		}
		if err := req.ParseForm(); err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		signInPages{w.pages, w.formAgain}.Refuse(rec, req, http.StatusForbidden, session.Refusal{Heading: "This form is too old"})
		if got := strings.Contains(rec.Body.String(), "Please hurry"); got != tc.again || rec.Code != http.StatusForbidden {
			t.Errorf("%s: shown again: %v, %d", name, got, rec.Code)
		}
	}
	if list, err := w.git.List(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("%d requests were opened: %v", len(list), err)
	}
}

// A renewal changes the file that is there.
func TestARenewal(t *testing.T) {
	w := newWorld(t, dana)
	page := w.shows(http.StatusOK, "/register?from=registrations/lab/old.cue")
	sum := regexp.MustCompile(`name="sum" value="([0-9a-f]{64})"`).FindStringSubmatch(page)
	if sum == nil {
		t.Fatal(page)
	}
	v := form.Of(w.register().Base.File("registrations/lab/old.cue"), time.Now())
	v.Accept = typed().Accept
	w.sends(http.StatusSeeOther, "/register", press(v, "send"))
	list, err := w.git.List(t.Context(), forge.Open)
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Title, "Renew m0.example.edu of lab until ") {
		t.Fatalf("%v %+v", err, list)
	}
	v.Sum = strings.Repeat("0", 64)
	w.sends(http.StatusUnprocessableEntity, "/register", press(v, "send"), "This registration has been changed since you opened the form")
}

// What the script asks is answered as the page would be, and to those who are
// signed in alone.
func TestTheScriptsQuestions(t *testing.T) {
	w := newWorld(t, dana)
	ask := func(v form.Values) (int, map[string]any) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/register/check", strings.NewReader(v.Encode().Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.handler().ServeHTTP(rec, req)
		var answer map[string]any
		if rec.Code == http.StatusOK && json.Unmarshal(rec.Body.Bytes(), &answer) != nil {
			t.Fatalf("%s", rec.Body)
		}
		return rec.Code, answer
	}
	code, answer := ask(typed())
	if code != http.StatusOK || answer["fine"] != true || answer["path"] != "registrations/lab/mfp7.cue" || len(answer["plan"].([]any)) != 2 {
		t.Errorf("%d %v", code, answer)
	}
	v := typed()
	v.Hosts[0].IP = "192.0.2.200"
	code, answer = ask(v)
	if text := fmt.Sprint(answer["findings"]); code != http.StatusOK || answer["fine"] != false || !strings.Contains(text, "field:host-1-ip") || !strings.Contains(text, "which library holds") {
		t.Errorf("%d %v", code, answer)
	}
	w.as(nil)
	if code, _ := ask(v); code != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", code)
	}
}

// The page's parts go together: each field has a label, and what it refers to is
// there, once.
func TestTheFormIsAccessible(t *testing.T) {
	w := newWorld(t, dana)
	v := typed()
	v.Hosts = append(v.Hosts, form.Host{IP: "x", TLS: "y"}, form.Host{})
	v.Accept = registration.Accept{}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/register", strings.NewReader(press(v, "check").Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.handler().ServeHTTP(rec, req)
	body := rec.Body.String()
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		ids[m[1]]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("id %q is there %d times", id, n)
		}
	}
	for _, m := range regexp.MustCompile(`(?:for|href|list|aria-labelledby|aria-describedby)="#?([a-z0-9 -]+)"`).FindAllStringSubmatch(body, -1) {
		for id := range strings.FieldsSeq(m[1]) {
			if ids[id] == 0 {
				t.Errorf("%q refers to %q", m[0], id)
			}
		}
	}
	for _, m := range regexp.MustCompile(`<(?:input|select|textarea) [^>]*>`).FindAllString(body, -1) {
		id := regexp.MustCompile(` id="([^"]*)"`).FindStringSubmatch(m)
		if hidden := strings.Contains(m, `type="hidden"`); !hidden && (id == nil || !strings.Contains(body, `<label for="`+id[1]+`">`)) {
			t.Errorf("no label: %s", m)
		}
	}
	if n := strings.Count(body, " autofocus"); n != 1 {
		t.Errorf("%d places want the focus", n)
	}
	for _, bad := range []string{" style=", " onclick=", "<script>"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// Somebody who speaks for a department by their address is told so, and so are
// those who review the request.
func TestASpeakersForm(t *testing.T) {
	d := &registration.Department{ID: "lab", Speakers: []registration.Speaker{{Email: "Dana@Physics.example.edu"}}}
	if !speaks(*dana, d) || speaks(*pat, d) || speaks(session.Person{}, d) {
		t.Error("who speaks by mail address is not known")
	}
	if github := (&registration.Department{Speakers: []registration.Speaker{{GitHub: "dana@physics.example.edu"}}}); speaks(*dana, github) {
		t.Error("a login of the forge is taken for an address")
	}
}

// A name that git could not write down keeps nobody from asking.
func TestNamesOfVisitors(t *testing.T) {
	for _, who := range []*session.Person{
		{ID: "x", Name: "Eve <root@example.edu>\n\x00", Email: "eve@example.edu"},
		{ID: "y", Name: "<>", Email: ""}, {Name: " ", Email: "\n"},
	} {
		p := person(*who)
		if p.Name == "" || p.Email == "" || strings.ContainsAny(p.Name+p.Email, "<>\n\x00") {
			t.Errorf("%q", p)
		}
	}
	w := newWorld(t, &session.Person{ID: "x", Name: "Eve <root@example.edu>\n", Email: "eve@example.edu"})
	v := typed()
	v.Key = newKey()
	w.sends(http.StatusSeeOther, "/register", press(v, "send"))
	list, err := w.git.List(t.Context(), forge.Open)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d requests: %v", len(list), err)
	}
	// The very same of somebody else does not take it from her.
	w.as(pat)
	_, _ = w.propose(t.Context(), *pat, w.register(), change{Request: form.Request{Name: "lab-mfp7", Title: list[0].Title, Body: list[0].Body, Edits: []review.Edit{{Path: "registrations/lab/mfp7.cue", Data: fileOf(t, w, list[0])}}}, Department: "lab"})
	if note, ok := w.book.Get(list[0].Number); !ok || note.By.ID != "x" {
		t.Errorf("%+v", note)
	}
}

func fileOf(t *testing.T, w *world, r forge.Request) []byte {
	t.Helper()
	files, err := w.git.Files(t.Context(), r)
	if err != nil || len(files) != 1 {
		t.Fatal(err, files)
	}
	return files[0].Data
}
