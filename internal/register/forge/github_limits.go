package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

// A transport adds the token, for the one host that it is meant for, and
// bounds what comes back.
type transport struct {
	base  *url.URL
	token TokenSource
	next  http.RoundTripper
}

// RoundTrip sends one request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != t.base.Host || r.URL.Scheme != t.base.Scheme {
		return nil, errors.New("a request to another host")
	}
	token, err := t.token(r.Context())
	if err != nil {
		return nil, fmt.Errorf("%w: getting a token: %w", ErrRefused, err)
	}
	token = strings.TrimSpace(token)
	if token == "" || strings.ContainsAny(token, "\r\n \t") {
		return nil, fmt.Errorf("%w: the token is empty or not one word", ErrRefused)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), token, "…"))
	}
	if resp.ContentLength > maxAnswer {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: an answer of %d bytes", ErrTooMuch, resp.ContentLength)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// A boundedBody fails, rather than ends, where the bound is: what was cut must
// not look whole.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		return 0, fmt.Errorf("%w: an answer of more than %d bytes", ErrTooMuch, maxAnswer)
	}
	b.left -= int64(n)
	if err != nil { // go-github puts another body in this one's place, and closes that
		b.ReadCloser.Close()
	}
	return n, err
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// limitedFor reports whether a limit of the forge refused the call, and how
// long to wait. GitHub has two: so many calls an hour, with the time at which
// they come back; and one on bursts, which often says no time at all, and then
// wants a minute, and longer each time.
func limitedFor(err error, resp *github.Response, try int, now time.Time) (time.Duration, bool) {
	patience := time.Minute << min(try, 4)
	if hourly, ok := errors.AsType[*github.RateLimitError](err); ok {
		return max(hourly.Rate.Reset.Sub(now)+time.Second, time.Second), true
	}
	if burst, ok := errors.AsType[*github.AbuseRateLimitError](err); ok {
		if burst.RetryAfter != nil && *burst.RetryAfter > 0 {
			return *burst.RetryAfter + time.Second, true
		}
		return patience, true
	}
	answer, ok := errors.AsType[*github.ErrorResponse](err)
	if !ok || resp == nil || resp.StatusCode != http.StatusTooManyRequests &&
		(resp.StatusCode != http.StatusForbidden || !strings.Contains(strings.ToLower(answer.Message), "rate limit")) {
		return 0, false
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		return time.Duration(min(s, 86400)) * time.Second, true
	}
	if resp.Header.Get("X-RateLimit-Remaining") == "0" && !resp.Rate.Reset.IsZero() {
		return max(resp.Rate.Reset.Sub(now)+time.Second, time.Second), true
	}
	return patience, true
}

// passing reports whether a question may get its answer in a moment.
func passing(ctx context.Context, err error, resp *github.Response) bool {
	if ctx.Err() != nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrTooMuch) || errors.Is(err, ErrConflict) {
		return false
	}
	if resp != nil && resp.Response != nil {
		return resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout
	}
	_, sent := errors.AsType[*url.Error](err)
	return sent || errors.Is(err, context.DeadlineExceeded)
}

// explain gives an error a kind to decide by and a text that is safe to show:
// GitHub's own words, cut, and never a header.
func explain(ctx context.Context, doing string, err error, resp *github.Response, limited bool) error {
	wrap := func(kind error, format string, args ...any) error {
		if text := printable(fmt.Sprintf(format, args...), 300); text != "" {
			return fmt.Errorf("forge: %s: %w: %s", doing, kind, text)
		}
		return fmt.Errorf("forge: %s: %w", doing, kind)
	}
	for _, kind := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) && ctx.Err() != nil {
			return fmt.Errorf("forge: %s: %w", doing, kind)
		}
	}
	if limited {
		until := ""
		if hourly, ok := errors.AsType[*github.RateLimitError](err); ok {
			until = "until " + hourly.Rate.Reset.UTC().Format(time.RFC3339)
		}
		return wrap(ErrLimited, "%s", until)
	}
	for _, kind := range []error{ErrRefused, ErrTooMuch, ErrConflict} {
		if errors.Is(err, kind) {
			_, text, _ := strings.Cut(err.Error(), kind.Error()+": ")
			return wrap(kind, "%s", text)
		}
	}
	if answer, ok := errors.AsType[*github.ErrorResponse](err); ok && answer.Response != nil {
		said := answer.Message
		for i, e := range answer.Errors {
			if i < 3 {
				said += "; " + strings.TrimSpace(e.Field+" "+e.Code+" "+e.Message)
			}
		}
		switch code := answer.Response.StatusCode; {
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			return wrap(ErrRefused, "%d %s", code, said)
		case code == http.StatusNotFound || code == http.StatusGone:
			return wrap(ErrNotFound, "%s", said)
		case code >= 500:
			return wrap(ErrUnreachable, "%d %s", code, said)
		default:
			return wrap(ErrConflict, "%d %s", code, said)
		}
	}
	if resp != nil && resp.Response != nil { // what came back was not what GitHub sends
		return wrap(ErrIncomplete, "an answer that cannot be read (%d)", resp.StatusCode)
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer within " + callTimeout.String()
	}
	if sent, ok := errors.AsType[*url.Error](err); ok {
		text = sent.Err.Error()
	}
	return wrap(ErrUnreachable, "%s", text)
}
