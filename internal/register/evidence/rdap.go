package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/openrdap/rdap"
)

// An RDAP source asks an internet registry whose block an address is in. It
// speaks of the university, not of a department: what it contradicts is an
// address of somebody else.
type RDAP struct {
	base       *url.URL
	registrant string
	client     *http.Client
}

var _ Source = (*RDAP)(nil)

// NewRDAP makes a source that asks the service at base, such as
// https://rdap.arin.net/registry. The registrant is the university as the
// registry calls it: its handle, its name, or the handle or name of the block;
// without it the source shows what it finds and confirms nothing.
func NewRDAP(base, registrant string) (*RDAP, error) {
	u, err := parseBase(base)
	if err != nil {
		return nil, fmt.Errorf("evidence: the RDAP service: %w", err)
	}
	return &RDAP{base: u, registrant: strings.TrimSpace(registrant), client: newClient(true)}, nil
}

// Name is "rdap".
func (r *RDAP) Name() string { return "rdap" }

// Observe asks for the smallest block around the address.
func (r *RDAP) Observe(ctx context.Context, c Claim) (Finding, error) {
	if c.IP.IsPrivate() || c.IP.IsLoopback() {
		return Finding{Text: fmt.Sprintf("%s is a private address, which no registry knows", c.IP)}, nil
	}
	block, err := r.ask(ctx, c.IP)
	if err != nil {
		return Finding{}, err
	}
	if block == nil {
		return Finding{Text: fmt.Sprintf("the registry knows no block with %s", c.IP)}, nil
	}
	if !within(c.IP, block.StartAddress, block.EndAddress) {
		return Finding{}, fmt.Errorf("the answer is about %s to %s", word(block.StartAddress), word(block.EndAddress))
	}
	return r.judge(c.IP, block), nil
}

func (r *RDAP) judge(ip netip.Addr, block *rdap.IPNetwork) Finding {
	span := fmt.Sprintf("%s to %s", word(block.StartAddress), word(block.EndAddress))
	if block.Name != "" {
		span += " (" + word(block.Name) + ")"
	}
	f := Finding{Detail: []string{"block " + span}}
	names := []string{block.Handle, block.Name}
	shown := ""
	for _, e := range block.Entities {
		if !slices.ContainsFunc(e.Roles, func(role string) bool { return strings.EqualFold(role, "registrant") }) {
			continue
		}
		called := []string{e.Handle}
		if e.VCard != nil {
			called = append([]string{e.VCard.Org(), e.VCard.Name()}, called...)
		}
		names = append(names, called...)
		i := slices.IndexFunc(called, func(s string) bool { return strings.TrimSpace(s) != "" })
		if i >= 0 && shown == "" {
			shown = word(called[i])
		}
	}
	same := func(name string) bool { return strings.EqualFold(strings.TrimSpace(name), r.registrant) }
	switch {
	case r.registrant != "" && slices.ContainsFunc(names, same):
		f.Outcome, f.Text = Confirmed, fmt.Sprintf("the block of %s is registered to %s", ip, word(r.registrant))
	case shown == "":
		f.Text = fmt.Sprintf("the registry does not say whose block %s is in", ip)
	case r.registrant == "":
		f.Text = fmt.Sprintf("the block of %s is registered to %s; nothing was named to compare with", ip, shown)
	default:
		f.Outcome, f.Text = Contradicted, fmt.Sprintf("the block of %s is registered to %s, not to %s", ip, shown, word(r.registrant))
	}
	return f
}

// ask returns the block, or nil where the registry knows none.
func (r *RDAP) ask(ctx context.Context, ip netip.Addr) (block *rdap.IPNetwork, err error) {
	defer func() {
		// The library's decoder panics where it meets what its author thought
		// impossible; a server's answer must not end a check.
		if p := recover(); p != nil {
			block, err = nil, fmt.Errorf("the answer cannot be read: %v", p)
		}
	}()
	base := *r.base // Request.URL writes to it
	req := (&rdap.Request{Type: rdap.IPRequest, Query: ip.String(), Server: &base}).WithContext(ctx)
	answer, err := (&rdap.Client{HTTP: r.client, UserAgent: userAgent}).Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, rdapError(answer, err)
	}
	switch object := answer.Object.(type) {
	case *rdap.IPNetwork:
		return object, nil
	case *rdap.Error:
		if object.ErrorCode != nil && *object.ErrorCode == http.StatusNotFound {
			return nil, nil
		}
		return nil, fmt.Errorf("the service says: %s", word(object.Title))
	}
	return nil, errors.New("the answer is about no network")
}

// rdapError finds the cause, which the library keeps beside its own error. Nil
// means that the registry does not know the address.
func rdapError(answer *rdap.Response, err error) error {
	if ce, ok := errors.AsType[*rdap.ClientError](err); ok && ce.Type == rdap.ObjectDoesNotExist {
		return nil
	}
	if answer != nil && len(answer.HTTP) > 0 {
		switch last := answer.HTTP[len(answer.HTTP)-1]; {
		case last.Error != nil:
			return plainError(last.Error)
		case last.Response != nil:
			return statusError(last.Response.StatusCode)
		}
	}
	return err
}

// within reports whether ip lies between two addresses as texts.
func within(ip netip.Addr, first, last string) bool {
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	return err1 == nil && err2 == nil && from.BitLen() == ip.BitLen() && to.BitLen() == ip.BitLen() &&
		from.Compare(ip) <= 0 && ip.Compare(to) <= 0
}
