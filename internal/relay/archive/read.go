package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A Sink is where messages are imported to.
type Sink interface {
	// Import stores a message; see spool.Spool.Import.
	Import(ctx context.Context, e *spool.Entry, body io.Reader, again bool) error
	// Sync returns when all that was imported lasts.
	Sync() error
}

// A Report is what became of an import. Everything that it counts is on stable
// storage.
type Report struct {
	Imported int       `json:"imported"`
	Present  int       `json:"present"` // are in the spool already
	Before   int       `json:"before"`  // were imported before, and have left the spool since
	Refused  int       `json:"refused"`
	Reasons  []Refusal `json:"reasons,omitempty"` // of the first so many refused
	Whole    bool      `json:"whole"`             // export.json came, and says that all is there
}

// A Refusal says why something was not imported.
type Refusal struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Refuse notes one more that is not imported.
func (r *Report) Refuse(one Refusal) {
	r.Refused++
	if len(r.Reasons) < maxReasons {
		r.Reasons = append(r.Reasons, one)
	}
}

// maxReasons bounds the reasons that a Report gives.
const maxReasons = 100

// errRefused is what is wrong with one message; the others go on.
var errRefused = errors.New("archive: refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errRefused, fmt.Errorf(format, args...))
}

// syncEvery is how many messages share a sync.
const syncEvery = 256

// Read imports a tar stream. What is wrong with one message is in the report,
// and the others are imported; the error is of the stream or of the disk, and
// then the report still tells what has been imported for good.
func Read(ctx context.Context, from io.Reader, to Sink, again bool) (report Report, err error) {
	in := &reader{tar: tar.NewReader(from), to: to, again: again}
	var safe Report // as it was at the last sync
	for n := 0; ; n++ {
		more, err := in.next(ctx)
		if err == nil && (!more || n%syncEvery == syncEvery-1) {
			if err = to.Sync(); err == nil {
				safe = in.report
			}
		}
		if err != nil {
			return safe, err
		}
		if !more {
			in.report.Whole = in.report.Whole && in.seen == in.summary.Messages
			return in.report, nil
		}
	}
}

type reader struct {
	tar     *tar.Reader
	to      Sink
	again   bool
	report  Report
	seen    int // messages, however they fared
	summary Summary
}

func (r *reader) refuse(name string, err error) {
	r.report.Refuse(Refusal{printable(name), printable(err.Error())})
}

// next takes one message, or what else comes.
func (r *reader) next(ctx context.Context) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	h, err := r.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("archive: reading: %w", err)
	}
	if h.Name == SummaryFile {
		return true, r.end(h)
	}
	id, suffix, damaged, ok := parseName(h.Name)
	switch {
	case damaged:
		return true, nil // what is damaged stays where it is
	case !ok || !isRegular(h):
		if h.Typeflag != tar.TypeDir {
			r.refuse(h.Name, errors.New("this is no file of an export"))
		}
		return true, nil
	case suffix != jsonSuffix:
		r.refuse(h.Name, errors.New("no envelope comes before it"))
		return true, nil
	}
	r.seen++
	item, err := readItem(r.tar, h.Size, id)
	if err != nil {
		if !errors.Is(err, errRefused) {
			return false, err
		}
		r.refuse(h.Name, err)
	}
	h, err = r.tar.Next()
	if err != nil {
		return false, fmt.Errorf("archive: %s has no body: %w", id, err)
	}
	if of, suffix, damaged, _ := parseName(h.Name); of != id || suffix != bodySuffix || damaged || !isRegular(h) {
		return false, fmt.Errorf("archive: after %s%s comes %q, and not its body", id, jsonSuffix, printable(h.Name))
	}
	if item == nil {
		return true, nil
	}
	return true, r.take(ctx, item, h)
}

// end reads export.json.
func (r *reader) end(h *tar.Header) error {
	if h.Size > 4<<10 {
		return fmt.Errorf("archive: %s is too long", SummaryFile)
	}
	if err := r.decodeSummary(r.tar); err != nil {
		return err
	}
	r.report.Whole = true
	return nil
}

func (r *reader) decodeSummary(from io.Reader) error {
	if err := json.NewDecoder(from).Decode(&r.summary); err != nil {
		return fmt.Errorf("archive: reading %s: %w", SummaryFile, err)
	}
	if r.summary.Version > Version {
		return newer(r.summary.Version)
	}
	return nil
}

func newer(version int) error {
	return fmt.Errorf("archive: the export is of a newer version (%d, this one knows %d): import it with that gatepost", version, Version)
}

// readItem reads ID.json.
func readItem(from io.Reader, size int64, id spool.ID) (*Item, error) {
	if size > MaxJSON {
		return nil, refused("its envelope has %d octets; %d are the most", size, int64(MaxJSON))
	}
	text, err := io.ReadAll(io.LimitReader(from, size))
	if err != nil {
		return nil, fmt.Errorf("archive: reading: %w", err)
	}
	var item Item
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&item); err != nil {
		return nil, refused("its envelope: %w", err)
	}
	switch {
	case item.Version > Version:
		return nil, newer(item.Version)
	case item.Version < 1:
		return nil, refused("its envelope has no version")
	case item.ID != id:
		return nil, refused("the envelope is of %q", string(item.ID))
	}
	if what := faultOf(&item.Envelope); what != "" {
		return nil, refused("its envelope: %s", what)
	}
	return &item, nil
}

// faultOf is what an envelope says that no client could have said; "" if there
// is nothing. Addresses are the spool's to check; what is in the rest becomes
// parameters of commands, or is shown.
func faultOf(env *mail.Envelope) string {
	if !slices.Contains([]mail.BodyType{mail.BodyDefault, mail.Body7Bit, mail.Body8Bit}, env.Body) {
		return "body is no type that is known"
	}
	if !slices.Contains([]string{"", "FULL", "HDRS"}, env.Ret) {
		return "ret is neither FULL nor HDRS"
	}
	for name, text := range map[string]string{"envID": env.EnvID, "helo": env.HELO, "protocol": env.Protocol, "tls": env.TLS, "registration": env.Registration, "commit": env.Commit} {
		if len(text) > maxWord || !isPrintable(text) {
			return name + " is not one line of printable characters"
		}
	}
	for _, to := range env.To {
		if to.Notify != "" && to.Notify != "NEVER" {
			for word := range strings.SplitSeq(to.Notify, ",") {
				if !slices.Contains([]string{"SUCCESS", "FAILURE", "DELAY"}, word) {
					return "notify is no list that is known"
				}
			}
		}
		if len(to.ORcpt) > maxWord || !isPrintable(to.ORcpt) {
			return "orcpt is not one line of printable characters"
		}
	}
	return ""
}

// maxWord bounds what is one word of an envelope, in octets.
const maxWord = 4 << 10

func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// printable is what a stranger wrote, for a person.
func printable(s string) string { return mail.Printable(s, 300) }

// take imports one message.
func (r *reader) take(ctx context.Context, item *Item, h *tar.Header) error {
	if h.Size > MaxBody || h.Size != item.Size {
		r.refuse(h.Name, fmt.Errorf("it has %d octets, its envelope says %d, and %d are the most", h.Size, item.Size, int64(MaxBody)))
		return nil
	}
	body := &checked{from: r.tar, sum: newSum(), want: item.Sum}
	err := r.to.Import(ctx, &item.Entry, body, r.again)
	switch {
	case err == nil:
		r.report.Imported++
	case errors.Is(err, spool.ErrPresent):
		r.report.Present++
	case errors.Is(err, spool.ErrDuplicate):
		r.report.Before++
	case body.broken != nil && !errors.Is(body.broken, errRefused):
		return fmt.Errorf("archive: reading %s: %w", h.Name, body.broken)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrFailed), errors.Is(err, spool.ErrClosed):
		return err
	default:
		r.refuse(h.Name, err)
	}
	return nil
}

// A checked reader hands a body on as long as its lines are what a spool holds:
// they end in CRLF, and there is no other CR or LF. Otherwise a next hop might
// see two messages where this relay sees one. At the end it holds the body to
// its checksum.
type checked struct {
	from   io.Reader
	sum    sum
	want   uint32
	cr     bool // the last octet was a CR
	last   byte
	broken error
}

func (c *checked) Read(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	n, err := c.from.Read(p)
	_, _ = c.sum.Write(p[:n])
	for _, b := range p[:n] {
		if c.cr != (b == '\n') {
			c.broken = refused("a line does not end in CRLF")
			return 0, c.broken
		}
		c.cr, c.last = b == '\r', b
	}
	if err == io.EOF {
		switch {
		case c.sum.n > 0 && c.last != '\n':
			c.broken = refused("its last line does not end in CRLF")
		case c.sum.value != c.want:
			c.broken = refused("it is not the message that was exported: the checksum differs")
		default:
			return n, io.EOF
		}
		return 0, c.broken
	}
	c.broken = err
	return n, err
}
