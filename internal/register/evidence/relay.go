package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Relay source asks a running relay whether control of an address was proved
// to it, and what it has seen of the address. Each relay of a fleet knows what
// came to it, so each is a source of its own.
type Relay struct {
	status url.URL // of the relay's status page
	client *http.Client
}

var _ Source = (*Relay)(nil)

const (
	// freshFor is how long a proof says something: an address that was proved
	// long ago may have changed hands since.
	freshFor = 90 * 24 * time.Hour
	// clockSkew is how far the relay's clock may be behind its own records.
	clockSkew = time.Hour

	shownProofs = 3
)

// NewRelay makes a source of the relay whose status page is below a URL, such
// as http://127.0.0.1:9587, or whose operators' socket is at a path.
func NewRelay(where string) (*Relay, error) {
	if strings.Contains(where, "://") {
		u, err := parseBase(where)
		if err != nil {
			return nil, fmt.Errorf("evidence: relay: %w", err)
		}
		u.Path = strings.TrimSuffix(u.Path, "/status") + "/status"
		return &Relay{status: *u, client: newClient(false)}, nil
	}
	if where == "" || strings.ContainsRune(where, 0) {
		return nil, errors.New("evidence: relay: this is neither a URL such as http://127.0.0.1:9587 nor the path of a socket")
	}
	path, err := filepath.Abs(where)
	if err != nil {
		return nil, fmt.Errorf("evidence: relay: %w", err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		MaxResponseHeaderBytes: maxHeader,
	}
	client := &http.Client{Transport: bounded{transport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Relay{status: url.URL{Scheme: "http", Host: "gatepostd", Path: "/v1/status"}, client: client}, nil
}

// Name is "relay".
func (r *Relay) Name() string { return "relay" }

// seenByRelay is what is read of a relay's answer.
type seenByRelay struct {
	Host     string     `json:"host"`
	At       time.Time  `json:"at"`
	IP       netip.Addr `json:"ip"`
	Standing string     `json:"standing"`
	Block    *struct {
		Reason string `json:"reason"`
	} `json:"block"`
	Proofs []proved `json:"proofs"`
	Mail   struct {
		Last  time.Time `json:"last"`
		Month int       `json:"month"`
	} `json:"mail"`
	Refusals []struct {
		At   time.Time `json:"at"`
		Said string    `json:"said"`
	} `json:"refusals"`
}

type proved struct {
	Request int       `json:"request"`
	At      time.Time `json:"at"`
}

// Observe asks the relay about the address.
func (r *Relay) Observe(ctx context.Context, c Claim) (Finding, error) {
	seen, err := r.ask(ctx, c.IP)
	if err != nil {
		return Finding{}, err
	}
	return seen.judge(), nil
}

func (r *Relay) ask(ctx context.Context, ip netip.Addr) (*seenByRelay, error) {
	at := r.status
	at.RawQuery = url.Values{"ip": {ip.String()}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, plainError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	var seen seenByRelay
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil {
		if errors.Is(err, errBody) || ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		return nil, fmt.Errorf("the answer is not what a relay sends: %w", err)
	}
	if seen.IP.Unmap() != ip || seen.Host == "" || seen.At.IsZero() {
		return nil, errors.New("the answer is not about this address; is the relay older than this program?")
	}
	return &seen, nil
}

// judge says what a relay's answer is worth. Only a proof confirms: that mail
// comes from an address says that it is in use, not by whom.
func (s *seenByRelay) judge() Finding {
	slices.SortStableFunc(s.Proofs, func(a, b proved) int { return cmp.Compare(b.At.Unix(), a.At.Unix()) })
	f := Finding{Detail: s.notes()}
	if len(s.Proofs) == 0 {
		f.Text = fmt.Sprintf("control of %s was never proved to %s; a token for that: gatepost prove %[1]s", s.IP, word(s.Host))
		return f
	}
	newest := s.Proofs[0]
	text := fmt.Sprintf("control of %s was proved to %s on %s", s.IP, word(s.Host), newest)
	switch age := s.At.Sub(newest.At); {
	case newest.At.IsZero() || age < -clockSkew:
		f.Text = fmt.Sprintf("%s says that control of %s was proved at a time to come; is its clock right?", word(s.Host), s.IP)
	case age > freshFor:
		f.Text = fmt.Sprintf("%s, which is over %d days ago and says little of today", text, freshFor/(24*time.Hour))
	default:
		f.Outcome, f.Text = Confirmed, text
	}
	return f
}

// notes are what else a reviewer may want to know.
func (s *seenByRelay) notes() []string {
	var notes []string
	for i := 1; i < min(len(s.Proofs), shownProofs); i++ {
		notes = append(notes, "proved on "+s.Proofs[i].String()+", too")
	}
	if s.Mail.Last.IsZero() {
		notes = append(notes, "it has accepted no mail from this address")
	} else {
		notes = append(notes, fmt.Sprintf("it last accepted mail from this address on %s; %d in the last 30 days", minute(s.Mail.Last), s.Mail.Month))
	}
	if s.Block != nil {
		notes = append(notes, "the address is blocked: "+s.Block.Reason)
	}
	if len(s.Refusals) > 0 {
		notes = append(notes, fmt.Sprintf("last refused on %s: %s", minute(s.Refusals[0].At), s.Refusals[0].Said))
	}
	return notes
}

// String is when and for which request.
func (p proved) String() string {
	if p.Request > 0 {
		return fmt.Sprintf("%s for request %d", minute(p.At), p.Request)
	}
	return minute(p.At) + " for no request"
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
