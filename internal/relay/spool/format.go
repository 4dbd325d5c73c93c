package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of the layout below Dir that this code reads and
// writes: keys, records and file names. A newer one is refused on Open, an
// older one is brought up.
//
// It stands in two places. The file created names the newest format that may
// have been written here, so that an older relay sees it before its engine sees
// anything; the key mformat names the one that all of the engine has reached.
// They differ while a spool is brought up.
//
// A record has a version of its own. One that can be told from the others by
// that needs no new format: both are read, and the older ones go with their
// messages.
const Format = 2

// An upgrade brings a spool from one format to the next. It may be cut off
// between any two writes and is then begun again, so it must leave alone what
// it has done before; while it runs, nobody else uses the spool.
type upgrade struct {
	what string // for the log
	run  func(*Spool) error
}

// upgrades are those from format 1 to 2, from 2 to 3, and so on up to Format.
func upgrades() []upgrade {
	return []upgrade{
		// An older relay would look for the file of a body by the ID alone, so it
		// must not open the spool. What it wrote is read as it is: see entryRecord.
		{"records say in which file a long body is", func(*Spool) error { return nil }},
	}
}

// format is what a spool with these upgrades is brought up to.
func (t tuning) format() int { return 1 + len(t.upgrades) }

// created names the file that says that the engine was once made in full, and
// in which format: "format 1". Empty, as the first relays made it, it says 1.
const created = "created"

// maxCreated bounds what is read of it, in octets.
const maxCreated = 64

// keyFormat is the key of the format in the engine, in decimal.
var keyFormat = []byte("mformat") // read-only

// checkCreated reads the file created, before the engine is touched: what a
// newer relay has written would be an error in the engine's words. 0: there is
// none.
func (s *Spool) checkCreated() (format int, err error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.dir, created))
	if isNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("spool: reading the format version: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCreated))
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("spool: reading the format version: %w", err)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return 1, nil
	}
	if _, err := fmt.Sscanf(string(text), "format %d", &format); err != nil || format < 1 {
		return 0, fmt.Errorf("spool: %s holds no spool: its file %s says %q", s.dir, created, text)
	}
	return format, s.newer(format)
}

// newer is an error if a format is one that this code does not know.
func (s *Spool) newer(format int) error {
	if known := s.tuning.format(); format > known {
		return fmt.Errorf("spool: %s was written by a newer gatepostd (format %d, this one knows %d): start that one again, or let it drain the spool first; gatepost queue export and import carry messages over", s.dir, format, known)
	}
	return nil
}

// bringUp makes a new spool, or an older one what this code works with. made is
// what the file created says.
func (s *Spool) bringUp(made int) error {
	value, found, err := s.get(keyFormat)
	if err != nil {
		return fmt.Errorf("spool: reading the format version: %w", err)
	}
	format := s.tuning.format()
	at := format // a new spool
	if found {
		if _, err := fmt.Sscanf(string(value), "%d", &at); err != nil || at < 1 {
			return fmt.Errorf("spool: %s holds no spool: its format version is %q", s.dir, value)
		}
		if err := s.newer(at); err != nil {
			return err
		}
	} else if err := s.markFormat(format); err != nil {
		return err
	}
	if made < format { // before anything of the kind is written
		if err := s.markCreated(format); err != nil {
			return err
		}
	}
	for ; at < format; at++ {
		u := s.upgrades[at-1]
		s.log.Info("the spool is brought up to a newer format", "event", "spool.upgrade", "format", at+1, "what", u.what)
		if err := u.run(s); err != nil {
			return fmt.Errorf("spool: bringing %s up to format %d (%s); the next start goes on with it: %w", s.dir, at+1, u.what, err)
		}
		if err := s.markFormat(at + 1); err != nil {
			return err
		}
	}
	return nil
}

// markFormat says that all of the engine is of a format.
func (s *Spool) markFormat(format int) error {
	return s.apply(func(b *pebble.Batch) error { return b.Set(keyFormat, fmt.Append(nil, format), nil) }, pebble.Sync)
}

// markCreated replaces the file created, for good.
func (s *Spool) markCreated(format int) error {
	path := s.fs.PathJoin(s.dir, created)
	f, err := s.fs.Create(path+tmpSuffix, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = fmt.Fprintf(f, "format %d\n", format)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = s.fs.Rename(path+tmpSuffix, path)
	}
	if err == nil {
		err = s.syncDir(s.dir)
	}
	if err != nil {
		return s.noSpace("marking the spool as made", err)
	}
	return nil
}

// rewrite replaces values, piece by piece, each piece in one synced batch, for
// an upgrade. change returns the new value, or nil for one that is as it should
// be. The old one is deleted first: a key that was set twice could not be taken
// away with SingleDelete.
func (s *Spool) rewrite(prefix byte, change func(key, value []byte) ([]byte, error)) error {
	var piece []pair
	octets := 0
	flush := func() error {
		if len(piece) == 0 {
			return nil
		}
		err := s.apply(func(b *pebble.Batch) error {
			for _, p := range piece {
				if err := errors.Join(b.Delete(p.key, nil), b.Set(p.key, p.value, nil)); err != nil {
					return err
				}
			}
			return nil
		}, pebble.Sync)
		piece, octets = nil, 0
		return err
	}
	err := s.scan(prefix, func(key, value []byte) error {
		next, err := change(key, value)
		if err != nil || next == nil {
			return err
		}
		piece = append(piece, pair{bytes.Clone(key), next})
		if octets += len(key) + len(next); len(piece) < scanRecords && octets < scanOctets {
			return nil
		}
		return flush()
	})
	return errors.Join(err, flush())
}
