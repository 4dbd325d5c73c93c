package review

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/policy"
)

// maxClaims bounds how many addresses the world is asked about in one run: a
// request has a few, and services mind being asked about a whole campus.
const maxClaims = 1000

// A Witness is what was found of one registered address, and where it stands.
// Its JSON form is the contract of --evidence.
type Witness struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	evidence.Report
}

// Witnesses are what was found of all. The nil pointer is for where nobody was
// asked.
type Witnesses struct {
	List []Witness // in order of address
	Left int       // addresses that were not asked about
}

// Gather asks about the addresses that after has and before has not, or has for
// another name or department. A nil before has none. begin, if it is not nil,
// hears how many questions there are.
func Gather(ctx context.Context, before, after *policy.Snapshot, sources []evidence.Source, o evidence.Options, begin func(questions int)) (*Witnesses, error) {
	w := &Witnesses{}
	var claims []evidence.Claim
	for ip, e := range after.All() {
		was, known := before.Find(ip)
		if known && was.Host.Name == e.Host.Name && was.Registration.Department == e.Registration.Department {
			continue
		}
		if len(claims) == maxClaims {
			w.Left++
			continue
		}
		claims = append(claims, evidence.Claim{IP: ip, Name: e.Host.Name, Department: e.Registration.Department})
		w.List = append(w.List, Witness{File: e.Registration.Path, Line: int(e.Host.At.Line), Column: int(e.Host.At.Column)})
	}
	if begin != nil {
		begin(len(claims) * len(sources))
	}
	reports, err := evidence.Gather(ctx, claims, sources, o)
	if err != nil {
		return nil, err
	}
	for i := range reports {
		w.List[i].Report = reports[i]
	}
	return w, nil
}

// Summary counts the findings; "" where none was asked for.
func (w *Witnesses) Summary() string {
	if w == nil {
		return ""
	}
	var n [3]int
	for _, e := range w.List {
		for _, f := range e.Findings {
			n[f.Outcome]++
		}
	}
	text := fmt.Sprintf("evidence on %s: %d confirmed, %d contradicted, %d unknown", Count(len(w.List), "address", "addresses"),
		n[evidence.Confirmed], n[evidence.Contradicted], n[evidence.Unknown])
	if w.Left > 0 {
		text += fmt.Sprintf("; nobody was asked about %s more", Thousands(w.Left))
	}
	return text
}

// Entries are those to render; none where none was asked for.
func (w *Witnesses) Entries() []Witness {
	if w == nil {
		return nil
	}
	return w.List
}

// About is what was found of one address; nil where nothing was asked.
func (w *Witnesses) About(ip string) *Witness {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil
	}
	list := w.Entries()
	i, found := slices.BinarySearchFunc(list, addr, func(e Witness, a netip.Addr) int { return e.IP.Compare(a) })
	if !found {
		return nil
	}
	return &list[i]
}
