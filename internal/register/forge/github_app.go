package forge

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

// AppOptions say which App, and where it is installed. ID, Installation and
// Key must be set.
type AppOptions struct {
	ID           int64
	Installation int64
	Key          []byte // the App's private key, PEM

	// Reads, if set, is the one repository, owner/name, whose contents a token
	// may read; then it may do nothing else, whatever the App may do.
	Reads string
	// Reviews, with Reads, lets it read the pull requests of the repository and
	// who is in the teams of the organisation as well.
	Reviews bool

	Host      string            // as in GitHubOptions
	Transport http.RoundTripper // as in GitHubOptions
	Wait      time.Duration     // as in GitHubOptions
}

const (
	tokenMargin = 5 * time.Minute // before its end a token is replaced
	jwtLife     = 9 * time.Minute // GitHub takes ten at most
	jwtEarly    = time.Minute     // for a clock that is ahead of GitHub's
	clockOff    = time.Minute     // from when on a refusal is put down to the clock
)

// An App signs in as an installation of a GitHub App. Its key signs a ticket,
// the ticket gets a token for an hour, and a token is replaced before it ends.
// All three stay in memory.
type App struct {
	installation int64
	scope        *github.InstallationTokenOptions // nil: all that the App may do
	forge        *GitHub                          // speaks as the App itself, for tokens and nothing else
	turn         chan struct{}
	token        string    // guarded by turn
	ends         time.Time // guarded by turn
}

// NewApp reads the key. It sends nothing yet.
func NewApp(o AppOptions) (*App, error) {
	if o.ID <= 0 || o.Installation <= 0 {
		return nil, errors.New("forge: an App needs its number and that of its installation")
	}
	key, err := parseKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("forge: the App's key: %w", err)
	}
	ticket := func(context.Context) (string, error) { return newTicket(key, o.ID, time.Now()) }
	// The repository is of no matter here.
	g, err := NewGitHub(GitHubOptions{Repository: "app/app", Host: o.Host, Token: ticket, Transport: o.Transport, Wait: o.Wait})
	if err != nil {
		return nil, err
	}
	a := &App{installation: o.Installation, forge: g, turn: make(chan struct{}, 1)}
	a.turn <- struct{}{}
	if o.Reads != "" {
		_, name, _ := strings.Cut(o.Reads, "/")
		if !repositoryName.MatchString(o.Reads) {
			return nil, fmt.Errorf("forge: %q is not a repository: write owner/name", printable(o.Reads, 100))
		}
		a.scope = &github.InstallationTokenOptions{
			Repositories: []string{name},
			Permissions:  &github.InstallationPermissions{Contents: github.String("read")},
		}
		if o.Reviews {
			a.scope.Permissions.PullRequests, a.scope.Permissions.Members = github.String("read"), github.String("read")
		}
	}
	return a, nil
}

// parseKey reads a private RSA key as GitHub hands it out. What is wrong with
// it is said without a byte of it.
func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is no PEM file")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("it is no private RSA key")
}

// newTicket is a JSON Web Token (RFC 7519), signed with RS256 (RFC 7518 §3.3).
func newTicket(key *rsa.PrivateKey, app int64, now time.Time) (string, error) {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iat":%d,"exp":%d,"iss":%q}`, now.Add(-jwtEarly).Unix(), now.Add(jwtLife).Unix(), strconv.FormatInt(app, 10))
	text := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("forge: signing in as an App: %w", err)
	}
	return text + "." + encode(signature), nil
}

// Token is a TokenSource: the token in hand if it holds for a while, else a
// new one. Those who ask meanwhile wait for it.
func (a *App) Token(ctx context.Context) (string, error) {
	select {
	case <-a.turn:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { a.turn <- struct{}{} }()
	if a.token != "" && time.Now().Before(a.ends.Add(-tokenMargin)) {
		return a.token, nil
	}
	var got *github.InstallationToken
	var answer *github.Response
	// A second token for one question does no harm.
	err := a.forge.read(ctx, "signing in as an App", func(ctx context.Context) (resp *github.Response, err error) {
		got, answer, err = a.forge.client.Apps.CreateInstallationToken(ctx, a.installation, a.scope)
		return answer, err
	})
	if err != nil {
		return "", blameClock(err, answer, time.Now())
	}
	if got.GetToken() == "" || !time.Now().Before(got.GetExpiresAt().Time) {
		return "", fmt.Errorf("forge: signing in as an App: %w: no token that holds", ErrIncomplete)
	}
	a.token, a.ends = got.GetToken(), got.GetExpiresAt().Time
	return a.token, nil
}

// Forget has the next call of Token ask for a new one, as the forge may end a
// token before its time. It reports whether there was one to forget.
func (a *App) Forget(ctx context.Context) bool {
	select {
	case <-a.turn:
	case <-ctx.Done():
		return false
	}
	defer func() { a.turn <- struct{}{} }()
	had := a.token != ""
	a.token = ""
	return had
}

// blameClock says so where a ticket was refused and this machine's clock
// differs from the forge's: a ticket holds from one time to another.
func blameClock(err error, answer *github.Response, now time.Time) error {
	if !errors.Is(err, ErrRefused) || answer == nil || answer.Response == nil {
		return err
	}
	at, wrong := http.ParseTime(answer.Header.Get("Date"))
	if wrong != nil {
		return err
	}
	off, way := now.Sub(at).Round(time.Second), "ahead of"
	if off < 0 {
		off, way = -off, "behind"
	}
	if off < clockOff {
		return err
	}
	return fmt.Errorf("%w: %s %s the forge's; have it set by NTP: %w", ErrClock, off, way, err)
}

// Account is the account that comments of the App are written by.
func (a *App) Account(ctx context.Context) (Account, error) {
	var app *github.App
	err := a.forge.read(ctx, "reading the App", func(ctx context.Context) (resp *github.Response, err error) {
		app, resp, err = a.forge.client.Apps.Get(ctx, "")
		return resp, err
	})
	if err != nil {
		return Account{}, err
	}
	login := app.GetSlug() + "[bot]"
	var user *github.User
	err = a.forge.read(ctx, "reading the App's account", func(ctx context.Context) (resp *github.Response, err error) {
		user, resp, err = a.forge.client.Users.Get(ctx, login)
		return resp, err
	})
	if err == nil && (user.GetID() == 0 || user.GetLogin() != login) {
		err = fmt.Errorf("forge: reading the App's account: %w", ErrIncomplete)
	}
	return Account{ID: user.GetID(), Login: user.GetLogin()}, err
}
