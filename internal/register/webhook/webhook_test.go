package webhook_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/register/webhook"
)

// TestWhatWakes: a push to the branch does, and what may be one.
func TestWhatWakes(t *testing.T) {
	long := func(size int) string { return strings.Repeat("x", size) }
	for name, test := range map[string]struct {
		event, body string
		result      string
	}{
		"the branch":              {"push", push("main", 1), "woke"},
		"the branch is deleted":   {"push", `{"ref":"refs/heads/main","after":"0000000000000000000000000000000000000000","deleted":true}`, "woke"},
		"another branch":          {"push", push("mainline", 1), "ignored"},
		"a branch below it":       {"push", push("main/x", 1), "ignored"},
		"a tag of its name":       {"push", `{"ref": "refs/tags/main"}`, "ignored"},
		"the name comes later":    {"push", `{"a": {"ref": "refs/heads/other", "b": [1, {"c": null}]}, "d": [[]], "ref": "refs/heads/main"}`, "woke"},
		"another name, later":     {"push", `{"a": {"ref": "refs/heads/main"}, "b": 1.5e3, "ref": "refs/heads/other"}`, "ignored"},
		"the name comes too late": {"push", `{"a": "` + long(70_000) + `", "ref": "refs/heads/other"}`, "woke"},
		"much behind the name":    {"push", `{"ref": "refs/heads/other", "a": "` + long(1<<20) + `"}`, "ignored"},
		"no name":                 {"push", `{}`, "woke"},
		"a number for a name":     {"push", `{"ref": 7}`, "woke"},
		"a list":                  {"push", `["ref", "refs/heads/other"]`, "woke"},
		"nothing":                 {"push", ``, "woke"},
		"no JSON":                 {"push", "\x00\xff{{{", "woke"},
		"deep":                    {"push", `{"a": ` + strings.Repeat("[", 60_000), "woke"},
		"broken off":              {"push", `{"a": {"b": "c`, "woke"},
		"a hello":                 {"ping", `{"zen": "Keep it logically awesome."}`, "ping"},
		"a merge":                 {"pull_request", `{"action": "closed", "pull_request": {"merged": true}}`, "ignored"},
		"an event without a name": {"", push("main", 1), "ignored"},
		"a strange event":         {"push\x1b[31m", push("main", 1), "ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			code, text := d.take(delivery(test.event, test.body))
			if d.count(test.result) != 1 {
				t.Errorf("%d %s", code, text)
			}
			want := http.StatusAccepted
			if test.result == "ping" {
				want = http.StatusOK
			}
			if code != want {
				t.Errorf("answered %d", code)
			}
			// As a form it means the same.
			body := "payload=" + url.QueryEscape(test.body) + "&x=y"
			req := delivery(test.event, body)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			if code, text := d.take(req); d.count(test.result) != 2 {
				t.Errorf("as a form: %d %s", code, text)
			}
		})
	}
}

// TestWithoutARightSignature: 403 and no word more, whatever else is right.
func TestWithoutARightSignature(t *testing.T) {
	body := push("main", 1)
	right := sign(sha256.New, secret, []byte(body))
	set := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["X-Hub-Signature-256"] = values }
	}
	for name, test := range map[string]struct {
		spoil  func(*http.Request)
		result string
	}{
		"none, not even SHA-1":  {func(r *http.Request) { r.Header.Del("X-Hub-Signature"); set()(r) }, "unsigned"},
		"SHA-1 alone":           {set(), "unsigned"},
		"SHA-1 in its place":    {set("sha1=" + sign(sha1.New, secret, []byte(body))), "unsigned"},
		"SHA-1 by its name":     {set("sha256=" + sign(sha1.New, secret, []byte(body))), "unsigned"},
		"without its algorithm": {set(right), "unsigned"},
		"another algorithm":     {set("sha512=" + right), "unsigned"},
		"empty":                 {set(""), "unsigned"},
		"empty digits":          {set("sha256="), "unsigned"},
		"a digit short":         {set("sha256=" + right[1:]), "unsigned"},
		"a digit long":          {set("sha256=0" + right), "unsigned"},
		"no digits":             {set("sha256=" + strings.Repeat("z", 64)), "unsigned"},
		"two":                   {set("sha256="+right, "sha256="+right), "unsigned"},
		"a list":                {set("sha256=" + right + ", sha256=" + right), "unsigned"},
		"of another body":       {set("sha256=" + sign(sha256.New, secret, []byte(body+" "))), "mismatched"},
		"by another secret":     {set("sha256=" + sign(sha256.New, secret+"!", []byte(body))), "mismatched"},
		"by the empty secret":   {set("sha256=" + sign(sha256.New, "", []byte(body))), "mismatched"},
		"by the file's content": {set("sha256=" + sign(sha256.New, secret+"\n", []byte(body))), "mismatched"},
		"one bit off":           {set("sha256=" + flip(right)), "mismatched"},
		"zeros":                 {set("sha256=" + strings.Repeat("0", 64)), "mismatched"},
		"the body has more":     {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body + "\n")) }, "mismatched"},
		"the body has less":     {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body[:20])) }, "mismatched"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			req := delivery("push", body)
			test.spoil(req)
			if code, text := d.take(req); code != http.StatusForbidden || text != "forbidden\n" || d.count(test.result) != 1 {
				t.Errorf("%d %q, %d %s", code, text, d.count(test.result), test.result)
			}
			if c := d.s.Counts(); (c.Refused == 1) != (test.result == "mismatched") || c.Verified != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
	t.Run("upper case is the same number", func(t *testing.T) {
		d := newDesk(t)
		req := delivery("push", body)
		set("sha256=" + strings.ToUpper(right))(req)
		if code, text := d.take(req); d.count("woke") != 1 {
			t.Errorf("%d %q", code, text)
		}
	})
}

func flip(digits string) string {
	if digits[63] == '0' {
		return digits[:63] + "1"
	}
	return digits[:63] + "0"
}

// TestWhatIsNoDelivery is refused before anything of it is read.
func TestWhatIsNoDelivery(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"GET":             {func(r *http.Request) { r.Method = http.MethodGet }, 405},
		"PUT":             {func(r *http.Request) { r.Method = http.MethodPut }, 405},
		"the root":        {func(r *http.Request) { r.URL.Path = "/" }, 404},
		"a longer path":   {func(r *http.Request) { r.URL.Path = webhook.Path + "/" }, 404},
		"the status page": {func(r *http.Request) { r.URL.Path = "/metrics" }, 404},
		"no type":         {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"XML":             {func(r *http.Request) { r.Header.Set("Content-Type", "text/xml") }, 415},
		"a broken type":   {func(r *http.Request) { r.Header.Set("Content-Type", "application/json; ;") }, 415},
		"says it is huge": {func(r *http.Request) { r.ContentLength = 25<<20 + 1 }, 413},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			req := delivery("push", push("main", 1))
			test.change(req)
			req.Body = io.NopCloser(unread{t})
			if code, text := d.take(req); code != test.code || d.count("malformed") != 1 {
				t.Errorf("%d %q", code, text)
			}
		})
	}
	t.Run("no signature", func(t *testing.T) {
		d := newDesk(t)
		req := delivery("push", "")
		req.Header.Del("X-Hub-Signature-256")
		req.Body = io.NopCloser(unread{t})
		if code, _ := d.take(req); code != 403 {
			t.Errorf("%d", code)
		}
	})
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestASecret is long enough, or none.
func TestASecret(t *testing.T) {
	for text, fine := range map[string]bool{
		secret: true, strings.Repeat("x", 16): true, " \t" + strings.Repeat("x", 16) + "\r\n": true,
		"": false, "\n": false, " \t\r\n": false, strings.Repeat("x", 15): false, strings.Repeat("x", 15) + strings.Repeat("\n", 20): false,
	} {
		s, err := webhook.ParseSecret([]byte(text))
		if (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
		if shown := fmt.Sprintf("%v %s %+v", s, s, err); strings.Contains(shown, "xx") {
			t.Errorf("%q is shown: %s", text, shown)
		}
	}
	for name, o := range map[string]webhook.Options{
		"no secret": {Branch: "main", Wake: func() {}},
		"no branch": {Wake: func() {}, Secret: must(webhook.ParseSecret([]byte(secret)))},
		"no wake":   {Branch: "main", Secret: must(webhook.ParseSecret([]byte(secret)))},
	} {
		if _, err := webhook.New(o); err == nil {
			t.Errorf("New with %s succeeds", name)
		}
	}
	// A secret that is lost later verifies nothing, not even the empty one.
	d := newDesk(t)
	d.s.SetSecret(webhook.Secret{})
	req := delivery("push", push("main", 1))
	req.Header.Set("X-Hub-Signature-256", "sha256="+sign(sha256.New, "", []byte(push("main", 1))))
	if code, _ := d.take(req); code != 403 {
		t.Errorf("no secret: %d", code)
	}
	d.s.SetSecret(must(webhook.ParseSecret([]byte("another secret, also long enough"))))
	if code, _ := d.take(delivery("push", push("main", 1))); code != 403 || d.count("mismatched") != 1 {
		t.Errorf("signed by the secret before: %d", code)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestARepeatIsNoNews: neither under its own id nor under another.
func TestARepeatIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		first := delivery("push", push("main", 1))
		again := func(id string) *http.Request {
			req := delivery("push", push("main", 1))
			req.Header.Set("X-GitHub-Delivery", id)
			return req
		}
		id := first.Header.Get("X-GitHub-Delivery")
		d.take(first)
		d.take(again(id))
		d.take(again("another"))
		d.take(again(""))
		other := again(id) // an id that was used, for another body
		other.Body = io.NopCloser(strings.NewReader(push("main", 2)))
		other.Header.Set("X-Hub-Signature-256", "sha256="+sign(sha256.New, secret, []byte(push("main", 2))))
		d.take(other)
		if d.count("woke") != 1 || d.count("repeated") != 4 {
			t.Errorf("woke %d times, repeated %d", d.count("woke"), d.count("repeated"))
		}
		// Who asks the forge for it again, later, means it.
		<-time.After(10 * time.Minute)
		d.take(again(id))
		if d.count("woke") != 2 {
			t.Errorf("woke %d times", d.count("woke"))
		}
		// The memory has an end.
		for i := range 5000 {
			d.take(delivery("push", push("other", i)))
		}
		d.take(again(id))
		if d.count("woke") != 3 || d.count("ignored") != 5000 {
			t.Errorf("woke %d times, ignored %d", d.count("woke"), d.count("ignored"))
		}
	})
}

// A quiet listener hands out no connection.
type quiet struct {
	closed chan struct{}
	once   sync.Once
}

func (q *quiet) Accept() (net.Conn, error) { <-q.closed; return nil, net.ErrClosed }
func (q *quiet) Close() error              { q.once.Do(func() { close(q.closed) }); return nil }
func (q *quiet) Addr() net.Addr            { return &net.TCPAddr{} }

// TestABurstComesToFewPolls: a few at once, then one at a time, and the last
// delivery is not lost.
func TestABurstComesToFewPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.serve(&quiet{closed: make(chan struct{})})
		synctest.Wait()
		began := time.Now()
		d.take(delivery("push", push("main", 1)))
		synctest.Wait()
		if n := d.wakes.Load(); n != 1 || time.Since(began) > 0 {
			t.Fatalf("%d wake-ups after %v", n, time.Since(began))
		}
		for i := range 600 { // a minute of ten a second
			d.take(delivery("push", push("main", i+2)))
			<-time.After(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := d.wakes.Load(); n < 12 || n > 15 {
			t.Errorf("%d wake-ups in a minute", n)
		}
		before := d.wakes.Load()
		<-time.After(time.Minute)
		if n := d.wakes.Load() - before; n != 1 {
			t.Errorf("%d wake-ups for what came last", n)
		}
		before = d.wakes.Load()
		for range 1000 {
			req := delivery("push", push("main", 1))
			req.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
			d.take(req)
		}
		d.take(delivery("push", push("main", 5000)))
		synctest.Wait()
		if n := d.wakes.Load() - before; n != 1 || d.count("mismatched") != 1000 {
			t.Errorf("%d wake-ups among a thousand refusals", n)
		}
	})
}

// TestTheLogSaysLittle: nothing of a delivery but its id and name, cleaned;
// and a stranger gets a line a minute.
func TestTheLogSaysLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		req := delivery("push", push("main", 1))
		req.Header.Set("X-GitHub-Delivery", "\x1b[2J\r\nfake=1 "+strings.Repeat("n", 500))
		d.take(req)
		d.take(delivery("issues\x00"+strings.Repeat("e", 500), `{"title": "b0dy"}`))
		d.take(delivery("ping", `{"zen": "b0dy"}`))
		lines := d.log.String()
		for _, bad := range []string{"\x1b", "\r", "b0dy", strings.Repeat("n", 60), strings.Repeat("e", 40), secret, "refs/heads"} {
			if strings.Contains(lines, bad) {
				t.Errorf("the log holds %q:\n%s", bad, lines)
			}
		}
		if strings.Count(lines, "\n") != 3 || !strings.Contains(lines, "event=webhook.woke") || !strings.Contains(lines, "event=webhook.ping") {
			t.Errorf("the log:\n%s", lines)
		}
		for range 100 {
			req := delivery("push", push("main", 1))
			req.RemoteAddr = "[::ffff:192.0.2.7]:4711"
			req.Header.Del("X-Hub-Signature-256")
			d.take(req)
			<-time.After(3 * time.Second)
		}
		refused := strings.Count(d.log.String(), "event=webhook.refused")
		if refused != 5 || !strings.Contains(d.log.String(), "count=20 client=192.0.2.7") {
			t.Errorf("%d lines on refusals:\n%s", refused, d.log.String())
		}
	})
}

// TestCounts are what status judges by.
func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		bad := func() {
			req := delivery("push", push("main", 1))
			req.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
			d.take(req)
		}
		if c := d.s.Counts(); c != (webhook.Counts{}) {
			t.Errorf("%+v", c)
		}
		bad()
		<-time.After(time.Minute)
		bad()
		at := time.Now()
		if c := d.s.Counts(); c != (webhook.Counts{RefusedAt: at, Refused: 2}) {
			t.Errorf("%+v", c)
		}
		<-time.After(time.Minute)
		d.take(delivery("ping", "{}"))
		if c := d.s.Counts(); c != (webhook.Counts{RefusedAt: at, VerifiedAt: time.Now(), Verified: 1}) {
			t.Errorf("%+v", c)
		}
	})
}

func TestMetrics(t *testing.T) {
	d := newDesk(t)
	if problems, err := testutil.GatherAndLint(d.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if _, err := webhook.New(webhook.Options{Branch: "main", Wake: func() {}, Secret: must(webhook.ParseSecret([]byte(secret))), Registerer: d.registry}); err == nil {
		t.Error("the same metrics were registered twice")
	}
}
