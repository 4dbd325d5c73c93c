package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/reconcile"
)

// secretMax bounds a file that holds a token, a key or a secret, in octets.
const secretMax = 16 << 10

// readSecret reads a file that holds one secret and nothing else, without the
// white space around it.
func readSecret(path string) ([]byte, error) {
	data, err := durable.ReadFile(path, secretMax)
	return bytes.TrimSpace(data), err
}

// readToken reads a token file.
func readToken(path string) (string, error) {
	data, err := readSecret(path)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return string(data), nil
}

// token is the forge's token for one fetch; "" without one.
func (s *settings) token(ctx context.Context) (string, error) {
	g := s.current.Load().Register
	switch {
	case g.App != nil:
		return s.app.token(ctx, g)
	case g.TokenFile != "":
		return readToken(g.TokenFile)
	}
	return "", nil
}

// appPatience is how long one sign-in waits for the forge's limits and for a
// forge that is busy; the next round tries again anyway.
const appPatience = 5 * time.Second

// An app signs in as the GitHub App of the configuration, whichever that is by
// now, with the key that is in its file by now. The zero value is ready.
type app struct {
	reviews bool // its tokens read pull requests and teams as well

	mu     sync.Mutex
	client *forge.App // guarded by mu, as of; nil: none yet
	of     appID
}

// An appID is what a client was made of.
type appID struct {
	config.App
	repository, key string
	reviews         bool
}

func (a *app) token(ctx context.Context, g config.Register) (string, error) {
	client, err := a.current(g)
	if err != nil {
		return "", err
	}
	token, err := client.Token(ctx)
	switch {
	case errors.Is(err, forge.ErrLimited):
		return "", kindOf{err, gitsync.ErrLimited}
	case errors.Is(err, forge.ErrUnreachable), errors.Is(err, forge.ErrIncomplete):
		return "", kindOf{err, gitsync.ErrUnreachable}
	}
	return token, err // the rest is a refusal
}

// current is the client for the App of g.
func (a *app) current(g config.Register) (*forge.App, error) {
	key, err := durable.ReadFile(g.App.KeyFile, secretMax)
	if err != nil {
		return nil, fmt.Errorf("reading the App's key: %w", err)
	}
	of := appID{*g.App, g.Repository, string(key), a.reviews}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil || a.of != of {
		client, err := newApp(of)
		if err != nil {
			return nil, err
		}
		a.client, a.of = client, of
	}
	return a.client, nil
}

func newApp(of appID) (*forge.App, error) {
	host, repository, err := forge.ParseURL(of.repository)
	if err != nil {
		return nil, err
	}
	client, err := forge.NewApp(forge.AppOptions{
		ID: of.ID, Installation: of.Installation, Key: []byte(of.key), Host: host, Reads: repository, Reviews: of.reviews, Wait: appPatience,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", of.KeyFile, err)
	}
	return client, nil
}

// forget has the next token be a new one; it reports whether there was one in
// hand.
func (a *app) forget(ctx context.Context) bool {
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	return client != nil && client.Forget(ctx)
}

// A kindOf is an error of one package with its kind in the words of another.
type kindOf struct {
	error
	kind error
}

func (e kindOf) Unwrap() []error { return []error{e.error, e.kind} }

// A source is the register's mirror. A token that its host ended before its
// time (an App that was installed anew, say) is replaced at once.
type source struct {
	*gitsync.Mirror
	forget func(context.Context) bool
}

var _ reconcile.Source = source{}

func (s source) Fetch(ctx context.Context) (gitsync.Hash, error) {
	head, err := s.Mirror.Fetch(ctx)
	if errors.Is(err, gitsync.ErrRefused) && s.forget(ctx) {
		return s.Mirror.Fetch(ctx)
	}
	return head, err
}

// A warning is a finding that does not stop the relay.
type warning struct{ problem, hint string }

// warnings are those of the configuration, and of the files with secrets that
// it names: others than the relay's account may read one, or its group may
// write it.
func warnings(c *config.Relay) (out []warning) {
	for _, w := range c.Warnings {
		out = append(out, warning{w.String(), w.Hint})
	}
	files := []struct{ field, path string }{{"tls.key", c.TLS.Key}, {"register.tokenFile", c.Register.TokenFile}}
	if a := c.Register.App; a != nil {
		files = append(files, struct{ field, path string }{"register.app.keyFile", a.KeyFile})
	}
	if h := c.Register.Webhook; h != nil {
		files = append(files, struct{ field, path string }{"register.webhook.secretFile", h.SecretFile})
	}
	if p := c.Listen.Portal; p != nil {
		files = append(files, struct{ field, path string }{"listen.portal.tokenFile", p.TokenFile}, struct{ field, path string }{"listen.portal.operatorTokenFile", p.OperatorTokenFile})
	}
	for i, k := range c.Deliver.DKIM {
		files = append(files, struct{ field, path string }{fmt.Sprintf("deliver.dkim[%d].keyFile", i), k.KeyFile})
	}
	for _, f := range files {
		if who := exposed(f.path); who != "" {
			out = append(out, exposedWarning(f.field, f.path, who))
		}
	}
	for i, a := range c.Deliver.Source {
		probe, err := net.ListenPacket("udp", net.JoinHostPort(a.String(), "0")) // as bound as a connection would be
		if err != nil {
			out = append(out, warning{fmt.Sprintf("deliver.source[%d]: %s cannot be used on this machine now: %v", i, a, err), "until it is an address of this machine, mail to next hops of its family waits"})
			continue
		}
		_ = probe.Close()
	}
	if info, err := os.Stat(c.Blocks.File); c.Blocks.File != "" && err == nil && info.Mode().Perm()&0o002 != 0 { // its group may: a program writes it
		out = append(out, warning{fmt.Sprintf("blocks.file: %s says who may not send, and everybody on this machine may write it", c.Blocks.File), "chmod o-w " + c.Blocks.File})
	}
	if v := c.Register.Verify; v != nil {
		for _, file := range v.Keys {
			if who := writable(file); who != "" {
				out = append(out, warning{fmt.Sprintf("register.verify.keys: %s says who may approve, and %s", file, who), "chmod 0644 " + file})
			}
		}
	}
	return out
}

func exposedWarning(field, path, who string) warning {
	return warning{fmt.Sprintf("%s: %s holds a secret, and %s", field, path, who), "chmod 0640 " + path + ", or 0600"}
}

// exposed says who else may use a file; "" if nobody may, or there is none.
func exposed(path string) string {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return ""
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return "everybody on this machine may write it"
	case mode&0o004 != 0:
		return "everybody on this machine may read it"
	case mode&0o020 != 0:
		return "its group may write it"
	}
	return ""
}
