package demo

import (
	"bytes"
	"context"
	"strings"

	"example.edu/gatepost/internal/register/forge"
)

// deedsOf looks at what has become of the tour's address: at the requests of the
// register, at the inbox, and at what the button has sent. What cannot be read
// has not happened yet.
func deedsOf(ctx context.Context, register string, d *desk) deeds {
	done := deeds{proved: d.proved(suggested), live: d.box.confirmed(suggested), sent: d.delivered(suggested)}
	git, err := forge.OpenGit(register)
	if err != nil {
		return done
	}
	list, err := git.List(ctx, "")
	if err != nil {
		return done
	}
	const most = 50 // requests that are looked into, the newest
	for _, r := range list[:min(len(list), most)] {
		if r.State == forge.Closed {
			continue
		}
		files, err := git.Files(ctx, r)
		if err != nil {
			continue
		}
		for _, f := range files {
			if bytes.Contains(f.Data, []byte(`"`+suggested+`"`)) {
				done.requested, done.number = true, r.Number
				done.merged = done.merged || r.State == forge.Merged
			}
		}
	}
	return done
}

// confirmed reports whether the confirmation of an address has arrived.
func (b *inbox) confirmed(address string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.letters {
		if strings.HasPrefix(l.Subject, "Your address "+address+" ") {
			return true
		}
	}
	return false
}
