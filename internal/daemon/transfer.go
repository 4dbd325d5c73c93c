package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/relay/archive"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// exportPiece is how many messages are looked up at a time: a slow reader must
// not keep the engine at what the queue was at the beginning.
const exportPiece = 32

// An ExportOrder says what is exported.
type ExportOrder struct {
	Filter queue.Filter `json:"filter,omitzero"`
	All    bool         `json:"all,omitempty"` // the whole queue, and what was put aside as damaged
}

// exportQueue streams messages as they are. It breaks off on an error: what
// comes without its end is not whole.
func (r *relay) exportQueue(w http.ResponseWriter, req *http.Request) {
	var o ExportOrder
	if !understood(w, req, &o) {
		return
	}
	unhurried(w)
	w.Header().Set("Content-Type", "application/x-tar")
	out := archive.NewWriter(r.spool, steady{w})
	err := exportPieces(req.Context(), out, func(after spool.ID, fn func(*spool.Entry) error) error {
		f := o.Filter
		f.Limit = exportPiece
		return r.queue.ListAfter(after, f, func(row *queue.Row) error { return fn(row.Entry) })
	})
	if err == nil && o.All {
		err = out.AddDamaged()
	}
	var all archive.Summary
	if err == nil {
		all, err = out.Close()
	}
	if err != nil {
		r.log.Warn("an export of the queue broke off", "event", "control.failed", "err", err)
		panic(http.ErrAbortHandler)
	}
	r.log.Info("messages were exported", "event", "queue.exported", "messages", all.Messages, "damaged", all.Damaged)
}

// exportPieces writes what list finds, piece by piece.
func exportPieces(ctx context.Context, out *archive.Writer, list func(after spool.ID, fn func(*spool.Entry) error) error) error {
	var after spool.ID
	for {
		var piece []*spool.Entry
		err := list(after, func(e *spool.Entry) error {
			piece = append(piece, e)
			return ctx.Err()
		})
		if errors.Is(err, spool.ErrDamaged) { // the rest was listed
			out.Unread()
			err = nil
		}
		if err != nil {
			return err
		}
		for _, e := range piece {
			if err := errors.Join(ctx.Err(), out.Add(e)); err != nil {
				return err
			}
			after = e.ID
		}
		if len(piece) < exportPiece {
			return nil
		}
	}
}

// importQueue takes messages in, and hands each to the queue.
func (r *relay) importQueue(w http.ResponseWriter, req *http.Request) {
	unhurried(w)
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil { // an answer before the end of what is sent
		refuse(w, http.StatusInternalServerError, err.Error(), "")
		return
	}
	report, err := archive.Read(req.Context(), patient{w, req.Body}, intake{r.spool, r.queue}, req.URL.Query().Get("again") == "true")
	if report.Imported > 0 {
		r.log.Info("messages were imported", "event", "queue.imported", "messages", report.Imported, "refused", report.Refused)
	}
	switch {
	case err == nil:
		answer(w, report)
	case req.Context().Err() != nil:
		panic(http.ErrAbortHandler)
	default:
		r.log.Warn("an import broke off", "event", "control.failed", "err", err)
		refuse(w, http.StatusInternalServerError, fmt.Sprintf("the import broke off after %d messages: %v", report.Imported, err),
			"what was imported is safe; the same command goes on where it broke off")
	}
}

// An intake is where imported messages go: as a client's, into the spool and
// from there to the queue.
type intake struct {
	*spool.Spool
	queue *queue.Queue
}

var _ archive.Sink = intake{}

func (i intake) Import(ctx context.Context, e *spool.Entry, body io.Reader, again bool) error {
	if err := i.Spool.Import(ctx, e, body, again); err != nil {
		return err
	}
	i.queue.Accept(e)
	return nil
}

// streamPatience is how long an operator's command may take for the next piece
// of a stream.
const streamPatience = time.Minute

// A steady writer moves the time limit on with each write.
type steady struct{ w http.ResponseWriter }

func (s steady) Write(p []byte) (int, error) {
	if err := http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// A patient reader moves the time limit on with each read.
type patient struct {
	w http.ResponseWriter
	r io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	out := http.NewResponseController(p.w)
	if err := errors.Join(out.SetReadDeadline(time.Now().Add(streamPatience)), out.SetWriteDeadline(time.Now().Add(5*time.Minute))); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// An OfflineSpool is the spool of a relay that does not run.
type OfflineSpool struct {
	*spool.Spool
	steps *lifecycle.Steps
}

// OpenOffline opens the spool in a relay's state folder and takes its lock, so
// that no relay can start meanwhile. The caller closes it. It must run as the
// owner of the folder: what another user wrote there the relay could not read.
func OpenOffline(ctx context.Context, state string, log *slog.Logger) (*OfflineSpool, error) {
	dir := filepath.Join(state, "spool")
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("daemon: there is no spool: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("daemon: %s belongs to the user with the number %d: %w", dir, s.Uid, os.ErrPermission)
	}
	o := &OfflineSpool{steps: newSteps(log)}
	if err := lifecycle.LockState(ctx, state, 0, o.steps, func() {}); err != nil {
		return nil, errors.Join(err, o.steps.Unwind(endWithin(0)))
	}
	o.Spool, err = spool.Open(spool.Options{Dir: dir, Logger: log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the spool in %s: %w", state, err), o.steps.Unwind(endWithin(0)))
	}
	o.steps.Later("spool", o.Spool.Close)
	return o, nil
}

// Close ends the use of the spool and gives the lock back.
func (o *OfflineSpool) Close() error { return o.steps.Unwind(endWithin(0)) }

// Export writes all messages and what was put aside as damaged.
func (o *OfflineSpool) Export(ctx context.Context, to io.Writer) error {
	out := archive.NewWriter(o.Spool, to)
	n := 0
	err := exportPieces(ctx, out, func(after spool.ID, fn func(*spool.Entry) error) error {
		n = 0
		err := o.EntriesAfter(after, func(e *spool.Entry) error {
			if n == exportPiece {
				return errPiece
			}
			n++
			return fn(e)
		})
		if errors.Is(err, errPiece) {
			return nil
		}
		return err
	})
	if err == nil {
		err = out.AddDamaged()
	}
	if err == nil {
		_, err = out.Close()
	}
	return err
}

// errPiece ends a piece of an export.
var errPiece = errors.New("daemon: enough for now")
