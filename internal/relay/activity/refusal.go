package activity

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// A Refusal is a run of like refusals of one address.
type Refusal struct {
	At     time.Time `json:"at"`    // the newest
	Count  int       `json:"count"` // how many in a row
	Stage  string    `json:"stage"` // "greeting", or the command
	Reason string    `json:"reason"`
	Said   string    `json:"said"` // the reply to the newest, cut to 300 octets
}

// A Reason is how often an address was refused for one reason.
type Reason struct {
	Reason string
	Count  int       // since First
	First  time.Time // one that came after 30 days without begins anew
	Last   time.Time
}

// A tally counts the refusals for one reason.
type tally struct {
	Reason string `json:"reason"`
	Count  uint32 `json:"count"`
	First  int64  `json:"first"` // Unix seconds
	Last   int64  `json:"last"`
}

// current reports whether a tally still tells something.
func (t tally) current(at int64) bool { return t.Last > at-int64(KeepKnown/time.Second) }

// count counts one refusal; the reason that was heard of longest ago makes room
// for a new one.
func (e *entry) count(reason string, at int64) {
	i := slices.IndexFunc(e.reasons, func(t tally) bool { return t.Reason == reason })
	if i >= 0 && !e.reasons[i].current(at) {
		e.reasons = slices.Delete(e.reasons, i, i+1)
		i = -1
	}
	if i < 0 {
		if len(e.reasons) >= MaxReasons {
			oldest := slices.IndexFunc(e.reasons, func(t tally) bool {
				return t.Last == slices.MinFunc(e.reasons, func(a, b tally) int { return cmp.Compare(a.Last, b.Last) }).Last
			})
			e.reasons = slices.Delete(e.reasons, oldest, oldest+1)
		}
		e.reasons = append(e.reasons, tally{Reason: reason, First: at})
		i = len(e.reasons) - 1
	}
	t := &e.reasons[i]
	plus(&t.Count, 1)
	t.Last = at
}

// refused is how often the address was refused, for reasons that are current.
func (e *entry) refused(at int64) (total int64) {
	for _, t := range e.reasons {
		if t.current(at) {
			total += int64(t.Count)
		}
	}
	return total
}

// why lists the reasons, the most frequent first.
func (e *entry) why(at int64) (list []Reason) {
	for _, t := range e.reasons {
		if t.current(at) {
			list = append(list, Reason{Reason: t.Reason, Count: int(t.Count), First: unix(t.First), Last: unix(t.Last)})
		}
	}
	slices.SortFunc(list, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}

// A Stranger is an address that the register does not have and that was
// refused in the last 7 days.
type Stranger struct {
	Addr  netip.Addr
	First time.Time // of what is counted
	Last  time.Time
	Count int     // refusals since First
	Told  Refusal // the newest
}

// Strangers lists them, the newest first; MaxStrangers at most.
func (b *Book) Strangers() (list []Stranger) {
	registered := b.register()
	now := b.now()
	at := now.Unix()
	for i := range b.parts {
		s := &b.parts[i]
		s.mu.Lock()
		for addr, e := range s.strangers {
			if e.touched <= at-int64(KeepStranger/time.Second) || len(e.refusals) == 0 || registered != nil && registered(addr) {
				continue
			}
			x := Stranger{Addr: addr, Last: unix(e.touched), First: unix(e.touched), Told: e.refusals[len(e.refusals)-1]}
			for _, t := range e.why(at) {
				x.Count += t.Count
				if t.First.Before(x.First) {
					x.First = t.First
				}
			}
			x.Count = max(x.Count, x.Told.Count) // a file of the version before has no reasons
			list = append(list, x)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Stranger) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.Count, a.Count), a.Addr.Compare(b.Addr))
	})
	return list
}
