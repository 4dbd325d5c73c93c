package session

import (
	"crypto/subtle"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/securecookie"
)

// TokenField is the name of the hidden field, and TokenHeader of the header by
// which a script sends the same.
const (
	TokenField  = "token"
	TokenHeader = "X-Gatepost-Token"
)

// How long a browser is known, and a form may lie open. Longer than a sign-in,
// so that who signs in again in another tab can still send what they typed.
const (
	visitorLife = 30 * 24 * time.Hour
	tokenLife   = 48 * time.Hour
)

// maxFields is how much of a form with files is held in memory, in octets; the
// body as a whole is bounded before.
const maxFields = 1 << 20

// A visitor is a browser, whoever uses it.
type visitor struct {
	Key string `json:"k"`
}

// A token belongs to one browser and one person, or nobody.
type token struct {
	Key    string `json:"k"`
	Person string `json:"p,omitempty"`
	At     int64  `json:"a"` // Unix time
}

// Token is the value of the hidden field "token" of a form on the page that
// answers r. It differs each time, so that nothing can be learnt of it from the
// length of a compressed page. It may set a cookie, so call it before the first
// octet of the body.
func (s *Sessions) Token(w http.ResponseWriter, r *http.Request) string {
	var v visitor
	if !s.readCookie(r, visitorCookie, &v) || v.Key == "" {
		v.Key = random(16)
		if err := s.setCookie(w, visitorCookie, v, visitorLife); err != nil {
			s.fail(r.Context(), "a cookie cannot be made", err)
			return ""
		}
		// A second form of the same page finds it.
		if text, err := s.codecs[0].Encode(s.cookieName(visitorCookie), v); err == nil {
			r.AddCookie(&http.Cookie{Name: s.cookieName(visitorCookie), Value: text})
		}
	}
	who, _ := s.Who(r)
	text, err := s.codecs[0].Encode(TokenField, token{Key: v.Key, Person: who.ID, At: s.now().Unix()})
	if err != nil {
		s.fail(r.Context(), "a token cannot be made", err)
		return ""
	}
	return text
}

// Guard lets a request through that changes something only if a page of this
// portal made it: by what the browser says of its origin, and by the token of
// its form. It removes headers by which a visitor could pass for somebody else.
// The body must be bounded before.
func (s *Sessions) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.way.strip(r)
		if r.Method == http.MethodGet || r.Method == http.MethodHead || slices.Contains(s.open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if err := s.origins.Check(r); err != nil {
			s.refuse(w, r, "origin", Refusal{
				Heading: "This form did not come from here",
				Text:    "Your browser says that another site sent it. Nothing was done.",
				Next:    []string{"Open the page here and fill it in here."},
				Link:    "/", Label: "To the first page",
			})
			return
		}
		if why := s.judge(r); why != "" {
			s.refuse(w, r, why, Refusal{
				Heading: "This form is too old, or from somebody else’s sign-in",
				Text:    "Nothing was done, and what you typed is still in your browser.",
				Next: []string{
					"Sign in again in another tab, as the same person. Then reload this page, and let your browser send the form once more.",
					"If that does not help, go back and load the form anew. Does your browser take cookies from this site?",
				},
				Link: "/", Label: "To the first page",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// judge says in a word what is wrong with a request's token; "" if nothing is.
func (s *Sessions) judge(r *http.Request) string {
	text := r.Header.Get(TokenHeader)
	if text == "" {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch kind {
		case "multipart/form-data":
			_ = r.ParseMultipartForm(maxFields) // what is missing is missing
		default:
			_ = r.ParseForm()
		}
		text = r.PostForm.Get(TokenField)
	}
	var t token
	var v visitor
	if text == "" || len(text) > maxCookie || securecookie.DecodeMulti(TokenField, text, &t, s.codecs...) != nil {
		return "token"
	}
	if !s.readCookie(r, visitorCookie, &v) || v.Key == "" || subtle.ConstantTimeCompare([]byte(v.Key), []byte(t.Key)) != 1 {
		return "browser"
	}
	if age := s.now().Sub(time.Unix(t.At, 0)); age > tokenLife || age < -time.Minute {
		return "age"
	}
	if who, _ := s.Who(r); who.ID != t.Person {
		return "person"
	}
	return ""
}

func (s *Sessions) refuse(w http.ResponseWriter, r *http.Request, why string, words Refusal) {
	s.log.Warn("a form was refused", "event", "session.forged", "reason", why, "path", clip(r.URL.Path, 200))
	w.Header().Set("Cache-Control", "no-store")
	s.pages.Refuse(w, r, http.StatusForbidden, words)
}
