package proof

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.edu/gatepost/internal/durable"
)

// MaxRecords bounds the records that are kept; the oldest goes first.
const MaxRecords = 10_000

// maxFile bounds the file of records, in octets; the records of one are well
// under 512 each.
const maxFile = MaxRecords * 512

// A Record says that control of an address was proved.
type Record struct {
	Addr    netip.Addr `json:"ip"`
	Request int        `json:"request,omitempty"` // that the token was for; 0: none
	At      time.Time  `json:"at"`
	Expires time.Time  `json:"expires"`       // of the token
	Port    string     `json:"port"`          // the relay's port: "relay" or "submission"
	TLS     string     `json:"tls,omitempty"` // version and suite; "" in clear text
}

// Records are the proofs that a relay has seen, one for each address and
// request, in a file of their own. Reading takes no lock. All methods may be
// called from any goroutine.
type Records struct {
	path string
	now  atomic.Pointer[[]Record] // oldest first; never edited
	mu   sync.Mutex               // serialises Add
}

// OpenRecords reads the records in the file at path, which need not be there
// yet. A file that makes no sense is put aside as path.damaged and logged: what
// is lost is evidence, and no reason not to take mail.
func OpenRecords(path string, log *slog.Logger) (*Records, error) {
	r := &Records{path: path}
	var list []Record
	damage, err := durable.Recover(path, maxFile, func(data []byte) (err error) {
		list, err = decodeRecords(data)
		return err
	})
	if damage != nil {
		log.Error("the proofs of control cannot be read and are put aside", "event", "proof.damaged", "file", durable.Aside(path), "err", damage)
	}
	if err != nil {
		return nil, fmt.Errorf("proof: opening the records: %w", err)
	}
	r.now.Store(&list)
	return r, nil
}

// saved is the file of records.
type saved struct {
	Version int      `json:"version"`
	Records []Record `json:"records"`
}

func decodeRecords(data []byte) ([]Record, error) {
	var s saved
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	if s.Version != version || dec.More() {
		return nil, fmt.Errorf("not a file of records of version %d", version)
	}
	for _, rec := range s.Records {
		if !rec.Addr.IsValid() || rec.At.IsZero() {
			return nil, errors.New("a record without an address or a time")
		}
	}
	slices.SortStableFunc(s.Records, func(a, b Record) int { return a.At.Compare(b.At) })
	return s.Records[max(0, len(s.Records)-MaxRecords):], nil
}

// Add records a proof, and reports whether it was news: a token that was used
// before, or that ends no later than the one recorded for the address and the
// request, proves nothing new and changes nothing. What Add reports as news is
// on stable storage; on an error nothing has changed.
func (r *Records) Add(rec Record) (bool, error) {
	rec.Addr, rec.At, rec.Expires = rec.Addr.Unmap(), rec.At.UTC(), rec.Expires.UTC()
	if !rec.Addr.IsValid() || rec.At.IsZero() {
		return false, errors.New("proof: a record without an address or a time")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.now.Load()
	i := slices.IndexFunc(old, func(o Record) bool { return o.Addr == rec.Addr && o.Request == rec.Request })
	if i >= 0 && !rec.Expires.After(old[i].Expires) {
		return false, nil
	}
	list := slices.Clone(old)
	if i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	list = append(list, rec)
	list = list[max(0, len(list)-MaxRecords):]
	data, err := json.Marshal(saved{version, list})
	if err != nil {
		return false, fmt.Errorf("proof: writing the records: %w", err)
	}
	if err := durable.WriteFile(r.path, data, 0o600); err != nil {
		return false, fmt.Errorf("proof: %w", err)
	}
	r.now.Store(&list)
	return true, nil
}

// Newest is the last n records, the newest first; all where there are no more.
// The caller owns it.
func (r *Records) Newest(n int) []Record {
	list := *r.now.Load()
	list = slices.Clone(list[max(0, len(list)-n):])
	slices.Reverse(list)
	return list
}

// Len is how many records there are.
func (r *Records) Len() int { return len(*r.now.Load()) }

// Of is the records of one address, the newest first. The caller owns it.
func (r *Records) Of(addr netip.Addr) []Record {
	addr = addr.Unmap()
	var out []Record
	for _, rec := range *r.now.Load() {
		if rec.Addr == addr {
			out = append(out, rec)
		}
	}
	slices.SortStableFunc(out, func(a, b Record) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Request, a.Request)) })
	return out
}
