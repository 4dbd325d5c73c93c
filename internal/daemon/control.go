package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// maxOrder bounds what an operator's command sends, in octets.
const maxOrder = 64 << 10

// orders answers what operators ask: HTTP and JSON, for whoever may open a
// file of mode 0600.
//
//	GET  /v1/status            the read model, see package status; with ?ip=… of one address
//	GET  /v1/senders           one JSON value a line, the most mail first, see status.Sender
//	GET  /v1/leniencies        one JSON value a line, see status.Allowance
//	GET  /v1/strangers         one JSON value a line, the newest first, see status.Stranger
//	GET  /v1/proofs            one JSON value a line, the newest first, see status.Proof
//	POST /v1/proofs            {"ip", "request", "for"}: a token, see proof.Invitation
//	GET  /v1/queue?held=…      one JSON value a line, see queue.Row
//	GET  /v1/queue/ID          one of them
//	POST /v1/queue/choice      queue.Filter: what it selects, see queue.Choice
//	POST /v1/queue/orders      queue.Order: one JSON value a line, queue.Did, and at the end queue.End
//	POST /v1/queue/export      {"filter", "all"}: a tar stream, see package archive
//	POST /v1/queue/import      such a stream; ?again=true: what was imported before, too. See archive.Report
//	GET  /v1/trace/ID          what became of one message, see traced
//	GET  /v1/brake             everybody who is braked, see status.Braked
//	POST /v1/brake/release     {"registration", "reason", "for", "operator"}: see status.BrakeReleased
//	GET  /v1/blocks            one JSON value a line, see status.Blocked
//	POST /v1/blocks            {"prefix", "reason", "for", "wide", "operator"}: a block by command, see status.BlockAdded
//	POST /v1/blocks/end        {"prefix", "reason", "operator"}: takes one back, see status.BlockEnded
//	POST /v1/register/accept   {"commit", "reason"}
func (r *relay) orders() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", r.status.Report())
	mux.HandleFunc("GET /v1/senders", r.listSenders)
	mux.HandleFunc("GET /v1/leniencies", r.listLeniencies)
	mux.HandleFunc("GET /v1/strangers", r.listStrangers)
	mux.HandleFunc("GET /v1/proofs", r.listProofs)
	mux.HandleFunc("POST /v1/proofs", r.issueProof)
	mux.HandleFunc("GET /v1/queue", r.listQueue)
	mux.HandleFunc("GET /v1/queue/{id}", r.showQueue)
	mux.HandleFunc("POST /v1/queue/choice", r.chooseQueue)
	mux.HandleFunc("POST /v1/queue/orders", r.orderQueue)
	mux.HandleFunc("POST /v1/queue/export", r.exportQueue)
	mux.HandleFunc("POST /v1/queue/import", r.importQueue)
	mux.HandleFunc("GET /v1/trace/{id}", r.traceMessage)
	mux.HandleFunc("GET /v1/brake", r.listBraked)
	mux.HandleFunc("POST /v1/brake/release", r.releaseBrake(bySocket))
	mux.HandleFunc("GET /v1/blocks", r.listBlocks)
	mux.HandleFunc("POST /v1/blocks", r.addBlock(bySocket))
	mux.HandleFunc("POST /v1/blocks/end", r.endBlock(bySocket))
	mux.HandleFunc("POST /v1/register/accept", r.acceptCommit)
	return mux
}

// listQueue streams the queue, oldest first, one JSON value a line.
func (r *relay) listQueue(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	f := queue.Filter{
		Registration: query.Get("registration"), Destination: query.Get("destination"),
		Sender: query.Get("from"), Recipient: query.Get("to"), Status: query.Get("status"),
	}
	if text := query.Get("client"); text != "" {
		p, err := blocks.ParsePrefix(text)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error(), "")
			return
		}
		f.Client = p
	}
	if query.Get("held") == "true" {
		f.Status = "held"
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "limit is not a number above zero", "")
			return
		}
		f.Limit = n
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encode := json.NewEncoder(w)
	if err := r.queue.List(f, func(row *queue.Row) error { return encode.Encode(row) }); err != nil {
		r.log.Warn("the queue's list broke off", "event", "control.failed", "err", err)
		panic(http.ErrAbortHandler) // the client must not take half a list for a whole one
	}
}

func (r *relay) showQueue(w http.ResponseWriter, req *http.Request) {
	row, err := r.queue.Show(spool.ID(req.PathValue("id")))
	switch {
	case errors.Is(err, spool.ErrNotFound):
		refuse(w, http.StatusNotFound, "there is no such message in the queue", "")
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error(), "")
	default:
		answer(w, row)
	}
}

func (r *relay) acceptCommit(w http.ResponseWriter, req *http.Request) {
	var order struct{ Commit, Reason string }
	if !understood(w, req, &order) {
		return
	}
	if err := r.register.Accept(req.Context(), order.Commit, order.Reason); err != nil {
		refuse(w, http.StatusConflict, err.Error(), "gatepost status shows the commit that waits")
		return
	}
	answer(w, r.register.State())
}

// understood reads an order, and answers what it cannot read.
func understood(w http.ResponseWriter, req *http.Request, order any) bool {
	decode := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxOrder))
	decode.DisallowUnknownFields()
	if err := decode.Decode(order); err != nil {
		refuse(w, http.StatusBadRequest, "the order is not understood: "+err.Error(), "")
		return false
	}
	return true
}

// A way is how an order came to the relay.
type way string

const (
	bySocket way = "socket" // from whoever may open it, so it need not say who
	byPortal way = "portal" // from somebody whom the portal has signed in
)

// named reports whether an order says who asks, as far as it has to, and answers
// one that does not.
func (by way) named(w http.ResponseWriter, operator string) bool {
	if by == byPortal && operator == "" || !oneLine(operator, maxAsker) {
		refuse(w, http.StatusBadRequest, "the order does not say who asks: one line of printable characters, 254 at most", "")
		return false
	}
	return true
}

// maxAsker bounds who asks, in characters: a mailbox (RFC 5321 §4.5.3.1).
const maxAsker = 254

// asked logs who asks for what and why, before it is done; what comes of it has
// a line of its own. Nothing, where nobody says who.
func (r *relay) asked(by way, operator, order, about, reason string) {
	if operator != "" {
		r.log.Warn("an operator's order", "event", "control.order", "order", order, "about", about, "operator", operator, "reason", reason, "by", string(by))
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the operator's own connection; nothing to be done if it broke
}

func refuse(w http.ResponseWriter, code int, text, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text, "hint": hint})
}
