package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

const (
	// portalHint is what to do about a token that cannot be used.
	portalHint = "openssl rand -hex 32 makes a token; the file holds it and nothing else, and so does the one that the portal has for this relay"
	// Bounds of a token, in octets.
	minToken, maxToken = 32, 512
	// tellRefused is how often the log is told of questions without a right token.
	tellRefused = time.Minute
)

// portalTokens are the digests of the two tokens: what is compared has one
// length, whatever was shown.
type portalTokens struct {
	read, operate [sha256.Size]byte
	operates      bool // there is a token for it
}

// readPortalTokens reads both.
func readPortalTokens(p *config.ListenPortal) (t portalTokens, err error) {
	if t.read, err = readPortalToken("tokenFile", p.TokenFile); err != nil || p.OperatorTokenFile == "" {
		return t, err
	}
	t.operates = true
	if t.operate, err = readPortalToken("operatorTokenFile", p.OperatorTokenFile); err == nil && t.operate == t.read {
		err = fmt.Errorf("listen.portal.operatorTokenFile: %s holds the same token as %s", p.OperatorTokenFile, p.TokenFile)
	}
	return t, err
}

func readPortalToken(field, path string) (sum [sha256.Size]byte, err error) {
	data, err := credential.ReadSecret(path)
	switch {
	case err != nil:
		return sum, fmt.Errorf("reading listen.portal.%s: %w", field, err)
	case len(data) < minToken || len(data) > maxToken:
		return sum, fmt.Errorf("listen.portal.%s: %s holds %d octets, and a token has from %d to %d", field, path, len(data), minToken, maxToken)
	case strings.ContainsFunc(string(data), func(r rune) bool { return r <= ' ' || r > '~' }):
		return sum, fmt.Errorf("listen.portal.%s: %s holds more than one word of printable ASCII", field, path)
	}
	return sha256.Sum256(data), nil
}

// A portalDoor answers the portal.
type portalDoor struct {
	config  *config.ListenPortal
	watched *watch.Watcher
	tokens  atomic.Pointer[portalTokens]
	failure atomic.Pointer[string] // of the last reading; "" if it was good

	mu        sync.Mutex
	askedAt   time.Time // guarded by mu, as what follows
	refusedAt time.Time
	refused   int64     // since askedAt
	told      time.Time // when the log was told of refusals last
	untold    int64     // since told
}

// openPortal makes what answers the portal; without one in the configuration,
// nothing.
func (r *relay) openPortal(c *config.Relay, s *lifecycle.Steps) error {
	if c.Listen.Portal == nil {
		return nil
	}
	p := &portalDoor{config: c.Listen.Portal}
	p.failure.Store(new(string))
	files := []string{p.config.TokenFile}
	if p.config.OperatorTokenFile != "" {
		files = append(files, p.config.OperatorTokenFile)
	}
	var err error
	if p.watched, err = watch.New(files); err != nil { // first: what changes after the first reading is seen
		return err
	}
	s.Later("watch of the portal's tokens", p.watched.Close)
	tokens, err := readPortalTokens(p.config)
	if err != nil {
		return fmt.Errorf("%w; %s", err, portalHint)
	}
	p.tokens.Store(&tokens)
	r.portal = p
	return nil
}

// watchPortalTokens has new tokens taken up.
func (r *relay) watchPortalTokens(ctx context.Context) error {
	return r.portal.watched.Run(ctx, filesQuiet, filesPoll, r.reloadPortalTokens)
}

// reloadPortalTokens replaces both tokens, or keeps those before and says why.
func (r *relay) reloadPortalTokens() {
	text := ""
	tokens, err := readPortalTokens(r.portal.config)
	if err != nil {
		text = err.Error()
		r.log.Error("the portal's tokens before stay in use", "event", "portal.tokens_failed", "err", err, "hint", portalHint)
	} else {
		r.portal.tokens.Store(&tokens)
		r.log.Info("the portal's tokens loaded", "event", "portal.tokens_loaded")
	}
	r.portal.failure.Store(&text)
}

// secure is TLS with the relay's certificate, whichever that is by now.
func (p *portalDoor) secure(c *certificates) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// handler answers questions that show a token as RFC 6750 §2.1 has it:
//
//	GET  /v1/status         as the operators' socket does
//	GET  /v1/mails          when each registered address sent last
//	POST /v1/blocks         likewise, with the operators' token and who asks,
//	POST /v1/blocks/end     and why
//	POST /v1/brake/release
//
// Who shows none learns nothing, not even what there is.
func (p *portalDoor) handler(r *relay) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", r.status.Report())
	mux.HandleFunc("GET /v1/mails", r.listMails)
	mux.Handle("POST /v1/blocks", p.operating(r.addBlock(byPortal)))
	mux.Handle("POST /v1/blocks/end", p.operating(r.endBlock(byPortal)))
	mux.Handle("POST /v1/brake/release", p.operating(r.releaseBrake(byPortal)))
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if read, operate := p.tokens.Load().shown(req.Header); !read && !operate {
			p.turnAway(r, req.RemoteAddr, time.Now())
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.asked(time.Now())
		mux.ServeHTTP(w, req)
	})
}

// operating lets only the operators' token through.
func (p *portalDoor) operating(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, operate := p.tokens.Load().shown(req.Header); !operate {
			refuse(w, http.StatusForbidden, "this token can only read", "listen.portal.operatorTokenFile in the relay's configuration names the one that can do more")
			return
		}
		h.ServeHTTP(w, req)
	})
}

// shown tells which token a request shows. How long it takes depends on the
// length of what is shown alone.
func (t *portalTokens) shown(h http.Header) (read, operate bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return false, false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(token) > maxToken {
		return false, false
	}
	sum := sha256.Sum256([]byte(token))
	isRead := subtle.ConstantTimeCompare(sum[:], t.read[:])
	isOperate := subtle.ConstantTimeCompare(sum[:], t.operate[:])
	return isRead == 1, t.operates && isOperate == 1
}

func (p *portalDoor) asked(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.askedAt, p.refused = now, 0
}

// turnAway counts a question without a right token, and tells the log, now and
// then.
func (p *portalDoor) turnAway(r *relay, remote string, now time.Time) {
	p.mu.Lock()
	p.refusedAt = now
	p.refused++
	p.untold++
	n := p.untold
	tell := p.told.IsZero() || now.Sub(p.told) >= tellRefused
	if tell {
		p.told, p.untold = now, 0
	}
	p.mu.Unlock()
	if !tell {
		return
	}
	client := ""
	if at, err := netip.ParseAddrPort(remote); err == nil {
		client = at.Addr().Unmap().String()
	}
	r.log.Warn("questions without a right token were refused", "event", "portal.refused", "count", n, "client", client)
}

func (p *portalDoor) report() *status.Portal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &status.Portal{AskedAt: p.askedAt, RefusedAt: p.refusedAt, Refused: p.refused,
		Operates: p.tokens.Load().operates, Error: *p.failure.Load()}
}
