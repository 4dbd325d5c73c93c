package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A NetBox reads an IPAM over the REST API of NetBox: prefixes and addresses,
// with tenant, role and status. It only ever asks.
type NetBox struct {
	base   *url.URL
	token  string
	client *http.Client
}

// Bounds on what is read of a NetBox.
const (
	pageSize    = 500     // objects asked for at a time; NetBox may hand over fewer
	maxPrefixes = 100_000 // of an import
	maxAround   = 200     // prefixes around one address, in all VRFs
	maxPages    = 1_000
	maxToken    = 4096

	pageTimeout = time.Minute
)

// NewNetBox makes a reader of the NetBox at base, such as
// https://netbox.example.edu, with an API token that may be "".
func NewNetBox(base, token string) (*NetBox, error) {
	u, err := parseBase(base)
	if err != nil {
		return nil, fmt.Errorf("evidence: NetBox: %w", err)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/api")
	token = strings.TrimSpace(token)
	if len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("evidence: NetBox: the token is not one line of plain characters")
	}
	return &NetBox{base: u, token: token, client: newClient(false)}, nil
}

// A named object of NetBox: a tenant, a role, a VRF.
type named struct {
	Slug string `json:"slug"`
	Name string `json:"name"`
}

// String is the slug, or the name of what has none; "" for nil.
func (n *named) String() string {
	switch {
	case n == nil:
		return ""
	case n.Slug != "":
		return n.Slug
	}
	return n.Name
}

type status struct {
	Value string `json:"value"`
}

type netboxPrefix struct {
	Prefix netip.Prefix `json:"prefix"`
	Tenant *named       `json:"tenant"`
	Role   *named       `json:"role"`
	VRF    *named       `json:"vrf"`
	Status status       `json:"status"`
}

type netboxAddress struct {
	Address netip.Prefix `json:"address"`
	Tenant  *named       `json:"tenant"`
	VRF     *named       `json:"vrf"`
	Status  status       `json:"status"`
	DNSName string       `json:"dns_name"`
}

// Blocks reads every prefix of the IPAM.
func (n *NetBox) Blocks(ctx context.Context) ([]Block, error) {
	found, err := list[netboxPrefix](ctx, n, "/api/ipam/prefixes/", url.Values{"ordering": {"id"}}, maxPrefixes)
	if err != nil {
		return nil, fmt.Errorf("evidence: reading the prefixes of NetBox: %w", err)
	}
	blocks := make([]Block, len(found))
	for i, p := range found {
		blocks[i] = Block{Prefix: p.Prefix, Tenant: p.Tenant.String(), Role: p.Role.String(), Status: p.Status.Value, VRF: p.VRF.String()}
	}
	return blocks, nil
}

// around reads the prefixes around ip and the entries of ip itself.
func (n *NetBox) around(ctx context.Context, ip netip.Addr) ([]netboxPrefix, []netboxAddress, error) {
	prefixes, err := list[netboxPrefix](ctx, n, "/api/ipam/prefixes/", url.Values{"contains": {ip.String()}}, maxAround)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := list[netboxAddress](ctx, n, "/api/ipam/ip-addresses/", url.Values{"address": {ip.String()}}, maxAround)
	return prefixes, addresses, err
}

// list reads all pages of one list of at most max objects. It counts its own
// way through: the address of the next page that an answer holds is not
// followed, as the token would go along. A list that is not whole is an error.
func list[T any](ctx context.Context, n *NetBox, path string, query url.Values, max int) ([]T, error) {
	var all []T
	for range maxPages {
		var page struct {
			Count   *int    `json:"count"`
			Next    *string `json:"next"`
			Results []T     `json:"results"`
		}
		query.Set("limit", strconv.Itoa(pageSize))
		query.Set("offset", strconv.Itoa(len(all)))
		if err := n.get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Results...)
		switch {
		case page.Count == nil:
			return nil, errors.New("the answer is no list of NetBox")
		case *page.Count > max || len(all) > max:
			return nil, fmt.Errorf("there are over %d objects", max)
		case page.Next == nil && len(all) != *page.Count:
			return nil, fmt.Errorf("%d objects were announced and %d came", *page.Count, len(all))
		case page.Next == nil:
			return all, nil
		case len(page.Results) == 0:
			return nil, errors.New("an empty page claims to have a next one")
		}
	}
	return nil, fmt.Errorf("there are over %d pages", maxPages)
}

// get asks for one page.
func (n *NetBox) get(ctx context.Context, path string, query url.Values, into any) error {
	at := *n.base
	at.Path += path
	at.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	if n.token != "" {
		scheme := "Token "
		if strings.HasPrefix(n.token, "nbt_") {
			scheme = "Bearer " // tokens of the second kind, since NetBox 4.5
		}
		req.Header.Set("Authorization", scheme+n.token)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	dec := json.NewDecoder(resp.Body)
	if err := dec.Decode(into); err != nil {
		if errors.Is(err, errBody) || ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		return fmt.Errorf("the answer is not what NetBox sends: %w", err)
	}
	return nil
}
