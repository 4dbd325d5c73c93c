package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/relay/trace"
)

// openTrace opens what remembers messages that have left the spool.
func (r *relay) openTrace(c *config.Relay) (err error) {
	r.trace, err = trace.Open(trace.Options{Dir: filepath.Join(c.State, "trace"), Logger: r.log})
	return err
}

var _ queue.Tracer = (*trace.Book)(nil)

// traced is all that the relay knows of one message.
type traced struct {
	ID      spool.ID       `json:"id"`
	Queued  *queue.Row     `json:"queued,omitempty"` // while it is in the queue
	Records []trace.Record `json:"records"`          // its end, DSNs about it, and the message that it is a DSN about; the oldest first
	Since   time.Time      `json:"since"`            // how far back the relay remembers
}

// traceMessage answers with all that is known of one message.
func (r *relay) traceMessage(w http.ResponseWriter, req *http.Request) {
	t := traced{ID: spool.ID(req.PathValue("id"))}
	row, err := r.queue.Show(t.ID) // first: what leaves the queue meanwhile is remembered then
	switch {
	case err == nil:
		t.Queued = row
	case !errors.Is(err, spool.ErrNotFound):
		refuse(w, http.StatusInternalServerError, err.Error(), "")
		return
	}
	if t.Records, t.Since, err = r.trace.Find(req.Context(), t.ID); err != nil {
		refuse(w, http.StatusInternalServerError, strings.TrimPrefix(err.Error(), "trace: "), "the log has it, too: journalctl -u gatepostd --grep "+logWord(t.ID))
		return
	}
	if t.Queued == nil && len(t.Records) == 0 {
		text, hint := unknownMessage(t.ID, t.Since, time.Now())
		refuse(w, http.StatusNotFound, text, hint)
		return
	}
	if t.Records == nil {
		t.Records = []trace.Record{}
	}
	answer(w, t)
}

// logWord is an id for a command line that is shown.
func logWord(id spool.ID) string {
	if _, ok := id.Time(); !ok {
		return "ID"
	}
	return string(id)
}

// unknownMessage says why nothing is known of a message.
func unknownMessage(id spool.ID, since, now time.Time) (text, hint string) {
	at, ok := id.Time()
	const layout = "2006-01-02 15:04 UTC"
	switch {
	case !ok || at.After(now.Add(time.Hour)):
		return "no message of this relay has such an id", "the id is in the 250 reply to the client, in the relay's log, and in its Received line: 15 characters from 0 to 9 and a to v"
	case at.Before(since):
		return fmt.Sprintf("nothing is known any more of that message, of %s: what ended before %s is forgotten", at.Format(layout), since.Format(layout)),
			"the log may go further back: journalctl -u gatepostd --grep " + string(id)
	}
	return fmt.Sprintf("nothing is known of that message, of %s, though what ended since %s is remembered", at.Format(layout), since.Format(layout)),
		"it was perhaps refused before its end, another relay's, or the last before a crash: journalctl -u gatepostd --grep " + string(id)
}
