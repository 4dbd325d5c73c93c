package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-github/v60/github"
	"golang.org/x/time/rate"
)

// A TokenSource gives the token for one request. It is asked anew each time
// and may answer from memory.
type TokenSource func(context.Context) (string, error)

// Static is a token that somebody made by hand.
func Static(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// GitHubOptions say which repository, and as whom. Repository and Token must
// be set.
type GitHubOptions struct {
	Repository string // owner/name
	Host       string // of GitHub Enterprise, such as "https://github.example.edu", or the API's own address; "" is github.com
	Token      TokenSource

	// Self is the number of the account that the token stands for: only its
	// comments are edited. 0 asks the forge, which knows it for a person's token;
	// ask App.Account for an App's, and see ActionsBot.
	Self int64

	// Account, if set, is asked for it where Self is 0, when it is needed.
	Account func(context.Context) (Account, error)

	// Wait is the longest that one call waits for a rate limit, over all its
	// tries; the default is two minutes.
	Wait time.Duration

	// Pace is the time between two writes, once a few have been made; the default
	// is a second, as GitHub wants it.
	Pace time.Duration

	// Transport carries the requests; nil is Go's own, with its proxies.
	Transport http.RoundTripper
}

// ActionsBot is the account that the token of a workflow on github.com stands for.
const ActionsBot = 41898282

const (
	maxAnswer   = 24 << 20 // bytes of one answer; a file of 8 MiB takes 11 in base64
	perPage     = 100      // what GitHub gives at most
	callTimeout = time.Minute
)

// A GitHub is one repository at github.com or at a GitHub Enterprise server.
// It is safe for concurrent use.
type GitHub struct {
	owner, name string
	client      *github.Client
	wait        time.Duration
	self        atomic.Int64                           // 0: not known yet
	whoAmI      func(context.Context) (Account, error) // nil: the forge knows
	writes      *rate.Limiter                          // a few may come at once
}

var repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)

// NewGitHub makes the client. It sends nothing yet.
func NewGitHub(o GitHubOptions) (*GitHub, error) {
	owner, name, _ := strings.Cut(o.Repository, "/")
	if !repositoryName.MatchString(o.Repository) || strings.Trim(name, ".") == "" {
		return nil, fmt.Errorf("forge: %q is not a repository: write owner/name", printable(o.Repository, 100))
	}
	if o.Token == nil {
		return nil, errors.New("forge: GitHub needs a token")
	}
	client, err := newClient(o.Host, o.Token, o.Transport)
	if err != nil {
		return nil, err
	}
	if o.Wait == 0 {
		o.Wait = 2 * time.Minute
	}
	if o.Pace == 0 {
		o.Pace = time.Second
	}
	g := &GitHub{
		owner: owner, name: name, client: client, wait: o.Wait, whoAmI: o.Account,
		writes: rate.NewLimiter(rate.Every(o.Pace), 8),
	}
	g.self.Store(o.Self)
	return g, nil
}

// ParseURL takes the web address of a repository apart, at github.com or at a
// GitHub Enterprise server: the host as GitHubOptions.Host wants it, and
// owner/name. No error repeats the address, which may hold credentials.
func ParseURL(address string) (host, repository string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", "", errors.New("forge: the repository is no web address")
	}
	repository = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if !repositoryName.MatchString(repository) {
		return "", "", fmt.Errorf("forge: the repository's address must end in /OWNER/NAME, and not in %q", printable(u.Path, 100))
	}
	if u.Scheme == "https" && strings.EqualFold(u.Host, "github.com") {
		return "", repository, nil
	}
	return u.Scheme + "://" + u.Host, repository, nil
}

// newClient makes a client of go-github whose transport is bounded.
func newClient(host string, token TokenSource, next http.RoundTripper) (*github.Client, error) {
	base, err := apiURL(host)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = http.DefaultTransport
	}
	client := github.NewClient(&http.Client{
		Transport: &transport{base: base, token: token, next: next},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case via[0].Method != http.MethodGet && via[0].Method != http.MethodHead:
				return fmt.Errorf("%w: the repository has moved; use its new name", ErrConflict)
			case r.URL.Host != base.Host || r.URL.Scheme != base.Scheme:
				return fmt.Errorf("%w: the forge redirects to another host", ErrConflict)
			case len(via) > 3:
				return fmt.Errorf("%w: too many redirects", ErrConflict)
			}
			return nil
		},
	})
	client.BaseURL = base
	client.UploadURL = base // nothing is uploaded
	client.UserAgent = "gatepost"
	return client, nil
}

// apiURL is where the API of a host is.
func apiURL(host string) (*url.URL, error) {
	if host == "" || strings.TrimSuffix(host, "/") == "https://github.com" {
		return url.Parse("https://api.github.com/")
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("forge: the host must be a URL such as https://github.example.edu, without credentials")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, errors.New("forge: a token is not sent over plain http; use https")
	}
	if strings.HasPrefix(u.Host, "api.") && strings.Trim(u.Path, "/") == "" { // as workflows are told it
		u.Path = "/"
		return u, nil
	}
	if strings.HasSuffix(u.Host, ".ghe.com") && !strings.HasPrefix(u.Host, "api.") { // Enterprise Cloud with data residency
		u.Host, u.Path = "api."+u.Host, "/"
		return u, nil
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if !strings.HasSuffix(u.Path, "/api/v3") {
		u.Path += "/api/v3"
	}
	u.Path += "/"
	return u, nil
}

// read calls the forge for something that may be asked twice.
func (g *GitHub) read(ctx context.Context, doing string, call func(context.Context) (*github.Response, error)) error {
	return g.call(ctx, doing, true, call)
}

// write calls the forge for something that must not be done twice.
func (g *GitHub) write(ctx context.Context, doing string, call func(context.Context) (*github.Response, error)) error {
	if err := g.writes.Wait(ctx); err != nil {
		return fmt.Errorf("forge: %s: %w", doing, err)
	}
	return g.call(ctx, doing, false, call)
}

// call runs one request, and again when the forge's limits refused it, or when
// a question got no answer, as long as the waiting stays within its bound.
func (g *GitHub) call(ctx context.Context, doing string, again bool, call func(context.Context) (*github.Response, error)) error {
	waited := time.Duration(0)
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, callTimeout)
		resp, err := call(once)
		cancel()
		if err == nil {
			return nil
		}
		pause, limited := limitedFor(err, resp, try, time.Now())
		if !limited && again && try < 3 && passing(ctx, err, resp) {
			pause = time.Second << try
		}
		if pause <= 0 || waited+pause > g.wait {
			return explain(ctx, doing, err, resp, limited)
		}
		waited += pause
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("forge: %s: %w", doing, ctx.Err())
		}
	}
}

// pages calls the forge for each page of a list, up to most of them.
func (g *GitHub) pages(ctx context.Context, doing string, most int, call func(context.Context, github.ListOptions) (*github.Response, error)) error {
	o := github.ListOptions{PerPage: perPage, Page: 1}
	for range most {
		next := 0
		err := g.read(ctx, doing, func(ctx context.Context) (*github.Response, error) {
			resp, err := call(ctx, o)
			if err == nil {
				next = resp.NextPage
			}
			return resp, err
		})
		if err != nil || next == 0 {
			return err
		}
		if next != o.Page+1 {
			return fmt.Errorf("forge: %s: %w: page %d follows page %d", doing, ErrIncomplete, next, o.Page)
		}
		o.Page = next
	}
	return fmt.Errorf("forge: %s: %w: more than %d pages", doing, ErrTooMuch, most)
}
