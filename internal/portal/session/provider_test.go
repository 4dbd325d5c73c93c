package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An idp is an OpenID provider: discovery, keys, authorisation with PKCE, codes
// that count once, signed ID tokens, userinfo. Its fields make it misbehave;
// they are set between requests.
type idp struct {
	*httptest.Server
	t   *testing.T
	key *ecdsa.PrivateKey

	mu       sync.Mutex
	down     bool           // 503 to everything
	issuer   string         // in the discovery document and tokens
	claims   map[string]any // laid over those of an ID token; nil deletes
	userinfo map[string]any
	signer   *ecdsa.PrivateKey // nil: key
	noToken  bool              // answers without an ID token
	inBody   bool              // takes the client's secret as a field, and says so
	refusal  url.Values        // sent back in place of a code
	extra    url.Values        // sent back beside the code
	codes    map[string]url.Values
	asked    []string // paths
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{t: t, key: key, codes: map[string]url.Values{}, userinfo: map[string]any{"sub": "u1"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		writeJSON(w, p.userinfo)
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked = append(p.asked, r.URL.Path)
		if p.down {
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	p.issuer = p.URL
	t.Cleanup(p.Close)
	return p
}

// set changes how it behaves.
func (p *idp) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	methods := []string{"client_secret_basic", "client_secret_post"}
	if p.inBody {
		methods = methods[1:]
	}
	writeJSON(w, map[string]any{
		"token_endpoint_auth_methods_supported": methods,
		"issuer":                                p.issuer, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"jwks_uri": p.URL + "/keys", "userinfo_endpoint": p.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

// authorize signs everybody in.
func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != "portal" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("scope") == "" {
		p.t.Errorf("the provider is asked %s", r.URL.RawQuery)
	}
	back := url.Values{"state": {q.Get("state")}}
	if p.refusal != nil {
		maps.Copy(back, p.refusal)
	} else {
		code := random(8)
		p.codes[code] = q
		back.Set("code", code)
	}
	maps.Copy(back, p.extra)
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

// token redeems a code, once.
func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	asked, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	id, secret, _ := r.BasicAuth()
	if p.inBody {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	switch {
	case !ok, base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge"), r.PostFormValue("redirect_uri") != asked.Get("redirect_uri"):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error": "invalid_grant"}`))
		return
	case id != "portal" || secret != "s3cret":
		http.Error(w, "invalid_client", http.StatusUnauthorized)
		return
	}
	answer := map[string]any{"access_token": "access", "token_type": "Bearer"}
	if !p.noToken {
		answer["id_token"] = p.sign(asked.Get("nonce"))
	}
	writeJSON(w, answer)
}

func (p *idp) sign(nonce string) string {
	now := time.Now()
	all := map[string]any{
		"iss": p.issuer, "sub": "u1", "aud": "portal", "nonce": nonce, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"name": "Dana Ito", "email": "Dana@Physics.example.edu", "email_verified": true,
	}
	for name, v := range p.claims {
		if v == nil {
			delete(all, name)
			continue
		}
		all[name] = v
	}
	key := p.key
	if p.signer != nil {
		key = p.signer
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		p.t.Error(err)
	}
	text, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		p.t.Error(err)
	}
	return text
}

// lines are what a page of the tests shows.
func lines(format string, args ...any) string { return fmt.Sprintf(format+"\n", args...) }
