package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// Bounds of an operator's words, in characters.
const (
	maxOrderReason = 200
	maxOperator    = 64
)

// chooseQueue looks at what a filter selects, for somebody who is about to act
// on it.
func (r *relay) chooseQueue(w http.ResponseWriter, req *http.Request) {
	var f queue.Filter
	if !understood(w, req, &f) {
		return
	}
	unhurried(w)
	c, err := r.queue.Choose(req.Context(), f)
	switch {
	case errors.Is(err, queue.ErrLoading):
		refuseLoading(w)
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error(), "")
	default:
		answer(w, c)
	}
}

// orderQueue does something to messages of the queue, and tells of each when it
// is done for good: queue.Did, one JSON value a line, and queue.End as the last
// line. An answer without that line broke off: of more messages than it tells
// of something may have been done.
func (r *relay) orderQueue(w http.ResponseWriter, req *http.Request) {
	var o queue.Order
	if !understood(w, req, &o) {
		return
	}
	if text := faultOf(&o); text != "" {
		refuse(w, http.StatusBadRequest, text, "")
		return
	}
	unhurried(w)
	out := http.NewResponseController(w)
	encode := json.NewEncoder(w)
	begun := false
	begin := func() {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
	}
	told, flushed := 0, time.Now()
	err := r.queue.Do(req.Context(), o, func(d queue.Did) error {
		begin()
		if err := encode.Encode(d); err != nil {
			return err
		}
		if told++; told == 1 || time.Since(flushed) > time.Second {
			flushed = time.Now()
			unhurried(w)
			return out.Flush()
		}
		return nil
	})
	end := queue.End{End: true}
	switch {
	case err == nil:
	case !begun && errors.Is(err, queue.ErrLoading):
		refuseLoading(w)
		return
	case req.Context().Err() != nil:
		r.log.Warn("an operator's order broke off: the command went away, or the relay ends", "event", "control.failed", "err", err)
		panic(http.ErrAbortHandler)
	case errors.Is(err, spool.ErrFull):
		end.Error, end.Hint = "there is no room on the disk for what this has to write", "make room on the disk of the state folder; gatepost queue delete needs none"
	default:
		end.Error, end.Hint = err.Error(), "gatepost status shows how the relay stands"
	}
	if end.Error != "" {
		r.log.Warn("an operator's order was not done in full", "event", "control.failed", "err", err)
	}
	begin()
	_ = encode.Encode(end) // the operator's own connection; nothing to be done if it broke
}

// unhurried moves the time limits of a conversation with an operator on, as a
// long queue takes its time. What is read was bounded and has been read.
func unhurried(w http.ResponseWriter) {
	out := http.NewResponseController(w)
	_ = errors.Join(out.SetReadDeadline(time.Time{}), out.SetWriteDeadline(time.Now().Add(5*time.Minute)))
}

func refuseLoading(w http.ResponseWriter) {
	refuse(w, http.StatusServiceUnavailable, "the spool is still being read after the start, so not all messages are known", "try again in some seconds")
}

// faultOf is what is wrong with an order; "" if nothing is.
func faultOf(o *queue.Order) string {
	byChoice := o.UpTo != ""
	switch {
	case !slices.Contains(queue.Verbs(), o.Verb):
		return "the order has no verb that is known"
	case len(o.IDs) > queue.MaxIDs:
		return "the order names too many messages at once"
	case len(o.IDs) > 0 && (byChoice || o.Filter != queue.Filter{}):
		return "the order names messages and chooses some as well"
	case len(o.IDs) == 0 && !byChoice:
		return "the order does not say up to which message it chooses"
	case !oneLine(o.Reason, maxOrderReason):
		return "the reason is not one line of up to 200 printable characters"
	case !oneLine(o.Operator, maxOperator):
		return "the operator's name is not one line of up to 64 printable characters"
	}
	o.Reason = strings.TrimSpace(o.Reason)
	return ""
}

func oneLine(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
