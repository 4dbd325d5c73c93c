package portal

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/status"
)

const evil = `<script>alert("x")</script>`

// A relaySaid is a relay that says what a test wants.
type relaySaid struct {
	mu     sync.Mutex
	report status.Report
	err    error // of reports
	no     error // of orders
	told   []string
}

func (r *relaySaid) Report(context.Context) (*status.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	report := r.report
	return &report, nil
}

func (r *relaySaid) Mails(context.Context) ([]status.LastMail, error) {
	return nil, errors.New("not asked for here")
}

func (r *relaySaid) Address(context.Context, netip.Addr) (*status.Address, error) {
	return nil, errors.New("not asked here")
}

func (r *relaySaid) Order(_ context.Context, path string, _, _ any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, path)
	return r.no
}

func (*relaySaid) Close() {}

func (r *relaySaid) change(f func(*relaySaid)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// busy is a report with something of everything, and text of strangers in it.
func busy(now time.Time) status.Report {
	ip := netip.MustParseAddr("192.0.2.66")
	return status.Report{
		Host: "relay.example.edu", Version: "v1", Started: now.Add(-time.Hour), At: now, Ready: true,
		Findings: []status.Finding{{Level: status.Wrong, What: "the disk " + evil, Do: "make room"}},
		Register: status.Register{Commit: strings.Repeat("c", 40), AgeSeconds: 3, Addresses: 7, Live: 6, AcceptedAt: now},
		Queue: status.Queue{Entries: 12, Depth: map[string]int{"held": 2}, Destinations: []status.Destination{
			{Name: "mx.example.org:25", Entries: 9, Deferrals: 11, Said: "451 " + evil}, {Name: "well.example.org:25", Entries: 1}}},
		Senders:     status.Senders{Count: 1, Top: []status.Sender{{Registration: "registrations/lab/mfp.cue", Department: "lab", Mail: status.Mail{Day: 5, Last: now}}}},
		Strangers:   status.Strangers{Count: 30, Newest: []status.Stranger{{IP: ip, First: now, Last: now, Count: 4, Said: "550 " + evil}}},
		Drift:       []status.Drift{{Prefix: "192.0.2.9", Reason: "spam " + evil, Since: now}},
		Brake:       []status.Braked{{Registration: "registrations/lab/web.cue", Step: status.BrakeHold, Since: now, Why: []string{"too much " + evil}}},
		Certificate: &status.Certificate{NotAfter: now.AddDate(0, 1, 0)},
	}
}

// statusServer is a portal with relays a, b, …, which have been asked once.
func statusServer(t *testing.T, who *session.Person, relays ...*relaySaid) *server {
	t.Helper()
	s := testServer(t, who)
	var sources []fleet.Source
	for i := range relays {
		sources = append(sources, fleet.Source{Name: string(rune('a' + i)), OperatorTokenFile: "/t"})
	}
	f, err := fleet.New(fleet.Options{Sources: sources, Every: 10 * time.Millisecond, Dial: func(s fleet.Source) (fleet.Client, error) { return relays[s.Name[0]-'a'], nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for {
		news := f.Watch()
		if !slices.ContainsFunc(f.Relays(), func(r fleet.Relay) bool { return r.Asked.IsZero() }) {
			break
		}
		<-news
	}
	s.fleet = f
	return s
}

// post sends a form.
func post(t *testing.T, s *server, path string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.handler().ServeHTTP(w, r)
	return w
}

// has holds a page to words that it must and, behind a "!", must not have.
func has(t *testing.T, body string, words ...string) {
	t.Helper()
	for _, word := range words {
		word, not := strings.CutPrefix(word, "!")
		if strings.Contains(body, word) == not {
			t.Errorf("%q: there %v, wanted %v", word, !not, not)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestStatusForPostmasters(t *testing.T) {
	now := time.Now()
	a, b := &relaySaid{report: busy(now)}, &relaySaid{err: errors.New("connection refused")}
	s := statusServer(t, pat, a, b)
	code, body := get(t, s, "/status")
	if code != http.StatusOK {
		t.Fatal(code)
	}
	has(t, body, "1 of 2 relays takes mail (b: no answer). 1 thing needs a look.", "relay.example.edu, gatepost v1", "connection refused", "6 live",
		"make room", "mx.example.org:25", "put off 11 attempts in a row", "!well.example.org", "192.0.2.66", "/register?ip=192.0.2.66", "30 addresses",
		"registrations/lab/mfp.cue", "192.0.2.9", "not on b", "drift", "/status/unblock?prefix=192.0.2.9", "registrations/lab/web.cue",
		"/status/release?registration=registrations%2Flab%2Fweb.cue&amp;relay=a", `<svg class="chart"`, "&lt;script&gt;", "!<script>alert", "! style=", "! onclick=")
}

// What a page cannot show is counted.
func TestAStormOfBlocks(t *testing.T) {
	report := busy(time.Now())
	for i := range 300 {
		report.Drift = append(report.Drift, status.Drift{Prefix: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), Reason: "worm"})
		report.Brake = append(report.Brake, report.Brake[0])
	}
	p := statusOf([]fleet.Relay{{Name: "a", Report: &report}}, nil, true, time.Now())
	if len(p.Blocks) != rowsMost || p.BlocksMore != 301-rowsMost || len(p.Brakes) != rowsMost || p.BrakesMore != 301-rowsMost {
		t.Errorf("%d blocks and %d more, %d brakes and %d more", len(p.Blocks), p.BlocksMore, len(p.Brakes), p.BrakesMore)
	}
	s := statusServer(t, pat, &relaySaid{report: report})
	_, body := get(t, s, "/status")
	has(t, body, "And 251 more: <code>gatepost block</code>", "And 251 more: <code>gatepost brake list</code>")
}

// Whoever is no postmaster sees that the relays are up, and nobody's address.
func TestStatusForOthers(t *testing.T) {
	a := &relaySaid{report: busy(time.Now())}
	s := statusServer(t, dana, a)
	_, body := get(t, s, "/status")
	has(t, body, "The relay takes mail", "cccccccccccc", "!192.0.2", "!make room", "!mx.example.org", "!registrations/", "!Block an address", "!connection", "!<svg")
	for _, path := range []string{"/status/block", "/status/orders/x"} {
		if code, _ := get(t, s, path); code != http.StatusForbidden {
			t.Errorf("%s is %d", path, code)
		}
	}
	if w := post(t, s, "/status/block", url.Values{"prefix": {"192.0.2.1"}, "reason": {"x"}, "for": {""}, "confirm": {"yes"}}); w.Code != http.StatusForbidden || len(a.told) > 0 {
		t.Errorf("%d %v", w.Code, a.told)
	}
	none := statusServer(t, nil, a)
	if code, body := get(t, none, "/status"); code != http.StatusSeeOther || strings.Contains(body, "relay") {
		t.Errorf("an anonymous visitor gets %d %s", code, body)
	}
	if code, body := get(t, none, "/status/events"); code != http.StatusNoContent || body != "" {
		t.Errorf("an anonymous visitor's stream is %d %s", code, body)
	}
	none.fleet, none.sessions = nil, fixed{pat}
	if code, body := get(t, none, "/status"); code != http.StatusOK || !strings.Contains(body, "told of no relays") {
		t.Errorf("a portal without relays: %d", code)
	}
}

func TestOrdersOfPostmasters(t *testing.T) {
	a, b := &relaySaid{report: busy(time.Now())}, &relaySaid{report: busy(time.Now()), no: fleet.ErrUnknown}
	s := statusServer(t, pat, a, b)
	_, body := get(t, s, "/status/block?prefix=192.0.2.66&relay=b&confirm=yes&wide=yes")
	has(t, body, `value="192.0.2.66"`, `<option value="b" selected>`, `value="a token"`, "! checked")
	if code, _ := get(t, s, "/status/nothing"); code != http.StatusNotFound {
		t.Errorf("an unknown verb is %d", code)
	}

	for name, form := range map[string]url.Values{
		"reason is missing":  {"prefix": {"192.0.2.66"}, "for": {"1h"}, "confirm": {"yes"}},
		"no address":         {"prefix": {`"><b>x`}, "reason": {"spam"}, "for": {"1h"}, "confirm": {"yes"}},
		"bits":               {"prefix": {"192.0.2.66/24"}, "reason": {"spam"}, "for": {"1h"}, "confirm": {"yes"}},
		"not confirmed":      {"prefix": {"192.0.2.66"}, "reason": {"spam"}, "for": {"1h"}},
		"another length":     {"prefix": {"192.0.2.66"}, "reason": {"spam"}, "for": {"999h"}, "confirm": {"yes"}},
		"another relay":      {"prefix": {"192.0.2.66"}, "reason": {"spam"}, "for": {"1h"}, "confirm": {"yes"}, "relay": {"c"}},
		"a line in a reason": {"prefix": {"192.0.2.66"}, "reason": {"a\nb"}, "for": {"1h"}, "confirm": {"yes"}},
		"nothing":            {},
	} {
		w := post(t, s, "/status/block", form)
		if w.Code != http.StatusUnprocessableEntity || len(a.told) > 0 {
			t.Fatalf("%s: %d %v", name, w.Code, a.told)
		}
		has(t, w.Body.String(), "There is a problem", `aria-invalid="true"`, "!<b>x")
		if typed := form.Get("reason"); typed == "spam" && !strings.Contains(w.Body.String(), `value="spam"`) {
			t.Errorf("%s: what was typed is lost", name)
		}
	}

	w := post(t, s, "/status/block", url.Values{"prefix": {" 192.0.2.66 "}, "reason": {evil}, "for": {""}, "confirm": {"yes"}})
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/status/orders/") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	_, body = get(t, s, w.Header().Get("Location"))
	has(t, body, "192.0.2.66 blocked", "Done on 1 of 2 relays; of 1 it is not known.", "pat@example.edu", "not known", "nobody knows whether", "Once more on b", "relay=b", "!Once more on a", "!<script>alert")
	if !slices.Equal(a.told, []string{"blocks"}) || !slices.Equal(b.told, []string{"blocks"}) {
		t.Errorf("told %v and %v", a.told, b.told)
	}
	b.change(func(r *relaySaid) { r.no = &fleet.Refusal{Text: "it is not braked", Hint: "look"} })
	w = post(t, s, "/status/release", url.Values{"registration": {"registrations/lab/web.cue"}, "reason": {"mended"}, "for": {"24h"}, "confirm": {"yes"}, "relay": {"b"}})
	_, body = get(t, s, w.Header().Get("Location"))
	has(t, body, "Done on 0 of 1 relay.", "refused", "it is not braked", "look")
	w = post(t, s, "/status/unblock", url.Values{"prefix": {"192.0.2.66"}, "reason": {"mended"}, "confirm": {"yes"}, "relay": {"a"}})
	_, body = get(t, s, w.Header().Get("Location"))
	has(t, body, "Done on 1 relay.", "Block of 192.0.2.66 ended")
	if !slices.Equal(a.told, []string{"blocks", "blocks/end"}) || !slices.Equal(b.told, []string{"blocks", "brake/release"}) {
		t.Errorf("told %v and %v", a.told, b.told)
	}
	_, body = get(t, s, "/status")
	has(t, body, "What postmasters did here of late", "Block of 192.0.2.66 ended")
	for range 2 * ordersMost {
		s.orders.add(relayOrder{ID: "x"})
	}
	if n := len(s.orders.all); n != ordersMost {
		t.Errorf("%d orders are remembered", n)
	}
}

// FuzzOrders: whatever is typed, it is an order or a problem beside its field.
func FuzzOrders(f *testing.F) {
	f.Add("block", "192.0.2.1", "spam", "1h", "", "yes", "yes")
	f.Add("release", "registrations/x.cue", evil, "24h", "b", "yes", "")
	f.Add("unblock", "\x00", "\xff\xfe", "\r\n", "\u202e", "", "no")
	f.Fuzz(func(t *testing.T, verb, about, reason, length, relay, confirm, wide string) {
		verb = []string{"block", "unblock", "release"}[len(verb)%3]
		a := &relaySaid{report: busy(time.Now())}
		s := testServer(t, pat)
		var err error
		s.fleet, err = fleet.New(fleet.Options{Sources: []fleet.Source{{Name: "a", OperatorTokenFile: "/t"}}, Dial: func(fleet.Source) (fleet.Client, error) { return a, nil }})
		if err != nil {
			t.Fatal(err)
		}
		w := post(t, s, "/status/"+verb, url.Values{"prefix": {about}, "registration": {about}, "reason": {reason}, "for": {length}, "relay": {relay}, "confirm": {confirm}, "wide": {wide}})
		switch w.Code {
		case http.StatusUnprocessableEntity:
			if len(a.told) > 0 || !strings.Contains(w.Body.String(), `aria-invalid="true"`) || strings.Contains(w.Body.String(), "<script>") {
				t.Errorf("%v\n%s", a.told, w.Body)
			}
		case http.StatusSeeOther:
			if code, body := get(t, s, w.Header().Get("Location")); code != http.StatusOK || len(a.told) != 1 || strings.Contains(body, "<script>") {
				t.Errorf("%d %v\n%s", code, a.told, body)
			}
		default:
			t.Errorf("%d\n%s", w.Code, w.Body)
		}
	})
}

// nextEvent reads one server-sent event, comments and other fields aside.
func nextEvent(t *testing.T, in *bufio.Scanner) (name, data string) {
	t.Helper()
	for in.Scan() {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			data += line[6:] + "\n"
		case line == "" && name != "":
			return name, data
		}
	}
	t.Fatalf("the stream ended: %v", in.Err())
	return "", ""
}

// TestStatusIsLive: a change at a relay reaches whoever looks, and a
// stream ends with the portal.
func TestStatusIsLive(t *testing.T) {
	a := &relaySaid{report: busy(time.Now())}
	s := statusServer(t, pat, a)
	end := make(chan struct{})
	s.end = end
	server := httptest.NewServer(s.handler())
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/status/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, kind)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	name, data := nextEvent(t, in)
	has(t, name+data, "status", `id="live-summary"`, "The relay takes mail", "!<html", "!<form", "!<script>alert")
	a.change(func(r *relaySaid) { r.err = errors.New("gone") })
	for !strings.Contains(data, "a: no answer") {
		_, data = nextEvent(t, in)
	}
	close(end)
	for in.Scan() { // to its end
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
}

// TestWhatIsDrawn: a portal that was just started draws what it has.
func TestWhatIsDrawn(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]string{0: "quarter", 11 * time.Minute: "quarter", 12 * time.Minute: "hour", time.Hour: "hour day", 24 * time.Hour: "hour day"} {
		var got []string
		for _, w := range windowsOf(now.Add(-age), now) {
			got = append(got, w.id)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %v: %v, not %s", age, got, want)
		}
	}
	if out := chartsOf(map[string][]fleet.Point{"a": nil}, now); len(out) != 2 {
		t.Errorf("%d charts of nothing", len(out))
	}
}

// A page of a day's history of several relays, as a postmaster's stream has it.
func BenchmarkStatusLive(b *testing.B) {
	now := time.Now()
	history := map[string][]fleet.Point{}
	for _, name := range []string{"a", "b", "c", "d"} {
		for i := range int64(fleet.Memory / fleet.Step) {
			history[name] = append(history[name], fleet.Point{At: now.Add(time.Duration(i)*fleet.Step - fleet.Memory), Up: true, Started: now.Add(-fleet.Memory), Accepted: 3 * i, Delivered: 2 * i, Queue: int(i % 100)})
		}
	}
	for b.Loop() {
		chartsOf(history, now)
	}
}

func TestRelaysInWords(t *testing.T) {
	up := relayCard{Name: "a", State: "takes mail", Mark: "good", Newest: true}
	behind := relayCard{Name: "b", State: "takes mail", Mark: "good", Behind: true}
	down := relayCard{Name: "c", State: "no answer", Mark: "bad"}
	for want, relays := range map[string][]relayCard{
		"The portal has been told of no relays.":                                 nil,
		"The relays have not been asked yet.":                                    {{Name: "a"}},
		"2 of 2 relays take mail, with the newest register.":                     {up, up},
		"2 of 2 relays take mail; the newest register is not in force on b.":     {up, behind},
		"1 of 2 relays takes mail (c: no answer).":                               {up, down},
		"1 of 2 relays takes mail.":                                              {up, {Name: "d"}},
		"The relay takes mail, with the newest register. 21 things need a look.": {{Mark: "good", Newest: true, Findings: make([]status.Finding, 20), FindingsMore: 1}},
		"The relay takes no mail, or nobody knows (c: no answer).":               {down},
		"0 of 2 relays take mail (c: no answer; c: no answer).":                  {down, down},
	} {
		got, good := relaysInWords(relays, true)
		if got != want || good != (strings.HasSuffix(want, "newest register.")) {
			t.Errorf("%q, %v; want %q", got, good, want)
		}
	}
}

func TestAFleetsListsAreMerged(t *testing.T) {
	now := time.Now()
	one, two := busy(now), busy(now.Add(time.Minute))
	two.Drift[0].Agreed = "registrations/blocks/x.cue"
	two.Strangers.Newest[0].Last = now.Add(time.Minute)
	relays := []fleet.Relay{{Name: "a", Report: &one, Operates: true}, {Name: "b", Report: &two}, {Name: "c"}}
	list, all := strangersOf(relays)
	if len(list) != 1 || list[0].Count != 8 || !list[0].Last.Equal(now.Add(time.Minute)) || all != 30 {
		t.Errorf("%+v %d", list, all)
	}
	if list := sendersOf(relays); len(list) != 1 || list[0].Day != 10 {
		t.Errorf("%+v", list)
	}
	if list := blocksOf(relays, nil, now); len(list) != 1 || !slices.Equal(list[0].At, []string{"a", "b"}) || !slices.Equal(list[0].Missing, []string{"c"}) {
		t.Errorf("%+v", list)
	}
	if list := brakesOf(relays); len(list) != 2 || list[0].Link == "" || list[1].Link != "" {
		t.Errorf("%+v", list)
	}
}
