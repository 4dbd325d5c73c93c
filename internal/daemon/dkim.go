package daemon

import (
	"context"
	"fmt"
	"sync/atomic"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/relay/dkim"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

// dkimHint is what to do about a key that cannot be used.
const dkimHint = "openssl genrsa 2048 makes a key; the file holds it in PEM, and gatepostd must be able to read it"

// signatures are the DKIM keys, and the watch over their files.
type signatures struct {
	ring    *dkim.Ring
	watched *watch.Watcher
	failure atomic.Pointer[string] // of the last reading; "" if it was good
}

// readDKIM reads the keys of the configuration.
func readDKIM(c *config.Relay) (*dkim.Ring, error) {
	var keys []dkim.Key
	for _, k := range c.Deliver.DKIM {
		keys = append(keys, dkim.Key{Domain: k.Domain, Selector: k.Selector, File: k.KeyFile, Subdomains: k.Subdomains})
	}
	return dkim.Open(keys)
}

// openDKIM reads the keys that mail is signed with; without any in the
// configuration, nothing.
func (r *relay) openDKIM(c *config.Relay, s *lifecycle.Steps) (err error) {
	if len(c.Deliver.DKIM) == 0 {
		return nil
	}
	k := &signatures{}
	k.failure.Store(new(string))
	var files []string
	for _, key := range c.Deliver.DKIM {
		files = append(files, key.KeyFile)
	}
	if k.watched, err = watch.New(files); err != nil { // first: what changes after the first reading is seen
		return err
	}
	s.Later("watch of the DKIM keys", k.watched.Close)
	if k.ring, err = readDKIM(c); err != nil {
		return fmt.Errorf("deliver.dkim: %w; %s", err, dkimHint)
	}
	r.dkim = k
	return nil
}

// watchDKIM has new keys taken up.
func (r *relay) watchDKIM(ctx context.Context) error {
	return r.dkim.watched.Run(ctx, filesQuiet, filesPoll, r.reloadDKIM)
}

// reloadDKIM replaces the keys, or keeps those before and says why.
func (r *relay) reloadDKIM() {
	text := ""
	changed, err := r.dkim.ring.Reload()
	switch {
	case err != nil:
		text = err.Error()
		r.log.Error("the DKIM keys before stay in use", "event", "dkim.failed", "err", err, "hint", dkimHint)
	case changed:
		r.log.Info("DKIM keys loaded", "event", "dkim.loaded", "records", r.dkim.ring.Records())
	}
	r.dkim.failure.Store(&text)
}

func (k *signatures) report() *status.DKIM { return &status.DKIM{Error: *k.failure.Load()} }
