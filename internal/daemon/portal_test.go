package daemon_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

const (
	readToken    = "read-0123456789abcdef0123456789abcdef"
	operateToken = "oper-0123456789abcdef0123456789abcdef"
)

// A portal asks a world's relay as gatepost-portal does.
type portal struct {
	w    *world
	addr string
}

// portal has the relay answer a portal.
func (w *world) portal() portal {
	w.t.Helper()
	p := portal{w, freeAddr(w.t)}
	w.file("portal", readToken+"\n")
	w.file("operator", operateToken)
	w.extra += fmt.Sprintf("\nlisten: portal: {address: %q, tokenFile: %q, operatorTokenFile: %q}\n", p.addr, filepath.Join(w.dir, "portal"), filepath.Join(w.dir, "operator"))
	return p
}

// client trusts the relay's certificate and no other.
func (p portal) client() *http.Client {
	p.w.t.Helper()
	pem, err := os.ReadFile(filepath.Join(p.w.dir, "cert.pem"))
	if err != nil {
		p.w.t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trust}}}
}

// ask asks with an Authorization header, "" for none, and a body if it has one.
func (p portal) ask(authorization, path, body string) (code int, text string) {
	p.w.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(p.w.t.Context(), method, "https://"+p.addr+path, strings.NewReader(body))
	if err != nil {
		p.w.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := p.client().Do(req)
	if err != nil {
		p.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		p.w.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestPortalAsks: what the portal is told, with which token, and what it may do.
func TestPortalAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.portal()
	w.start()
	for _, wrong := range []string{"", "Bearer", "Bearer ", "Bearer " + readToken + "x", "Bearer  " + readToken, "Basic " + readToken, readToken, "Bearer " + strings.Repeat("x", 9000)} {
		for _, path := range []string{"/v1/status", "/v1/blocks", "/", "/metrics"} {
			if code, text := p.ask(wrong, path, ""); code != http.StatusUnauthorized || text != "" {
				t.Errorf("%.40q is answered %d %q at %s", wrong, code, text, path)
			}
		}
	}
	if code, text := p.ask("", "/v1/blocks", `{"prefix": "127.0.0.1"}`); code != http.StatusUnauthorized || text != "" {
		t.Errorf("an order without a token: %d %q", code, text)
	}

	var r status.Report
	code, text := p.ask("bearer "+readToken, "/v1/status", "")
	if err := json.Unmarshal([]byte(text), &r); code != http.StatusOK || err != nil || r.Host != "relay.lab.example" || !r.Portal.Operates {
		t.Errorf("the report: %d %v %+v", code, err, r.Portal)
	}
	if code, _ := p.ask("Bearer "+readToken, "/v1/queue", ""); code != http.StatusNotFound {
		t.Errorf("the queue is told of: %d", code)
	}
	w.merge("scanner", 7, func() { w.registered("scanner", "127.0.0.2") })
	w.waitCommit()
	var a status.Address
	w.eventually("the confirmation is told of", func() bool {
		a = status.Address{} // what an answer leaves out is no more
		code, text = p.ask("Bearer "+operateToken, "/v1/status?ip=127.0.0.2", "")
		if err := json.Unmarshal([]byte(text), &a); code != http.StatusOK || err != nil {
			t.Fatalf("an address: %d %v", code, err)
		}
		return a.Confirmation != nil && !a.Confirmation.Queued
	})
	if since := time.Since(a.Confirmation.SentAt); since < 0 || since > time.Minute || a.Confirmation.Message == "" {
		t.Errorf("the confirmation was sent %v ago: %+v", since, a.Confirmation)
	}
	if first := w.about("127.0.0.1").Confirmation; first == nil || !first.SentAt.IsZero() {
		t.Errorf("an address of the first register has had a confirmation: %+v", first)
	}
	if q := w.report().Queue; q.Delivered != 1 || q.Bounced != 0 {
		t.Errorf("delivered since the start: %+v", q)
	}

	w.accepted("127.0.0.1", "seen")
	code, text = p.ask("Bearer "+readToken, "/v1/mails", "")
	var m status.LastMail
	if err := json.Unmarshal([]byte(text), &m); code != http.StatusOK || err != nil || m.IP.String() != "127.0.0.1" || time.Since(m.Last) > time.Minute || m.First.After(m.Last) {
		t.Errorf("when each address sent last: %d %v %s", code, err, text)
	}

	const order = `{"prefix": "127.0.0.2", "reason": "sends too much", "for": "1h", "operator": "pm@lab.example"}`
	if code, text := p.ask("Bearer "+readToken, "/v1/blocks", order); code != http.StatusForbidden || !strings.Contains(text, "can only read") {
		t.Errorf("an order with the token for reading: %d %s", code, text)
	}
	for _, half := range []string{`{"prefix": "127.0.0.2", "reason": "x"}`, `{"prefix": "127.0.0.2", "operator": "pm"}`, `{"prefix": "127.0.0.2", "reason": "x", "operator": "p\nm"}`,
		`{"prefix": "127.0.0.2", "reason": "x", "operator": "pm", "more": 1}`, `{"prefix": "` + strings.Repeat("x", 70<<10) + `"}`} {
		if code, text := p.ask("Bearer "+operateToken, "/v1/blocks", half); code != http.StatusBadRequest {
			t.Errorf("%.80s: %d %s", half, code, text)
		}
	}
	if n := len(w.report().Drift); n != 0 {
		t.Fatalf("%d blocks are in force", n)
	}
	if code, text := p.ask("Bearer "+operateToken, "/v1/blocks", order); code != http.StatusOK {
		t.Errorf("a block: %d %s", code, text)
	}
	w.refused("127.0.0.2", "554 5.7.1 127.0.0.2 is blocked")
	for _, end := range []struct {
		body string
		code int
	}{{`{"prefix": "127.0.0.2", "operator": "pm@lab.example"}`, 400}, {`{"prefix": "127.0.0.2", "operator": "pm@lab.example", "reason": "cleaned"}`, 200}, {`{"prefix": "127.0.0.2", "operator": "pm@lab.example", "reason": "again"}`, 409}} {
		if code, text := p.ask("Bearer "+operateToken, "/v1/blocks/end", end.body); code != end.code {
			t.Errorf("%s: %d %s", end.body, code, text)
		}
	}
	if code, text := p.ask("Bearer "+operateToken, "/v1/brake/release", `{"registration": "127.0.0.2", "reason": "x", "for": "1h", "operator": "pm@lab.example"}`); code != http.StatusConflict || !strings.Contains(text, "is not braked") {
		t.Errorf("a release: %d %s", code, text)
	}
	log := w.log.tail(1000)
	for _, want := range []string{`event=control.order order=block about=127.0.0.2 operator=pm@lab.example reason="sends too much" by=portal`,
		`order=unblock about=127.0.0.2 operator=pm@lab.example reason=cleaned by=portal`, "event=portal.refused count=1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(log, readToken) || strings.Contains(log, operateToken) {
		t.Error("the log has a token")
	}
	if out := w.ok("status"); !strings.Contains(out, "portal    it asked ") {
		t.Errorf("gatepost status does not tell of the portal:\n%s", out)
	}
}

// TestPortalsTransport: TLS 1.2 at least, bounded headers, and new tokens and
// certificates without a restart.
func TestPortalsTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.portal()
	w.start()
	if conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if resp, err := http.Get("http://" + p.addr + "/v1/status"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it answers in clear text")
		}
	}
	conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	serial := conn.ConnectionState().PeerCertificates[0].SerialNumber
	fmt.Fprintf(conn, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 32<<10))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "431") {
		t.Errorf("a header of 32 KiB: %q %v", line, err)
	}

	w.file("portal", "too short")
	w.waitReport("the bad token is told", func(r status.Report) bool { return r.Portal.Error != "" })
	if code, _ := p.ask("Bearer "+readToken, "/v1/status", ""); code != http.StatusOK {
		t.Errorf("the token before: %d", code)
	}
	w.file("portal", "new-"+readToken)
	w.waitReport("the new token is in force", func(r status.Report) bool { return r.Portal.Error == "" })
	if code, _ := p.ask("Bearer "+readToken, "/v1/status", ""); code != http.StatusUnauthorized {
		t.Errorf("the token before: %d", code)
	}
	if code, _ := p.ask("Bearer new-"+readToken, "/v1/status", ""); code != http.StatusOK {
		t.Errorf("the new token: %d", code)
	}
	w.certificate()
	w.eventually("the new certificate is shown", func() bool {
		conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(serial) != 0
	})
}
