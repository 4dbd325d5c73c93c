package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzDelivery: whatever comes, nobody is woken without a right signature of the
// body, by HMAC with SHA-256, and nothing panics. With one, a push is a push.
func FuzzDelivery(f *testing.F) {
	const secret = "a secret of more than 16 octets"
	signature := func(body []byte) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	body := []byte(`{"ref": "refs/heads/main", "a": {"b": [1, null]}}`)
	form := []byte("payload=" + url.QueryEscape(string(body)))
	f.Add("POST", Path, typeJSON, "push", "1", signature(body), body, false)
	f.Add("POST", Path, typeForm, "push", "1", signature(form), form, true)
	f.Add("POST", Path, typeJSON, "ping", "", "sha1=00", []byte("{"), true)
	f.Add("GET", "/", "", "\x00", "\xff", "sha256=", []byte("payload=%7B%2"), true)
	f.Fuzz(func(t *testing.T, method, path, kind, event, id, signed string, body []byte, sign bool) {
		key, err := ParseSecret([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{Branch: "main", Secret: key, Wake: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		if sign {
			signed = signature(body)
		}
		req := httptest.NewRequest("POST", Path, bytes.NewReader(body))
		req.Method, req.URL.Path = method, path
		req.Header.Set("Content-Type", kind)
		req.Header.Set("X-GitHub-Event", event)
		req.Header.Set("X-GitHub-Delivery", id)
		req.Header.Set("X-Hub-Signature-256", signed)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		woken := len(s.asked) > 0
		right := signed == signature(body) || len(signed) == 71 && bytes.EqualFold([]byte(signed[7:]), []byte(signature(body)[7:])) && signed[:7] == "sha256="
		if woken && (!right || event != "push" || method != "POST" || path != Path) {
			t.Errorf("woken by %s %s, event %q, signature %q: %q", method, path, event, signed, body)
		}
		if right && method == "POST" && path == Path && kind == typeJSON && event == "push" && !woken && pushed(body, false) == "" {
			t.Errorf("not woken in doubt, by %q", body)
		}
		if w.Code == 403 && w.Body.String() != "forbidden\n" {
			t.Errorf("who may not be told is told: %s", w.Body)
		}
	})
}
