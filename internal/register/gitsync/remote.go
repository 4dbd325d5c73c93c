package gitsync

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// A remote is a git repository behind http or https. It speaks the protocol
// itself rather than through git.Remote: the answer of git.Remote cannot tell
// a rewound branch from an unchanged one, and its transport cannot be bounded
// without changing it for the whole process.
type remote struct {
	url      string // without credentials
	user     string // from the URL, if any
	password string
	token    func(context.Context) (string, error)
	plain    bool // what is sent can be read on the way
	http     *http.Client
	max      int64 // bytes of one object
	git      transport.Transport
}

// newRemote checks the URL. Credentials go over https only, but for loopback.
func newRemote(o Options) (*remote, error) {
	u, err := url.Parse(o.Repository)
	if err != nil { // the error would repeat the URL, credentials included
		return nil, errors.New("gitsync: the repository is not a URL that can be read")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("gitsync: the repository must be an https:// or http:// URL or an absolute path")
	}
	r := &remote{token: o.Token, max: o.MaxObject}
	if u.User != nil {
		r.user = u.User.Username()
		r.password, _ = u.User.Password()
		u.User = nil
	}
	u.RawQuery, u.Fragment = "", ""
	r.url = u.String()
	r.plain = u.Scheme == "http" && !loopback(u.Hostname())
	if r.plain && r.password != "" {
		return nil, fmt.Errorf("gitsync: %s: %s", r.url, notInClear)
	}
	base := o.Transport
	if base == nil {
		base = http.DefaultTransport.(*http.Transport).Clone()
	}
	r.http = &http.Client{Transport: &bounded{next: base, max: o.MaxBytes}}
	r.git = githttp.NewClient(r.http)
	return r, nil
}

const notInClear = "credentials are not sent over plain http; use https"

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (r *remote) close() { r.http.CloseIdleConnections() }

// fetch brings the commit that a reference of the remote names, and all of its
// history, into the bare repository at dir, and points the reference as at it,
// unless that is "". It reports whether commits were added.
func (r *remote) fetch(ctx context.Context, dir string, from, as plumbing.ReferenceName) (head Hash, news bool, err error) {
	secrets := []string{r.password}
	defer func() {
		if p := recover(); p != nil { // go-git on a damaged clone
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
		err = r.explain(ctx, err, secrets)
	}()
	auth, err := r.credentials(ctx)
	if err != nil {
		return Hash{}, false, err
	}
	var method transport.AuthMethod
	if auth != nil {
		method = auth
		// A host may repeat what it was sent, in either form.
		secrets = append(secrets, auth.Password, base64.StdEncoding.EncodeToString([]byte(auth.Username+":"+auth.Password)))
	}
	g, err := openAt(dir)
	if err != nil {
		return Hash{}, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer shut(g)
	ep, err := transport.NewEndpoint(r.url)
	if err != nil {
		return Hash{}, false, err
	}
	session, err := r.git.NewUploadPackSession(ep, method)
	if err != nil {
		return Hash{}, false, err
	}
	defer session.Close()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return Hash{}, false, err
	}
	want, ok := refs.References[from.String()]
	if !ok {
		return Hash{}, false, fmt.Errorf("%w: %s", ErrBranchGone, from.Short())
	}
	if _, err := g.CommitObject(want); errors.Is(err, plumbing.ErrObjectNotFound) {
		if err := r.download(ctx, session, dir, g, refs, want); err != nil {
			return Hash{}, false, err
		}
		news = true
	} else if err != nil {
		return Hash{}, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if as == "" {
		return Hash(want), news, nil
	}
	if old, err := g.Storer.Reference(as); err != nil || old.Hash() != want {
		if err := g.Storer.SetReference(plumbing.NewHashReference(as, want)); err != nil {
			return Hash{}, news, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return Hash(want), news, nil
}

// credentials are those of this one fetch.
func (r *remote) credentials(ctx context.Context) (*githttp.BasicAuth, error) {
	if r.token == nil {
		if r.user == "" && r.password == "" {
			return nil, nil
		}
		return &githttp.BasicAuth{Username: r.user, Password: r.password}, nil
	}
	token, err := r.token(ctx)
	token = strings.TrimSpace(token)
	switch {
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrLimited), err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("getting a token: %w", err)
	case err != nil:
		return nil, noToken{fmt.Errorf("getting a token: %w", err)}
	case token == "":
		return nil, nil
	case r.plain:
		return nil, fmt.Errorf("%w: %s", ErrRefused, notInClear)
	}
	user := r.user
	if user == "" {
		user = "x-access-token" // what GitHub wants; other forges take any name
	}
	return &githttp.BasicAuth{Username: user, Password: token}, nil
}

// A noToken says why there is no token. It is an ErrRefused, without its words:
// the host was not asked.
type noToken struct{ error }

func (e noToken) Is(target error) bool { return target == ErrRefused }
func (e noToken) Unwrap() error        { return e.error }

// download gets the commit want with everything that the repository lacks.
// The pack is in place as a whole or not at all.
func (r *remote) download(ctx context.Context, session transport.UploadPackSession, dir string, g *git.Repository, refs *packp.AdvRefs, want plumbing.Hash) (err error) {
	req := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	if refs.Capabilities.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	req.Wants = []plumbing.Hash{want}
	req.Haves = haves(g)
	answer, err := session.UploadPack(ctx, req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Close()) }()
	var pack io.Reader = answer
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, answer)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, answer)
	}
	if err := store(ctx, dir, g, pack, r.max); err != nil {
		return err
	}
	// A handle opened before the pack came does not see it.
	if _, err := g.CommitObject(want); err != nil {
		return fmt.Errorf("the remote did not send the head of the branch: %w", err)
	}
	return nil
}

// haves lists what the remote need not send: our commits, nearest first. What
// cannot be read is not listed, and so is sent again.
func haves(g *git.Repository) []plumbing.Hash {
	const enough = 256
	var list []plumbing.Hash
	for _, name := range []plumbing.ReferenceName{refIncoming, refAccepted} {
		ref, err := g.Storer.Reference(name)
		if err != nil {
			continue
		}
		c, err := g.CommitObject(ref.Hash())
		if err != nil {
			continue
		}
		before := len(list)
		_ = object.NewCommitIterBSF(c, nil, nil).ForEach(func(c *object.Commit) error {
			list = append(list, c.Hash)
			if len(list)-before >= enough {
				return io.EOF
			}
			return nil
		})
	}
	slices.SortFunc(list, func(a, b plumbing.Hash) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

// A fetchError has a kind to decide by and a text that is safe to show. It
// does not wrap the error that it is made from.
type fetchError struct {
	kinds []error
	text  string
}

func (e *fetchError) Error() string   { return e.text }
func (e *fetchError) Unwrap() []error { return e.kinds }

// explain sorts an error of a fetch and takes the secrets out of its text.
func (r *remote) explain(ctx context.Context, err error, secrets []string) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*plumbing.UnexpectedError](err); ok {
		err = e.Err // which it does not unwrap to
	}
	out := &fetchError{}
	for _, kind := range []error{ErrBranchGone, ErrDamaged, ErrRefused, ErrRedirected, ErrUnreachable, ErrLimited, ErrTooLarge} {
		if errors.Is(err, kind) {
			out.kinds = append(out.kinds, kind)
		}
	}
	reason := sanitise(err.Error(), secrets)
	var file *fs.PathError
	switch {
	case len(out.kinds) > 0:
	case errors.As(err, &file):
		out.kinds = append(out.kinds, ErrDisk)
		reason = ErrDisk.Error() + ": " + reason
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		out.kinds = append(out.kinds, ErrBranchGone)
		reason = ErrBranchGone.Error() + ": " + reason
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed),
		errors.Is(err, transport.ErrRepositoryNotFound):
		out.kinds = append(out.kinds, ErrRefused)
		reason = ErrRefused.Error() + ": " + reason
	default:
		out.kinds = append(out.kinds, ErrUnreachable)
		reason = ErrUnreachable.Error() + ": " + reason
	}
	if cause := ctx.Err(); cause != nil {
		out.kinds = append(out.kinds, cause)
		var late net.Error
		if errors.As(cause, &late) && late.Timeout() {
			reason = "no answer in time: " + reason
		}
	}
	out.text = fmt.Sprintf("gitsync: fetching from %s: %s", r.url, reason)
	return out
}

// sanitise takes secrets, and whatever stands where a URL has credentials or
// a query, out of a text, and makes it one line of bounded length.
func sanitise(s string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
			s = strings.ReplaceAll(s, url.QueryEscape(secret), "***")
			s = strings.ReplaceAll(s, url.PathEscape(secret), "***")
		}
	}
	s = regexp.MustCompile(`://[^/\s"@]*@`).ReplaceAllString(s, "://***@")
	s = regexp.MustCompile(`(https?://[^\s"?]*)\?[^\s"]*`).ReplaceAllString(s, "$1")
	return printable(s)
}

// bounded is a transport whose responses have a limit, and which no response
// leads away from the host.
type bounded struct {
	next http.RoundTripper
	max  int64
}

// RoundTrip sends one request. The text of a refusal is cut, since go-git
// reads it into memory; a response that is too large fails while it is read.
func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := elsewhere(req.URL, res); err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	limit := &limited{body: res.Body, left: b.max}
	if res.StatusCode >= http.StatusBadRequest {
		limit.left, limit.cut = 4<<10, true
	}
	res.Body = limit
	return res, nil
}

// elsewhere is an error for a redirect to another host. Within a host one is
// followed, as for a repository that was renamed; but the register comes from
// where the configuration says, and the token goes nowhere else.
func elsewhere(from *url.URL, res *http.Response) error {
	if res.StatusCode < 300 || res.StatusCode >= 400 {
		return nil
	}
	to, err := from.Parse(res.Header.Get("Location"))
	if err != nil || to.Scheme == from.Scheme && strings.EqualFold(to.Host, from.Host) {
		return nil // the client refuses what is no URL
	}
	return fmt.Errorf("%w: to %s://%s; if that is right, write the new address into register.repository", ErrRedirected, to.Scheme, to.Host)
}

// CloseIdleConnections passes on what http.Client asks for.
func (b *bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// limited is a body that ends, with an error or quietly, after some bytes.
type limited struct {
	body io.ReadCloser
	left int64
	cut  bool // end quietly
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		if l.cut {
			return 0, io.EOF
		}
		// One byte more tells a body of just the limit from a longer one.
		if n, err := l.body.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("the response is %w", ErrTooLarge)
	}
	n, err := l.body.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

func (l *limited) Close() error { return l.body.Close() }
