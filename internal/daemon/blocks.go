package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

// openBlocks opens the break-glass blocks. Those that there were are in force
// when it returns, and lie over whatever register is or comes.
func (r *relay) openBlocks(c *config.Relay) (err error) {
	dir := filepath.Join(c.State, "blocks")
	if err := makeDir(dir); err != nil {
		return err
	}
	r.blocks, err = blocks.Open(blocks.Options{
		Dir: dir, Local: c.Blocks.File, Changed: r.blocksChanged,
		Logger: r.log, Registerer: r.registry,
	})
	return err
}

// blocksChanged lays the break-glass blocks over the register: from here on
// there is one verdict, for clients and for the queue. Whoever waits for a
// change of the register wakes up.
func (r *relay) blocksChanged(set *blocks.Set) {
	var local []registration.Block
	for _, b := range set.All() {
		local = append(local, registration.Block{Prefix: b.Prefix, Reason: b.Reason, Since: b.Since, Until: b.Until})
	}
	r.live.SetBlocks(local)
}

// blocksQuiet is how long a change of the local file is left alone before it is
// read: in a folder that is never quiet, ten times as long. A file that is half
// written by then is told from a whole one by its end.
const blocksQuiet = 100 * time.Millisecond

// watchBlocks reads the local file again when it changes, and another one when
// the configuration names another.
func (r *relay) watchBlocks(ctx context.Context, renewed <-chan struct{}) error {
	for ctx.Err() == nil {
		r.watchBlockFile(ctx, r.conf.current.Load().Blocks.File, renewed)
	}
	return nil
}

// watchBlockFile is watchBlocks until the configuration may name another file.
func (r *relay) watchBlockFile(ctx context.Context, file string, renewed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	if file == "" {
		r.blocks.Follow("")
	} else {
		w, err := watch.New([]string{file})
		r.blocks.Follow(file) // with what changed before the watch began
		if err != nil {
			r.log.Error("the local file of blocks is not watched", "event", "block.file_failed", "file", file, "err", err)
		} else {
			watching.Go(func() { _ = w.Run(ctx, blocksQuiet, filesPoll, r.blocks.ReadLocal) })
		}
	}
	select {
	case <-ctx.Done():
	case <-renewed:
	}
	cancel()
}

// maxHits is how many registered addresses a block may hit before it takes a
// word of its own.
const maxHits = 256

// addBlock blocks a prefix by command.
func (r *relay) addBlock(by way) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var order blockOrder
		if understood(w, req, &order) && by.named(w, order.Operator) {
			r.block(w, req, by, order)
		}
	}
}

// A blockOrder asks for a block by command.
type blockOrder struct {
	Prefix, Reason, For, Operator string
	Wide                          bool
}

func (r *relay) block(w http.ResponseWriter, req *http.Request, by way, order blockOrder) {
	p, err := blocks.ParsePrefix(order.Prefix)
	if err == nil {
		order.Reason, err = blocks.ParseReason(order.Reason)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	var lasts time.Duration
	if order.For != "" {
		var ok bool
		if lasts, ok = config.ParseDuration(order.For); !ok || lasts < blocks.MinFor || lasts > blocks.MaxFor {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is no time from %s to %s", order.For, config.FormatDuration(blocks.MinFor), config.FormatDuration(blocks.MaxFor)), "")
			return
		}
	}
	hits, file := hitsOf(r.live.Load(), p)
	if (blocks.Wide(p) || hits > maxHits) && !order.Wide {
		refuse(w, http.StatusConflict, fmt.Sprintf("%s is wide: it would keep %s from sending", blocks.Text(p), addresses(hits)), "if that is meant, say so: --wide")
		return
	}
	r.asked(by, order.Operator, "block", blocks.Text(p), order.Reason)
	b, before, err := r.blocks.Add(p, order.Reason, lasts)
	out := status.BlockAdded{Registered: hits, Registration: file}
	switch {
	case errors.Is(err, blocks.ErrFull):
		refuse(w, http.StatusConflict, fmt.Sprintf("there are %d blocks by command already, which is the most", blocks.MaxCommands), "block a network instead, add blocks to the register, or take some back: gatepost block lists them")
		return
	case errors.Is(err, blocks.ErrUnsaved):
		out.Unsaved = strings.TrimPrefix(err.Error(), blocks.ErrUnsaved.Error()+": ")
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error(), "")
		return
	}
	out.Blocked = r.commandReport(b, time.Now())
	if before != nil {
		was := r.commandReport(*before, time.Now())
		out.Before = &was
	}
	out.Held, out.HeldMore = r.queuedIn(req.Context(), p)
	answer(w, out)
}

func addresses(n int) string {
	if n == 1 {
		return "1 registered address"
	}
	return fmt.Sprintf("%d registered addresses", n)
}

// hitsOf counts the registered addresses in p; file is that of the only one.
func hitsOf(s *policy.Snapshot, p netip.Prefix) (n int, file string) {
	if p.IsSingleIP() {
		if e, ok := s.Find(p.Addr()); ok {
			return 1, e.Registration.Path
		}
		return 0, ""
	}
	for addr, e := range s.All() {
		if p.Contains(addr) {
			n++
			file = e.Registration.Path
		}
	}
	if n != 1 {
		file = ""
	}
	return n, file
}

// How far the queue is looked through to tell an operator what is held of it.
const (
	queuedMost = 100_000
	queuedFor  = time.Second
)

var errLongEnough = errors.New("daemon: that is long enough")

// queuedIn counts the messages of clients in p; more tells that not all of the
// queue was looked at.
func (r *relay) queuedIn(ctx context.Context, p netip.Prefix) (n int, more bool) {
	began, seen := time.Now(), 0
	err := r.queue.List(queue.Filter{}, func(row *queue.Row) error {
		if seen++; seen > queuedMost || time.Since(began) > queuedFor || ctx.Err() != nil {
			return errLongEnough
		}
		if c := row.Envelope.Client; c.IsValid() && p.Contains(c) {
			n++
		}
		return nil
	})
	return n, err != nil
}

// endBlock takes a block by command back, and says of others how they end.
func (r *relay) endBlock(by way) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var order unblockOrder
		if understood(w, req, &order) && by.named(w, order.Operator) {
			r.unblock(w, req, by, order)
		}
	}
}

// An unblockOrder takes a block by command back; by the socket it needs no
// reason.
type unblockOrder struct{ Prefix, Reason, Operator string }

func (r *relay) unblock(w http.ResponseWriter, req *http.Request, by way, order unblockOrder) {
	p, err := blocks.ParsePrefix(order.Prefix)
	if err == nil && (by == byPortal || order.Reason != "") {
		order.Reason, err = blocks.ParseReason(order.Reason)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	queued, more := r.queuedIn(req.Context(), p) // before it goes on
	r.asked(by, order.Operator, "unblock", blocks.Text(p), order.Reason)
	b, err := r.blocks.Remove(p)
	switch now := time.Now(); {
	case errors.Is(err, blocks.ErrUnknown):
		text, hint := r.notBlocked(p, now)
		refuse(w, http.StatusConflict, text, hint)
	case err != nil:
		refuse(w, http.StatusInternalServerError, blocks.Text(p)+" stays blocked, as its end cannot be written: "+err.Error(), "make room on the disk of the state folder, or mend it")
	default:
		out := status.BlockEnded{Blocked: r.commandReport(b, now), Still: r.covering(p, now)}
		out.Agreed = ""
		out.Queued, out.QueuedMore = queued, more
		answer(w, out)
	}
}

// notBlocked says why there is no block by command of p to take back, and what
// would end the one that somebody may have meant.
func (r *relay) notBlocked(p netip.Prefix, now time.Time) (text, hint string) {
	_, within := r.blocks.Set().Around(p, now)
	still := r.covering(p, now)
	name := blocks.Text(p)
	switch {
	case len(still) > 0:
		k := still[0]
		as := "is blocked"
		if k.Prefix != name {
			as = "is blocked as part of " + k.Prefix
		}
		return fmt.Sprintf("%s %s %s: %s", name, as, whose(k), k.Reason), howEnds(k)
	case len(within) > 0:
		lie := "1 block by command lies in it, that of"
		if len(within) > 1 {
			lie = fmt.Sprintf("%d blocks by command lie in it, such as", len(within))
		}
		return fmt.Sprintf("%s is not blocked as a whole; %s %s", name, lie, blocks.Text(within[0].Prefix)),
			"gatepost block lists them; each is taken back by itself"
	}
	return name + " is not blocked", "gatepost block lists all blocks"
}

func whose(k status.Blocked) string {
	switch k.Source {
	case status.ByFile:
		return fmt.Sprintf("by line %d of %s", k.Line, k.File)
	case status.ByRegister:
		return "by the register, in " + k.File
	}
	return "by command"
}

// howEnds says how a block is ended.
func howEnds(k status.Blocked) string {
	switch k.Source {
	case status.ByFile:
		return fmt.Sprintf("take line %d out of %s; it is read again by itself", k.Line, k.File)
	case status.ByRegister:
		return fmt.Sprintf("delete %s in the register, or give it an until:, by a commit; the relay follows by itself", k.File)
	}
	return "gatepost unblock " + k.Prefix + " ends it for all that is in it"
}

// covering are the blocks in force over the whole of p, the most specific first,
// so that the first is the one that a client of p is told of.
func (r *relay) covering(p netip.Prefix, now time.Time) []status.Blocked {
	type found struct {
		bits int
		k    status.Blocked
	}
	var all []found
	for _, b := range r.live.Load().Blocks() {
		k := blocks.Block{Prefix: b.Prefix, Until: b.Until}
		if k.Covers(p) && !k.Over(now) && !b.Since.After(now) {
			all = append(all, found{b.Prefix.Bits(), registerBlock(b)})
		}
	}
	own, _ := r.blocks.Set().Around(p, now)
	for _, b := range own {
		all = append(all, found{b.Prefix.Bits(), r.blockReport(b, now)})
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(b.bits, a.bits) })
	out := []status.Blocked{}
	for _, f := range all {
		out = append(out, f.k)
	}
	return out
}

// listBlocks writes every block that is not over, one JSON value a line: by
// command, of the local file, of the register.
func (r *relay) listBlocks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encode := json.NewEncoder(w)
	now := time.Now()
	for _, b := range r.blocks.Set().All() {
		if !b.Over(now) && encode.Encode(r.blockReport(b, now)) != nil {
			return // the reader went away
		}
	}
	for _, b := range r.live.Load().Blocks() {
		if (b.Until.IsZero() || now.Before(b.Until)) && encode.Encode(registerBlock(b)) != nil {
			return
		}
	}
}

func registerBlock(b registration.Block) status.Blocked {
	reason := strings.Join(strings.Fields(b.Reason), " ") // it may have several lines
	return status.Blocked{Prefix: blocks.Text(b.Prefix), Reason: reason, Source: status.ByRegister, File: b.Path, Since: b.Since, Until: b.Until}
}

// blockReport is a break-glass block, with what the register says of it.
func (r *relay) blockReport(b blocks.Block, now time.Time) status.Blocked {
	if b.Line == 0 {
		return r.commandReport(b, now)
	}
	return status.Blocked{Prefix: blocks.Text(b.Prefix), Reason: b.Reason, Source: status.ByFile,
		File: r.blocks.Set().From(), Line: b.Line, Until: b.Until}
}

func (r *relay) commandReport(b blocks.Block, now time.Time) status.Blocked {
	out := status.Blocked{Prefix: blocks.Text(b.Prefix), Reason: b.Reason, Source: status.ByCommand, Since: b.Since, Until: b.Until}
	if agrees := r.live.Load().Agrees(b.Prefix, b.Until, now); agrees != nil {
		out.Agreed = agrees.Path
	}
	return out
}

// drift lists the blocks by command, and whether the register agrees by now.
func (r *relay) drift() (out []status.Drift) {
	now := time.Now()
	for _, b := range r.blocks.Set().Commands() {
		if !b.Over(now) {
			k := r.commandReport(b, now)
			out = append(out, status.Drift{Prefix: k.Prefix, Reason: k.Reason, Since: k.Since, Until: k.Until, Agreed: k.Agreed})
		}
	}
	return out
}

// blocksReport is how the break-glass blocks stand.
func (r *relay) blocksReport() status.Blocks {
	s := r.blocks.State()
	out := status.Blocks{Unsaved: s.Unsaved, Damaged: s.Damaged}
	now := time.Now()
	for _, b := range r.blocks.Set().Commands() {
		if !b.Over(now) {
			out.Commands++
		}
	}
	if f := s.Local; f != nil {
		out.Local = &status.LocalBlocks{File: f.File, Blocks: f.Blocks, ReadAt: f.ReadAt, Error: f.Error, BadCount: f.BadAll}
		for _, bad := range f.Bad {
			out.Local.Bad = append(out.Local.Bad, status.BadLine(bad))
		}
	}
	return out
}
