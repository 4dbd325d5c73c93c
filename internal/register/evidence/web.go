package evidence

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Bounds on what a web service may send.
const (
	maxBody      = 8 << 20 // octets of one answer
	maxHeader    = 64 << 10
	maxRedirects = 5
)

var errBody = fmt.Errorf("the answer is over %d MiB", maxBody>>20)

// parseBase reads the address of a web service: https, or http on loopback,
// where a test or a tunnel ends. The error never repeats what it was given: it
// may hold a password.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("this is no URL such as https://netbox.example.edu")
	case u.User != nil:
		return nil, errors.New("the URL carries a name or a password; leave it out")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the URL carries a query; give the address of the service alone")
	case !allowed(u):
		return nil, fmt.Errorf("%s is not https; plain http is for loopback only", u.Redacted())
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// allowed reports whether something may be asked at u.
func allowed(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u)
}

func loopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// newClient is a client whose answers are bounded. It follows redirects if it
// is told to, and then not out of TLS and not into this machine.
func newClient(redirects bool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = maxHeader
	return &http.Client{
		Transport: bounded{transport},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch first := via[0].URL; {
			case !redirects:
				return http.ErrUseLastResponse
			case len(via) > maxRedirects:
				return errors.New("too many redirects")
			case !allowed(req.URL) || loopback(req.URL) != loopback(first):
				return errors.New("a redirect to where nothing may be asked")
			}
			return nil
		},
	}
}

// bounded is a transport whose bodies end in errBody when they are too long.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64 // octets still allowed
}

func (b *boundedBody) Read(p []byte) (int, error) {
	// One octet more than allowed tells a full body from one that goes on.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if int64(n) > b.left {
		return int(b.left), errBody
	}
	b.left -= int64(n)
	return n, err
}

// plainError takes the method and the URL off an error of net/http: which
// service it was is said by the finding, and the rest is noise to a reader.
func plainError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// userAgent is how services see us.
const userAgent = "gatepost"

// statusError words an HTTP status that is no answer.
func statusError(code int) error {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("the service refuses the token or its rights (HTTP %d)", code)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("the service is asked too often (HTTP %d)", code)
	}
	return fmt.Errorf("the service answers HTTP %d", code)
}
