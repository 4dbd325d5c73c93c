package daemon

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/relay/activity"
	"example.edu/gatepost/internal/status"
)

func mailReport(s activity.Sums) status.Mail {
	return status.Mail{First: s.First, Last: s.Last, Day: s.Day, Week: s.Week, Month: s.Month, Recipients: s.Recipients, Octets: s.Octets, TLS: s.TLS}
}

// leniencies is what a device profile allows, and what the machine has needed
// of it. What it does not allow is not told: it cannot be taken away.
func leniencies(d registration.Device, n activity.Needs) (list []status.Leniency) {
	add := func(key, value, what string, need activity.Need) {
		list = append(list, status.Leniency{Key: key, Value: value, What: what, Count: need.Month, Last: need.Last, Since: n.Since})
	}
	if d.BareLF == "fix" {
		add("bareLF", strconv.Quote(d.BareLF), "lines that end in a bare line feed", n.BareLF)
	}
	switch d.TLS {
	case "legacy":
		add("tls", strconv.Quote(d.TLS), "TLS older than 1.2, or old ciphers", n.OldTLS)
	case "off":
		list = append(list, status.Leniency{Key: "tls", Value: strconv.Quote(d.TLS), What: "STARTTLS is not offered", Hidden: true})
	}
	if d.Commands == "sloppy" {
		add("commands", strconv.Quote(d.Commands), "a blank before an address, or no brackets", n.Commands)
		add("commands", strconv.Quote(d.Commands), "mail without HELO", n.NoHELO)
	}
	if d.AddHeaders {
		add("addHeaders", "true", "no Date or no Message-ID", n.Headers)
	}
	return list
}

// listLeniencies writes what the register allows beyond what everybody gets, and
// whether it was needed, in the order of the registrations.
func (r *relay) listLeniencies(w http.ResponseWriter, _ *http.Request) {
	snapshot := r.live.Load()
	list := []status.Allowance{}
	for addr, e := range snapshot.All() {
		d := e.Host.Device
		d.AddHeaders = false // the default, and nobody's exception
		if d.BareLF != "fix" && d.TLS == "modern" && d.Commands != "sloppy" {
			continue
		}
		seen := r.activity.Of(addr)
		for _, l := range leniencies(d, seen.Needs) {
			list = append(list, status.Allowance{IP: addr, Registration: e.Registration.Path, Messages: seen.Month, Leniency: l})
		}
	}
	slices.SortStableFunc(list, func(a, b status.Allowance) int {
		return cmp.Or(cmp.Compare(a.Registration, b.Registration), a.IP.Compare(b.IP))
	})
	writeLines(w, list)
}

// together is what the addresses of a registration have sent; nil if nothing.
func (r *relay) together(g *registration.Registration) *status.Sender {
	sum := status.Sender{Registration: g.Path, Department: g.Department}
	for _, h := range g.Hosts {
		if a := r.activity.Of(h.IP); a.Month > 0 {
			refused := 0
			for _, why := range a.Reasons {
				refused += why.Count
			}
			add(&sum, a.Sums, refused)
		}
	}
	if sum.Addresses == 0 {
		return nil
	}
	return &sum
}

// add adds one more address to a sender.
func add(to *status.Sender, s activity.Sums, refused int) {
	to.Addresses++
	to.Day, to.Week, to.Month = to.Day+s.Day, to.Week+s.Week, to.Month+s.Month
	to.Recipients, to.Octets, to.Refused = to.Recipients+s.Recipients, to.Octets+s.Octets, to.Refused+refused
	if to.First.IsZero() || s.First.Before(to.First) {
		to.First = s.First
	}
	if s.Last.After(to.Last) {
		to.Last, to.TLS = s.Last, s.TLS
	}
}

// sendersShare bounds what lists of the senders cost, however often a probe
// asks: one is good enough until this many times its making has passed. Making it
// looks at all addresses, which takes some 0.1 s where there are 100,000.
const sendersShare = 50

// A senderList remembers who sends. The zero value is ready.
type senderList struct {
	mu   sync.Mutex
	at   time.Time // guarded by mu, as the others
	took time.Duration
	list []status.Sender
}

// all lists the registrations that have sent in the last 30 days, or had a
// moment ago, the most mail first. Nobody changes the list.
func (l *senderList) all(r *relay) []status.Sender {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil || time.Since(l.at) >= sendersShare*l.took {
		began := time.Now()
		l.list = r.sumSenders()
		l.at, l.took = time.Now(), time.Since(began)
	}
	return l.list
}

func (r *relay) sumSenders() []status.Sender {
	snapshot := r.live.Load()
	by := map[string]*status.Sender{}
	r.activity.Senders(func(addr netip.Addr, s activity.Sums, refused int) {
		path, department := "", ""
		if e, ok := snapshot.Find(addr); ok {
			path, department = e.Registration.Path, e.Registration.Department
		}
		if by[path] == nil {
			by[path] = &status.Sender{Registration: path, Department: department}
		}
		add(by[path], s, refused)
	})
	list := make([]status.Sender, 0, len(by))
	for _, s := range by {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b status.Sender) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(b.Week, a.Week), cmp.Compare(b.Month, a.Month), cmp.Compare(a.Registration, b.Registration))
	})
	return list
}

func (r *relay) sendersReport() status.Senders {
	list := r.senders.all(r)
	return status.Senders{Count: len(list), Top: list[:min(len(list), status.MaxSenders)]}
}

func (r *relay) strangersReport() status.Strangers {
	list := r.activity.Strangers()
	out := status.Strangers{Count: len(list)}
	for _, s := range list[:min(len(list), status.MaxStrangers)] {
		out.Newest = append(out.Newest, strangerReport(s))
	}
	return out
}

func strangerReport(s activity.Stranger) status.Stranger {
	return status.Stranger{IP: s.Addr, First: s.First, Last: s.Last, Count: s.Count, Stage: s.Told.Stage, Reason: s.Told.Reason, Said: s.Told.Said}
}

// listSenders writes every registration that has sent, the most mail first.
func (r *relay) listSenders(w http.ResponseWriter, _ *http.Request) {
	writeLines(w, r.senders.all(r))
}

// listStrangers writes every stranger, the newest first.
func (r *relay) listStrangers(w http.ResponseWriter, _ *http.Request) {
	list := []status.Stranger{}
	for _, s := range r.activity.Strangers() {
		list = append(list, strangerReport(s))
	}
	writeLines(w, list)
}

// listMails writes when each registered address sent last, in order.
func (r *relay) listMails(w http.ResponseWriter, _ *http.Request) {
	snapshot, list := r.live.Load(), []status.LastMail{}
	r.activity.Mails(func(addr netip.Addr, first, last time.Time) {
		if _, registered := snapshot.Find(addr); registered {
			list = append(list, status.LastMail{IP: addr, First: first, Last: last})
		}
	})
	slices.SortFunc(list, func(a, b status.LastMail) int { return a.IP.Compare(b.IP) })
	writeLines(w, list)
}

// writeLines answers with one JSON value a line.
func writeLines[T any](w http.ResponseWriter, list []T) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encode := json.NewEncoder(w)
	for _, v := range list {
		if encode.Encode(v) != nil {
			return // the reader went away
		}
	}
}
