// Package credential is as whom a daemon comes to the register's host: with a
// token in a file, or signed in as a GitHub App. Files are read anew each time,
// so that a new token or key needs no restart.
//
// It keeps an App's tokens in memory only, and no secret is in any error.
package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
)

// MaxSecret bounds a file that holds a token, a key or a secret, in octets.
const MaxSecret = 16 << 10

// patience is how long one sign-in waits for the forge's limits and for a forge
// that is busy; the next round tries again anyway.
const patience = 5 * time.Second

// An App is a GitHub App as the configuration names it.
type App struct {
	ID           int64
	Installation int64
	KeyFile      string
}

// A Want is what the configuration says: an App, or else a file with a token,
// or neither.
type Want struct {
	Repository string // its address, at the host that the App is of
	TokenFile  string
	App        *App
}

// An Access is what an App's tokens may do, whatever the App itself may.
type Access uint8

// The accesses.
const (
	Contents Access = iota // read the repository's contents
	Reviews                // and its pull requests, and who is in the organisation's teams
	All                    // whatever the App may
)

// A Holder signs in as the App of a Want, whichever that is by now, with the key
// that is in its file by now. The zero value is ready, and safe for concurrent
// use.
type Holder struct {
	Access Access // set before the first use

	mu     sync.Mutex
	client *forge.App // guarded by mu, as of; nil: none yet
	of     identity
}

// An identity is what a client was made of.
type identity struct {
	App
	repository, key string
}

// Token is the forge's token for one use; "" without one. An error of the forge
// is one of gitsync's kinds too.
func (h *Holder) Token(ctx context.Context, w Want) (string, error) {
	switch {
	case w.App != nil:
		client, err := h.App(w)
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
	case w.TokenFile != "":
		return ReadToken(w.TokenFile)
	}
	return "", nil
}

// App is the client for the App of a Want.
func (h *Holder) App(w Want) (*forge.App, error) {
	key, err := durable.ReadFile(w.App.KeyFile, MaxSecret)
	if err != nil {
		return nil, fmt.Errorf("reading the App's key: %w", err)
	}
	of := identity{*w.App, w.Repository, string(key)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == nil || h.of != of {
		client, err := h.signIn(of)
		if err != nil {
			return nil, err
		}
		h.client, h.of = client, of
	}
	return h.client, nil
}

func (h *Holder) signIn(of identity) (*forge.App, error) {
	host, repository, err := forge.ParseURL(of.repository)
	if err != nil {
		return nil, err
	}
	o := forge.AppOptions{ID: of.ID, Installation: of.Installation, Key: []byte(of.key), Host: host, Wait: patience}
	if h.Access != All {
		o.Reads, o.Reviews = repository, h.Access == Reviews
	}
	client, err := forge.NewApp(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", of.KeyFile, err)
	}
	return client, nil
}

// Forget has the next token be a new one; it reports whether there was one in
// hand.
func (h *Holder) Forget(ctx context.Context) bool {
	h.mu.Lock()
	client := h.client
	h.mu.Unlock()
	return client != nil && client.Forget(ctx)
}

// ReadSecret reads a file that holds one secret and nothing else, without the
// white space around it.
func ReadSecret(path string) ([]byte, error) {
	data, err := durable.ReadFile(path, MaxSecret)
	return bytes.TrimSpace(data), err
}

// ReadToken reads a token file.
func ReadToken(path string) (string, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return string(data), nil
}

// A kindOf is an error of one package with its kind in the words of another.
type kindOf struct {
	error
	kind error
}

func (e kindOf) Unwrap() []error { return []error{e.error, e.kind} }

// A Mirror is a mirror of the register whose token, if its host ended it before
// its time (an App that was installed anew, say), is replaced at once.
type Mirror struct {
	*gitsync.Mirror
	Holder *Holder
}

// Fetch is gitsync's, with one more try.
func (m Mirror) Fetch(ctx context.Context) (gitsync.Hash, error) {
	head, err := m.Mirror.Fetch(ctx)
	if errors.Is(err, gitsync.ErrRefused) && m.Holder.Forget(ctx) {
		return m.Mirror.Fetch(ctx)
	}
	return head, err
}
