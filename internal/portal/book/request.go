package book

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Kind is why a request was opened.
type Kind string

// The kinds.
const (
	KindForm    Kind = "form"    // somebody filled in the form
	KindRenewal Kind = "renewal" // an end was near
	KindRemoval Kind = "removal" // addresses were silent, or are not needed any more
	KindBlock   Kind = "block"   // a relay blocks what the register does not
	KindOther   Kind = "other"   // opened at the forge by other means
)

// A Person is somebody who signed in at the portal, or the zero Person.
type Person struct {
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
}

// A Contact is who is asked and told.
type Contact struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email"`
}

// An Ask is a question of a postmaster.
type Ask struct {
	ID         string    `json:"id"` // of the remark at the forge
	By         string    `json:"by"`
	At         time.Time `json:"at"`
	Text       string    `json:"text"`
	MailedAt   time.Time `json:"mailedAt,omitzero"`   // the mail was put into the outbox
	Answer     string    `json:"answer,omitempty"`    // as it was typed
	AnsweredBy Person    `json:"answeredBy,omitzero"` // who typed it
	Answered   time.Time `json:"answered,omitzero"`
	Posted     time.Time `json:"posted,omitzero"` // the answer stands at the forge
}

// A Check is what was found of a request's newest commit.
type Check struct {
	Head       string    `json:"head"`
	Base       string    `json:"base,omitempty"` // of the branch, that it was judged by
	Conclusion string    `json:"conclusion"`     // success, failure, action_required
	Title      string    `json:"title"`
	Lead       string    `json:"lead,omitempty"` // how the comment begins, in Markdown
	At         time.Time `json:"at"`
}

// An Approval is who approved, in the forge's words.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// A Request is what is remembered of one. What the forge says of it is here as it
// was last heard, so that a page can be shown without asking.
type Request struct {
	Number     int          `json:"number"`
	Kind       Kind         `json:"kind"`
	Title      string       `json:"title"`
	URL        string       `json:"url,omitempty"` // at the forge; "" where it has no pages
	Department string       `json:"department,omitempty"`
	By         Person       `json:"by,omitzero"`
	Speaks     bool         `json:"speaks,omitempty"` // By speaks for Department
	Contacts   []Contact    `json:"contacts,omitempty"`
	IPs        []netip.Addr `json:"ips,omitempty"`   // addresses that it adds, or is about
	Paths      []string     `json:"paths,omitempty"` // files of the register that it changes
	OpenedAt   time.Time    `json:"openedAt,omitzero"`

	State    string    `json:"state,omitempty"` // open, merged, closed; "" if the reporter has not seen it
	Head     string    `json:"head,omitempty"`
	MergedAs string    `json:"mergedAs,omitempty"`
	MergedBy string    `json:"mergedBy,omitempty"`
	MergedAt time.Time `json:"mergedAt,omitzero"`
	ClosedAt time.Time `json:"closedAt,omitzero"`

	Checked   Check                    `json:"checked,omitzero"`
	Adds      []netip.Addr             `json:"adds,omitempty"`   // addresses that are new with it, when it was last checked
	Proved    map[netip.Addr]time.Time `json:"proved,omitempty"` // control was proved
	Approved  []Approval               `json:"approved,omitempty"`
	Live      map[string]time.Time     `json:"live,omitempty"`      // by relay: first seen there
	Confirmed map[netip.Addr]time.Time `json:"confirmed,omitempty"` // the confirmation was sent
	Asked     []Ask                    `json:"asked,omitempty"`

	ClosedWords string    `json:"closedWords,omitempty"` // of the postmaster who closed it
	ClosedTold  time.Time `json:"closedTold,omitzero"`   // the mail was put into the outbox

	// Said is the part of the one comment that does not change any more once the
	// request is merged, in Markdown.
	Said string `json:"said,omitempty"`

	// What stands at the forge, so that nothing is written twice.
	Comment string            `json:"comment,omitempty"` // digest of the one comment
	Status  map[string]string `json:"status,omitempty"`  // by commit: digest of the status
}

// clone is a copy that shares nothing.
func (r *Request) clone() *Request {
	c := *r
	c.Contacts, c.IPs, c.Approved, c.Asked = slices.Clone(r.Contacts), slices.Clone(r.IPs), slices.Clone(r.Approved), slices.Clone(r.Asked)
	c.Paths = slices.Clone(r.Paths)
	c.Proved, c.Live, c.Confirmed, c.Status = maps.Clone(r.Proved), maps.Clone(r.Live), maps.Clone(r.Confirmed), maps.Clone(r.Status)
	return &c
}

// Get is what is remembered of a request.
func (b *Book) Get(number int) (Request, bool) {
	b.mu.RLock()
	r := b.requests[number]
	b.mu.RUnlock()
	if r == nil {
		return Request{}, false
	}
	return *r.clone(), true
}

// Pending is what open requests are about: the number of the newest by each
// address, and by each file that it changes. One that the reporter has not seen
// yet counts as open.
func (b *Book) Pending() (ips map[netip.Addr]int, paths map[string]int) {
	ips, paths = map[netip.Addr]int{}, map[string]int{}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for n, r := range b.requests {
		if r.State != "" && r.State != "open" {
			continue
		}
		for _, ip := range r.IPs {
			ips[ip] = max(ips[ip], n)
		}
		for _, p := range r.Paths {
			paths[p] = max(paths[p], n)
		}
	}
	return ips, paths
}

// All is every request, newest first.
func (b *Book) All() []Request {
	b.mu.RLock()
	list := slices.Collect(maps.Values(b.requests))
	b.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Request) int { return cmp.Compare(b.Number, a.Number) })
	out := make([]Request, len(list))
	for i, r := range list {
		out[i] = *r.clone()
	}
	return out
}

// Any reports whether there is a request for which match is true. What match is
// given must not be changed or kept.
func (b *Book) Any(match func(*Request) bool) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.requests {
		if match(r) {
			return true
		}
	}
	return false
}

// Put remembers a request, in place of what was remembered of its number.
func (b *Book) Put(r Request) error {
	_, err := b.Update(r.Number, func(to *Request) { *to = r })
	return err
}

// Update changes what is remembered of a request, which is made if there is
// nothing yet. change may be told of no other request. Nothing is written if it
// changes nothing.
func (b *Book) Update(number int, change func(*Request)) (Request, error) {
	if number < 1 {
		return Request{}, fmt.Errorf("book: no request has the number %d", number)
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	was := b.requests[number]
	b.mu.RUnlock()
	now := &Request{Number: number, Kind: KindOther}
	if was != nil {
		now = was.clone()
	}
	change(now)
	now = now.clone() // what the caller still holds is the caller's
	now.Number = number
	data, err := encode(now)
	if err != nil {
		return Request{}, err
	}
	if was != nil {
		if old, err := encode(was); err == nil && string(old) == string(data) {
			return *now.clone(), nil
		}
	}
	if err := b.write("requests", strconv.Itoa(number), data, maxFile); err != nil {
		return Request{}, err
	}
	b.mu.Lock()
	b.requests[number] = now
	b.mu.Unlock()
	b.forgetRequests()
	return *now.clone(), nil
}

// forgetRequests lets the oldest go, where there are too many. A file that cannot
// be removed is tried again with the next.
func (b *Book) forgetRequests() {
	b.mu.RLock()
	over := len(b.requests) - b.most.requests
	numbers := slices.Collect(maps.Keys(b.requests))
	b.mu.RUnlock()
	if over <= 0 {
		return
	}
	slices.Sort(numbers)
	for _, n := range numbers[:over] {
		if os.Remove(filepath.Join(b.dir, "requests", strconv.Itoa(n)+suffix)) == nil {
			b.mu.Lock()
			delete(b.requests, n)
			b.mu.Unlock()
		}
	}
}

func (b *Book) loadRequests() error {
	return load(b, "requests", maxFile, func(name string, r *Request) error {
		if strconv.Itoa(r.Number) != name || r.Number < 1 {
			return fmt.Errorf("book: %s is about request %d", name, r.Number)
		}
		b.requests[r.Number] = r
		return nil
	})
}

// FindAsk is the question with a remark's name.
func (r *Request) FindAsk(id string) *Ask {
	i := slices.IndexFunc(r.Asked, func(a Ask) bool { return a.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Asked[i]
}

// Told is the addresses of the contacts, each once, lower case in its domain.
func (r *Request) Told() []string {
	var out []string
	for _, c := range r.Contacts {
		local, domain, _ := strings.Cut(c.Email, "@")
		at := local + "@" + strings.ToLower(domain)
		if c.Email != "" && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}
