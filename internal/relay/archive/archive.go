// Package archive is the form in which messages leave a spool and come into
// another: for each a file that is the message as it stands (RFC 5322, lines
// end in CRLF) and a JSON file with its envelope and state. A folder of these
// is an export; on the way they are a tar stream.
//
// The layout, version 1:
//
//	ID.json          version, the spool's entry (id, envelope, size, state, …), and crc32c of the body
//	ID.eml           the message
//	damaged/ID.*     what cannot be imported: .record as it was found, .json, .eml as far as it is there
//	export.json      version, how many there are; the last to be written, so that it says that all is there
//
// A later version may add fields; what this one must not misread has another
// number. Nothing is believed of what is read: names are IDs and nothing else,
// sizes are bounded before they are read, a message is held to its checksum and
// to the form of its lines. Only one message is in memory at a time, and of its
// body no more than a piece.
package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

// Version is of the layout that this code writes, and the newest it reads.
const Version = 1

// Bounds of one message.
const (
	MaxJSON = 32 << 20 // octets of ID.json: an envelope of 10,000 recipients and their last replies
	MaxBody = 1 << 30  // octets of ID.eml, as limits.messageBytes
)

// The names of an export.
const (
	jsonSuffix    = ".json"
	bodySuffix    = ".eml"
	recordSuffix  = ".record"
	damagedFolder = "damaged/"
	SummaryFile   = "export.json"
)

// An Item is ID.json.
type Item struct {
	Version int `json:"version"`
	spool.Entry
	Sum uint32 `json:"crc32c"` // of the body, Castagnoli
}

// A Summary is export.json.
type Summary struct {
	Version  int `json:"version"`
	Messages int `json:"messages"`
	Damaged  int `json:"damaged"` // are in the folder damaged

	Unread bool `json:"unread,omitempty"` // the spool has places that cannot be read, and what is there is missing
}

func newSum() sum { return sum{table: crc32.MakeTable(crc32.Castagnoli)} }

// A sum adds octets up.
type sum struct {
	table *crc32.Table
	value uint32
	n     int64
}

func (s *sum) Write(p []byte) (int, error) {
	s.value = crc32.Update(s.value, s.table, p)
	s.n += int64(len(p))
	return len(p), nil
}

// A Source is the spool that is exported.
type Source interface {
	Body(spool.ID) (io.ReadCloser, error)
	RawBody(spool.ID) (io.ReadCloser, int64, error)
	Damaged() ([]spool.ID, error)
	DamagedRecord(spool.ID) ([]byte, error)
}

var _ Source = (*spool.Spool)(nil)

// A Writer writes an export as a tar stream. After an error nothing more can be
// written.
type Writer struct {
	from Source
	tar  *tar.Writer
	all  Summary
}

// NewWriter begins an export of what is in from.
func NewWriter(from Source, to io.Writer) *Writer {
	return &Writer{from: from, tar: tar.NewWriter(to), all: Summary{Version: Version}}
}

// Add writes one message. One that has gone meanwhile is passed over. One whose
// body is damaged goes where the damaged ones are.
func (w *Writer) Add(e *spool.Entry) error {
	s, err := w.check(e.ID)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return nil
	case errors.Is(err, spool.ErrDamaged):
		return w.damaged(e.ID, nil, &Item{Version, *e, 0})
	case err != nil:
		return err
	}
	body, err := w.from.Body(e.ID) // once more: what is announced must come
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	defer body.Close()
	if err := w.json(string(e.ID)+jsonSuffix, &Item{Version, *e, s.value}); err != nil {
		return err
	}
	if err := w.head(string(e.ID)+bodySuffix, s.n, e.Envelope.Arrival); err != nil {
		return err
	}
	if _, err := io.Copy(w.tar, body); err != nil {
		return fmt.Errorf("archive: writing %s: %w", e.ID, err)
	}
	w.all.Messages++
	return nil
}

// Unread notes that not all of the spool could be read.
func (w *Writer) Unread() { w.all.Unread = true }

// check reads a body to its end.
func (w *Writer) check(id spool.ID) (sum, error) {
	s := newSum()
	body, err := w.from.Body(id)
	if err != nil {
		return s, err
	}
	_, err = io.Copy(&s, body)
	return s, errors.Join(err, body.Close())
}

// AddDamaged writes what was put aside as damaged.
func (w *Writer) AddDamaged() error {
	ids, err := w.from.Damaged()
	if err != nil {
		return fmt.Errorf("archive: listing what is damaged: %w", err)
	}
	for _, id := range ids {
		record, err := w.from.DamagedRecord(id)
		if errors.Is(err, spool.ErrNotFound) {
			continue
		}
		if err == nil {
			err = w.damaged(id, record, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// damaged writes what there is of a damaged message.
func (w *Writer) damaged(id spool.ID, record []byte, item *Item) error {
	name := damagedFolder + string(id)
	at, _ := id.Time()
	w.all.Damaged++
	if item != nil {
		if err := w.json(name+jsonSuffix, item); err != nil {
			return err
		}
	} else if err := w.file(name+recordSuffix, int64(len(record)), at, bytes.NewReader(record)); err != nil {
		return err
	}
	body, size, err := w.from.RawBody(id)
	if errors.Is(err, spool.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer body.Close()
	return w.file(name+bodySuffix, size, at, io.LimitReader(body, size))
}

// Close ends the export with what is in it.
func (w *Writer) Close() (Summary, error) {
	if err := w.json(SummaryFile, w.all); err != nil {
		return w.all, err
	}
	if err := w.tar.Close(); err != nil {
		return w.all, fmt.Errorf("archive: %w", err)
	}
	return w.all, nil
}

func (w *Writer) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("archive: writing %s: %w", name, err)
	}
	text = append(text, '\n')
	return w.file(name, int64(len(text)), time.Time{}, bytes.NewReader(text))
}

func (w *Writer) file(name string, size int64, at time.Time, r io.Reader) error {
	if err := w.head(name, size, at); err != nil {
		return err
	}
	if _, err := io.Copy(w.tar, r); err != nil {
		return fmt.Errorf("archive: writing %s: %w", name, err)
	}
	return nil
}

func (w *Writer) head(name string, size int64, at time.Time) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: at.Truncate(time.Second), Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive: writing %s: %w", name, err)
	}
	return nil
}

// parseName tells of a name in an export which message it belongs to and what
// of it it is; ok is false for every other name.
func parseName(name string) (id spool.ID, suffix string, damaged, ok bool) {
	name, damaged = strings.CutPrefix(name, damagedFolder)
	for _, suffix := range []string{jsonSuffix, bodySuffix, recordSuffix} {
		if stem, has := strings.CutSuffix(name, suffix); has {
			if _, ok := spool.ID(stem).Time(); ok && (damaged || suffix != recordSuffix) {
				return spool.ID(stem), suffix, damaged, true
			}
		}
	}
	return "", "", false, false
}

// isRegular reports whether a member of a tar stream is a plain file.
func isRegular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg && h.FileInfo().Mode().Type() == fs.FileMode(0) && h.Size >= 0
}
