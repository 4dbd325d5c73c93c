package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"example.edu/gatepost/internal/status"
)

const (
	maxMails   = 250_000          // addresses of one relay
	maxMailAll = 64 << 20         // octets of its answer
	mailsFor   = 2 * time.Minute  // what was said of all addresses is good
	mailsWait  = 20 * time.Second // for one relay
)

// mails is what the relays said last of all addresses.
type mails struct {
	turn chan struct{} // holds one token: one asks, the others wait

	at   time.Time // guarded by turn, as what follows
	last map[netip.Addr]time.Time
	all  bool
}

func newMails() mails {
	m := mails{turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	return m
}

// LastMail is when each registered address sent last, by whichever relay saw it,
// as it was two minutes ago at most; it must not be changed. all reports that
// every relay has said so: of an address that is not there, no mail is known
// then, by any. The error is that of ctx.
func (f *Fleet) LastMail(ctx context.Context) (last map[netip.Addr]time.Time, all bool, err error) {
	select {
	case <-f.mails.turn:
		defer func() { f.mails.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if !f.mails.at.IsZero() && time.Since(f.mails.at) < mailsFor {
		return f.mails.last, f.mails.all, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mailsWait)
	defer cancel()
	lists := make([][]status.LastMail, len(f.relays))
	failed := make([]error, len(f.relays))
	var asking sync.WaitGroup
	for i, r := range f.relays {
		asking.Go(func() { lists[i], failed[i] = r.mails(ctx) })
	}
	asking.Wait()
	last, all = map[netip.Addr]time.Time{}, len(f.relays) > 0
	for i := range f.relays {
		all = all && failed[i] == nil
		for _, m := range lists[i] {
			if ip := m.IP.Unmap(); m.Last.After(last[ip]) {
				last[ip] = m.Last
			}
		}
	}
	if ctx.Err() == nil { // who went away costs the next one nothing
		f.mails.at, f.mails.last, f.mails.all = time.Now(), last, all
	}
	return last, all, nil
}

func (r *relay) mails(ctx context.Context) ([]status.LastMail, error) {
	release, err := r.claimIfUp(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return r.client.Mails(ctx)
}

// Mails is when each registered address sent first and last, as this relay saw
// it.
func (c *client) Mails(ctx context.Context) ([]status.LastMail, error) {
	token, err := readToken(c.source.TokenFile)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, http.MethodGet, "mails", token, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	in := &io.LimitedReader{R: resp.Body, N: maxMailAll}
	lines := bufio.NewScanner(in)
	var list []status.LastMail
	for lines.Scan() {
		var m status.LastMail
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || !m.IP.IsValid() {
			return nil, errors.New("its answer is not understood; are the portal and the relay of versions that fit?")
		}
		if list = append(list, m); len(list) > maxMails {
			return nil, fmt.Errorf("it knows of more than %d addresses", maxMails)
		}
	}
	switch {
	case in.N <= 0:
		return nil, fmt.Errorf("its answer is longer than %d octets", maxMailAll)
	case lines.Err() != nil:
		return nil, errors.New("its answer broke off")
	}
	return list, nil
}
