package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/status"
)

// Bounds of what is read, in octets.
const (
	maxReport = 4 << 20
	maxAnswer = 1 << 20  // to an order, or about an address
	maxToken  = 16 << 10 // a file of one
	maxCA     = 1 << 20
	maxWords  = 500 // characters of a relay's words
)

// A Client asks one relay. Each question ends with its ctx.
type Client interface {
	// Report is how the relay stands.
	Report(ctx context.Context) (*status.Report, error)
	// Address is what it knows of one address.
	Address(ctx context.Context, ip netip.Addr) (*status.Address, error)
	// Mails is when each registered address sent first and last.
	Mails(ctx context.Context) ([]status.LastMail, error)
	// Order has it do something: path is below /v1/, order and answer are JSON.
	// An error is a *Refusal where the relay said no, wraps ErrUnknown where it
	// may have done it all the same, and else says why it was not even told.
	Order(ctx context.Context, path string, order, answer any) error
	// Close ends what is open.
	Close()
}

// ErrUnknown is the error of an order that a relay may have carried out, though
// it did not say so.
var ErrUnknown = errors.New("it did not answer, so nobody knows whether it has done it")

// A Refusal is what a relay said in place of doing something.
type Refusal struct{ Text, Hint string }

func (r *Refusal) Error() string { return r.Text }

// A client is a relay behind HTTPS.
type client struct {
	source Source
	base   *url.URL

	mu   sync.Mutex
	http *http.Client // guarded by mu, as ca
	ca   []byte       // the certificates that it was made with
}

var _ Client = (*client)(nil)

func dial(s Source) (Client, error) {
	base, err := url.Parse(s.URL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("%q is no address of a relay", s.URL)
	}
	c := &client{source: s, base: base}
	_, err = c.current()
	return c, err
}

// current is what to ask with: made anew when the certificates that vouch for
// the relay have changed.
func (c *client) current() (*http.Client, error) {
	var ca []byte
	if c.source.CAFile != "" {
		var err error
		if ca, err = durable.ReadFile(c.source.CAFile, maxCA); err != nil {
			return nil, fmt.Errorf("reading the certificates that vouch for it: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil && bytes.Equal(ca, c.ca) {
		return c.http, nil
	}
	var roots *x509.CertPool // nil: the system's
	if c.source.CAFile != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s: there is no certificate in it", c.source.CAFile)
		}
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	c.ca, c.http = ca, &http.Client{
		Transport: &http.Transport{ // no proxy: a token goes to nobody else
			DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  orderWait,
			MaxResponseHeaderBytes: 16 << 10,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true, // what comes is as long as it is
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c.http, nil
}

// Close ends what is open.
func (c *client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.http.CloseIdleConnections()
}

// Report is how the relay stands.
func (c *client) Report(ctx context.Context) (*status.Report, error) {
	r := new(status.Report)
	if err := c.read(ctx, "", maxReport, r); err != nil {
		return nil, err
	}
	if r.Host == "" || r.At.IsZero() {
		return nil, errors.New("what answers there is no relay")
	}
	cut(r)
	return r, nil
}

// Address is what the relay knows of one address.
func (c *client) Address(ctx context.Context, ip netip.Addr) (*status.Address, error) {
	a := new(status.Address)
	if err := c.read(ctx, "?"+url.Values{"ip": {ip.String()}}.Encode(), maxAnswer, a); err != nil {
		return nil, err
	}
	if a.IP != ip {
		return nil, errors.New("it answered about another address")
	}
	cutAddress(a)
	return a, nil
}

// read gets a value from /v1/status.
func (c *client) read(ctx context.Context, query string, most int64, into any) error {
	token, err := readToken(c.source.TokenFile)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodGet, "status"+query, token, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	return decode(resp, most, into)
}

// Order has the relay do something.
func (c *client) Order(ctx context.Context, path string, order, answer any) error {
	if c.source.OperatorTokenFile == "" {
		return errors.New("the portal has no token to do this with (operatorTokenFile)")
	}
	token, err := readToken(c.source.OperatorTokenFile)
	if err != nil {
		return err
	}
	body, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("writing the order: %w", err)
	}
	var connected atomic.Bool // from here on the relay may have heard it
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	resp, err := c.do(ctx, http.MethodPost, path, token, body)
	switch {
	case err != nil && connected.Load():
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK:
		if err := decode(resp, maxAnswer, answer); err != nil {
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return nil
	case resp.StatusCode >= 400 && resp.StatusCode != http.StatusUnauthorized:
		var said struct{ Error, Hint string }
		err := decode(resp, maxAnswer, &said)
		switch {
		case err == nil && said.Error != "":
			return &Refusal{clean(said.Error), clean(said.Hint)}
		case resp.StatusCode >= 500: // whoever said that, the relay behind it may have heard the order
			return fmt.Errorf("%w: %w", ErrUnknown, statusError(resp.StatusCode))
		}
		return statusError(resp.StatusCode)
	}
	return statusError(resp.StatusCode)
}

// do asks with a token. Its error has no token and no query in it.
func (c *client) do(ctx context.Context, method, path, token string, body []byte) (*http.Response, error) {
	h, err := c.current()
	if err != nil {
		return nil, err
	}
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.base.String(), "/")+"/v1/"+path, in)
	if err != nil {
		return nil, fmt.Errorf("%s is no address of a relay", c.source.URL)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", "gatepost-portal")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.New("it did not answer in time")
	case err != nil:
		return nil, errors.New(clean(err.Error()))
	}
	return resp, nil
}

// statusError says for a postmaster what an answer without a value means.
func statusError(code int) error {
	switch {
	case code == http.StatusUnauthorized:
		return errors.New("it does not know the portal's token: tokenFile here and listen.portal in the relay's configuration must hold the same")
	case code >= 300 && code < 400:
		return errors.New("it sends the portal elsewhere, where its token must not go: give its own address as url")
	}
	return fmt.Errorf("it answered %d %s", code, http.StatusText(code))
}

// decode reads one JSON value, whole and alone.
func decode(resp *http.Response, most int64, into any) error {
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" {
		return errors.New("what answers there is no relay")
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err == nil {
		err = resp.Request.Context().Err() // cut off by us, a relay may still have ended it in form
	}
	switch {
	case err != nil:
		return errors.New("its answer broke off")
	case int64(len(data)) > most:
		return fmt.Errorf("its answer is longer than %d octets", most)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errors.New("its answer is not understood; are the portal and the relay of versions that fit?")
	}
	return nil
}

// readToken reads a file that holds a token and nothing else.
func readToken(path string) (string, error) {
	data, err := durable.ReadFile(path, maxToken)
	if err != nil {
		return "", fmt.Errorf("reading the portal's token for it: %w", err)
	}
	token := string(bytes.TrimSpace(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s holds no token", path)
	}
	return token, nil
}

// clean keeps a relay's words on one line and short.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxWords {
		return string(runes[:maxWords-1]) + "…"
	}
	return s
}

// cut bounds the lists of a report, as a page shows no more.
func cut(r *status.Report) {
	r.NotReady = first(r.NotReady, 10)
	r.Findings = first(r.Findings, 50)
	r.Register.Problems = first(r.Register.Problems, 50)
	r.Register.Withheld = first(r.Register.Withheld, 50)
	r.Register.Substituted = first(r.Register.Substituted, 50)
	r.Queue.Destinations = first(r.Queue.Destinations, 20)
	r.Senders.Top = first(r.Senders.Top, status.MaxSenders)
	r.Strangers.Newest = first(r.Strangers.Newest, status.MaxStrangers)
	r.Proofs.Newest = first(r.Proofs.Newest, status.MaxProofs)
	r.Brake = first(r.Brake, 100)
	r.Drift = first(r.Drift, 4096) // as many as a relay takes: each may have to get into the register
}

func cutAddress(a *status.Address) {
	a.Blocks, a.Proofs, a.Budgets = first(a.Blocks, 50), first(a.Proofs, 50), first(a.Budgets, 50)
	a.Leniencies, a.Reasons, a.Refusals = first(a.Leniencies, 50), first(a.Reasons, 50), first(a.Refusals, 50)
}

func first[T any](list []T, most int) []T { return list[:min(len(list), most)] }
