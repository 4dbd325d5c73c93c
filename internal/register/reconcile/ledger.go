package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"example.edu/gatepost/internal/register/gitsync"
)

// approvalsFile holds the receipts, and a second copy of what is withheld: if
// register.last-good is damaged, the next round builds the register from git,
// and must not bring into force what nobody vouched for.
const approvalsFile = "register.approvals"

// A ledger is the content of the file.
type ledger struct {
	Commit   gitsync.Hash `json:"commit"` // that Withheld is about
	Withheld withholding  `json:"withheld"`
	Receipts []receipt    `json:"receipts"`
}

// persistLedger makes the receipts durable, and what is withheld from f. Where
// nobody has to vouch for anything, there is no such file.
func (r *Reconciler) persistLedger(f *inForce) error {
	a := &r.approvals
	if r.o.Approver == nil && !a.ledger {
		return nil
	}
	l := ledger{Commit: f.commit, Withheld: f.withheld}
	for _, v := range a.receipts {
		l.Receipts = append(l.Receipts, v)
	}
	slices.SortFunc(l.Receipts, func(a, b receipt) int { return bytes.Compare(a.Commit[:], b.Commit[:]) })
	body, err := json.Marshal(l)
	if err == nil {
		pieces, _ := sealed(body)
		err = r.o.Disk.WriteFile(r.path(approvalsFile), pieces...)
	}
	if err != nil {
		return fmt.Errorf("keeping what was vouched for: %w", err)
	}
	a.ledger, a.unsaved = true, false
	return nil
}

// readLedger takes the receipts over, and gives the ledger; nil if there is
// none, or none that can be read.
func (r *Reconciler) readLedger() *ledger {
	a := &r.approvals
	a.receipts, a.trials = make(map[gitsync.Hash]receipt), make(map[gitsync.Hash]trial)
	body, err := r.readSealed(approvalsFile, sum{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a.ledger = true
	l := &ledger{}
	if err == nil {
		err = json.Unmarshal(body, l)
	}
	if err != nil {
		r.log.Error("it is not known what was vouched for; it is asked again", "event", "register.approvals_damaged", "err", err)
		return nil
	}
	for _, v := range l.Receipts {
		a.receipts[v.Commit] = v
	}
	return l
}
