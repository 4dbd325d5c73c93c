package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

const token = "0123456789abcdef0123456789abcdef"

// A door is a relay's door over TLS, or what pretends to be one.
type door struct {
	*httptest.Server
	ca     string // the file of its certificate
	tokens string // the folder of the tokens
}

func newDoor(t *testing.T, h http.HandlerFunc) door {
	t.Helper()
	d := door{tokens: t.TempDir()}
	d.Server = httptest.NewUnstartedServer(h)
	d.Config.ErrorLog = log.New(io.Discard, "", 0)
	d.StartTLS()
	t.Cleanup(d.Close)
	d.ca = filepath.Join(d.tokens, "ca.pem")
	write(t, d.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw})))
	write(t, filepath.Join(d.tokens, "read"), token+"\n")
	write(t, filepath.Join(d.tokens, "operate"), "op-"+token)
	return d
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d door) client(t *testing.T) Client {
	t.Helper()
	c, err := dial(Source{Name: "a", URL: d.URL, TokenFile: filepath.Join(d.tokens, "read"), OperatorTokenFile: filepath.Join(d.tokens, "operate"), CAFile: d.ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// otherCertificate is one that vouches for no door.
func otherCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// answers is a JSON answer.
func answers(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func TestAReportComes(t *testing.T) {
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Path != "/v1/status" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if ip := r.URL.Query().Get("ip"); ip != "" {
			answers(w, 200, status.Address{IP: netip.MustParseAddr("192.0.2.1"), Proofs: make([]status.Proof, 1000)})
			return
		}
		answers(w, 200, status.Report{Host: "relay.example.edu", At: time.Now(), Findings: make([]status.Finding, 1000)})
	})
	c := d.client(t)
	r, err := c.Report(t.Context())
	if err != nil || r.Host != "relay.example.edu" || len(r.Findings) != 50 {
		t.Fatalf("%+v %v", r, err)
	}
	if a, err := c.Address(t.Context(), netip.MustParseAddr("192.0.2.1")); err != nil || len(a.Proofs) != 50 {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := c.Address(t.Context(), netip.MustParseAddr("192.0.2.2")); err == nil || !strings.Contains(err.Error(), "another address") {
		t.Errorf("an answer about another address: %v", err)
	}
	write(t, filepath.Join(d.tokens, "read"), "another-"+token)
	if _, err := c.Report(t.Context()); err == nil || !strings.Contains(err.Error(), "does not know the portal's token") {
		t.Errorf("with another token: %v", err)
	}
	write(t, filepath.Join(d.tokens, "read"), "two words")
	if _, err := c.Report(t.Context()); err == nil || strings.Contains(err.Error(), "two words") {
		t.Errorf("with no token: %v", err)
	}
}

// TestHostileRelays: whatever answers, the portal says in words what is wrong,
// in time, and its token goes nowhere else.
func TestHostileRelays(t *testing.T) {
	stolen := make(chan string, 100)
	thief := newDoor(t, func(w http.ResponseWriter, r *http.Request) { stolen <- r.Header.Get("Authorization") })
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 10 {
				if _, err := w.Write(append([]byte{'"'}, make([]byte, 1<<20)...)); err != nil {
					return
				}
			}
		}, "longer than 4194304 octets"},
		"slow": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "did not answer in time"},
		"a slow body": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "broke off"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{")
		}, "is not understood"},
		"two values": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}{}")
		}, "is not understood"},
		"other JSON": {func(w http.ResponseWriter, _ *http.Request) { answers(w, 200, map[string]any{"host": []int{1}}) }, "is not understood"},
		"no report":  {func(w http.ResponseWriter, _ *http.Request) { answers(w, 200, map[string]any{}) }, "is no relay"},
		"a page":     {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "is no relay"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		}, "sends the portal elsewhere"},
		"an error":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[2J", 500) }, "it answered 500 Internal Server Error"},
		"long headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) }, "exceeded 16384 bytes"},
		"cut off":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := newDoor(t, tc.answer).client(t).Report(ctx)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), token) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
	t.Run("another certificate", func(t *testing.T) {
		d := newDoor(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked all the same") })
		write(t, d.ca, otherCertificate(t))
		if _, err := d.client(t).Report(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("certificates that are replaced", func(t *testing.T) {
		d := newDoor(t, func(w http.ResponseWriter, _ *http.Request) {
			answers(w, 200, status.Report{Host: "x", At: time.Now()})
		})
		right, err := os.ReadFile(d.ca)
		if err != nil {
			t.Fatal(err)
		}
		c := d.client(t)
		write(t, d.ca, otherCertificate(t))
		if _, err := c.Report(t.Context()); err == nil {
			t.Error("an old certificate still counts")
		}
		write(t, d.ca, string(right))
		if _, err := c.Report(t.Context()); err != nil {
			t.Error(err)
		}
		write(t, d.ca, "no certificate")
		if _, err := dial(Source{URL: d.URL, CAFile: d.ca}); err == nil {
			t.Error("a file without a certificate is taken")
		}
	})
	if len(stolen) > 0 {
		t.Errorf("a token went elsewhere: %q", <-stolen)
	}
}

// TestOrders: done, refused, not told, unknown.
func TestOrders(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		unknown bool
		says    string
	}{
		"done": {answer: func(w http.ResponseWriter, _ *http.Request) { answers(w, 200, status.BlockAdded{}) }},
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			answers(w, 409, map[string]string{"error": "it is\nwide", "hint": "h"})
		}, true, false, "it is wide"},
		"another token": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, false, false, "does not know"},
		"redirected":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, false, false, "elsewhere"},
		"a gateway":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusBadGateway) }, false, true, "502"},
		"cut off":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, true, "nobody knows"},
		"slow":          {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, false, true, "nobody knows"},
		"half": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{")
		}, false, true, "nobody knows"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c := newDoor(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer op-"+token || r.Method != http.MethodPost || r.URL.Path != "/v1/blocks" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				tc.answer(w, r)
			}).client(t)
			err := c.Order(ctx, "blocks", map[string]string{"prefix": "192.0.2.1"}, new(status.BlockAdded))
			_, refused := errors.AsType[*Refusal](err)
			if (err == nil) != (tc.says == "") || refused != tc.refused || errors.Is(err, ErrUnknown) != tc.unknown || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	gone := newDoor(t, nil)
	c := gone.client(t)
	gone.Close()
	if err := c.Order(t.Context(), "blocks", nil, nil); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a relay that is not there: %v", err)
	}
	reader, err := dial(Source{URL: gone.URL, TokenFile: "/x", CAFile: gone.ca})
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Order(t.Context(), "blocks", nil, nil); err == nil || !strings.Contains(err.Error(), "operatorTokenFile") {
		t.Errorf("without a token: %v", err)
	}
}
