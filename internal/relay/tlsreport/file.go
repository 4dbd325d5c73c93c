package tlsreport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.edu/gatepost/internal/durable"
)

// The file is a line that says what it is, and then one line for each domain of
// a day, all in JSON.
const (
	version = 1
	what    = "gatepost tls-reports"
	maxFile = 256 << 20 // octets: over what the bounds can come to
)

type headLine struct {
	Version int    `json:"version"`
	What    string `json:"what"`
}

type line struct {
	Day      string        `json:"day"`
	Domain   string        `json:"domain"`
	Policies []policyCount `json:"policies"`
}

// Open reads what was kept, if anything was. A file that makes no sense is put
// aside as FILE.damaged and logged, and the book begins empty.
func Open(o Options) (*Book, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Book{o: o, now: o.Now, log: o.Logger, metrics: newMetrics(o.Registerer), days: map[string]map[string]*tally{}}
	damage, err := durable.Recover(o.File, maxFile, b.decode)
	if damage != nil {
		b.log.Error("what was counted for TLS reports cannot be read and is put aside", "event", "tlsreport.damaged", "file", durable.Aside(o.File), "err", damage)
		b.days, b.held = map[string]map[string]*tally{}, 0
	}
	if err != nil {
		return nil, fmt.Errorf("tlsreport: %w", err)
	}
	return b, nil
}

// decode fills an empty book.
func (b *Book) decode(data []byte) error {
	return durable.DecodeLines(data, headLine{version, what}, b.take)
}

// take adds one line of the file.
func (b *Book) take(l line) error {
	if _, err := time.Parse(time.DateOnly, l.Day); err != nil || l.Domain == "" || len(l.Policies) == 0 || len(l.Policies) > maxPolicies || len(b.days) > maxDays || len(b.days[l.Day]) >= maxDomains {
		return fmt.Errorf("tlsreport: the line of %.80q makes no sense", l.Domain)
	}
	t := &tally{}
	for _, p := range l.Policies {
		if p.Summary.OK < 0 || p.Summary.Fail < 0 || len(p.Details) > maxDetails {
			return fmt.Errorf("tlsreport: the counts of %.80q make no sense", l.Domain)
		}
		c := &count{policy: p.Policy, ok: p.Summary.OK, fail: p.Summary.Fail, details: map[Failure]int64{}}
		for _, d := range p.Details {
			c.details[d.Failure] = d.Count
		}
		t.policies = append(t.policies, c)
	}
	if b.days[l.Day] == nil {
		b.days[l.Day] = map[string]*tally{}
	}
	b.drop(l.Day, l.Domain) // a line that is there twice
	b.days[l.Day][l.Domain] = t
	if b.held += t.cost(); b.held > 2*maxOctets {
		return errors.New("tlsreport: the file holds too much")
	}
	return nil
}

// save writes the file if something has changed since it was written.
func (b *Book) save() error {
	data, err := b.encode()
	if data == nil && err == nil {
		return nil
	}
	if err == nil {
		err = durable.WriteFile(b.o.File, data, 0o600)
	}
	if err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return fmt.Errorf("tlsreport: saving: %w", err)
	}
	return nil
}

// encode is all there is; nil if nothing has changed.
func (b *Book) encode() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dirty {
		return nil, nil
	}
	b.dirty = false
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	err := enc.Encode(headLine{version, what})
	for day, domains := range b.days {
		for domain, t := range domains {
			l := line{Day: day, Domain: domain}
			for _, c := range t.policies {
				p := policyCount{Policy: c.policy, Details: c.sorted()}
				p.Summary.OK, p.Summary.Fail = c.ok, c.fail
				l.Policies = append(l.Policies, p)
			}
			err = errors.Join(err, enc.Encode(l))
		}
	}
	return out.Bytes(), err
}
