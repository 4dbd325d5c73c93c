package evidence

import (
	"cmp"
	"context"
	"fmt"
	"strings"
)

// An IPAM source compares a claim with what a NetBox says of the address: whose
// network it is in, what the network is for, and what stands at the address
// itself.
type IPAM struct {
	netbox  *NetBox
	mapping *Mapping
}

var _ Source = (*IPAM)(nil)

// NewIPAM makes a source of a NetBox; the mapping says which tenant is which
// department.
func NewIPAM(n *NetBox, m *Mapping) *IPAM { return &IPAM{n, m} }

// Name is "netbox".
func (i *IPAM) Name() string { return "netbox" }

// Observe asks for the prefixes around the address, and for the address.
func (i *IPAM) Observe(ctx context.Context, c Claim) (Finding, error) {
	prefixes, addresses, err := i.netbox.around(ctx, c.IP)
	if err != nil {
		return Finding{}, err
	}
	network := closest(prefixes, c)
	if network == nil {
		return Finding{Text: fmt.Sprintf("NetBox shows no network with %s; if there is one, the token may not see it", c.IP)}, nil
	}
	f := Finding{Detail: []string{describe(network)}}
	if network.Status.Value == statusContainer {
		f.Text = fmt.Sprintf("%s is in no network, only in the container %s", c.IP, network.Prefix)
		return f, nil
	}
	entry := entryOf(addresses, c, network.VRF.String())
	if entry != nil {
		f.Detail = append(f.Detail, describeEntry(entry))
	}
	// The first contradiction is told; after it what is not known.
	for _, judge := range []func(*netboxPrefix, *netboxAddress, Claim) (Outcome, string){i.tenant, i.use, atAddress} {
		outcome, text := judge(network, entry, c)
		if outcome == Contradicted || outcome == Unknown && f.Text == "" && text != "" {
			f.Outcome, f.Text = outcome, text
		}
		if outcome == Contradicted {
			return f, nil
		}
	}
	if f.Text == "" {
		f.Outcome, f.Text = Confirmed, fmt.Sprintf("%s is in %s of %s", c.IP, network.Prefix, word(c.Department))
	}
	return f, nil
}

// closest is the longest prefix around the address. One of the global table
// goes before those of VRFs, which may use an address again, and a container,
// which says nothing of what is in it, comes last.
func closest(prefixes []netboxPrefix, c Claim) *netboxPrefix {
	rank := func(p *netboxPrefix) int {
		switch {
		case p.Status.Value == statusContainer:
			return 0
		case p.VRF != nil:
			return 1
		}
		return 2
	}
	var best *netboxPrefix
	for i := range prefixes {
		p := &prefixes[i]
		if !p.Prefix.IsValid() || !p.Prefix.Contains(c.IP) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(rank(p), rank(best)), cmp.Compare(p.Prefix.Bits(), best.Prefix.Bits())) > 0 {
			best = p
		}
	}
	return best
}

// entryOf is what stands at the address itself, in the same table.
func entryOf(addresses []netboxAddress, c Claim, vrf string) *netboxAddress {
	for i := range addresses {
		if addresses[i].Address.Addr().Unmap() == c.IP && addresses[i].VRF.String() == vrf {
			return &addresses[i]
		}
	}
	return nil
}

// tenant compares the holder: of the address where one is named, else of the
// network.
func (i *IPAM) tenant(n *netboxPrefix, a *netboxAddress, c Claim) (Outcome, string) {
	what, tenant := n.Prefix.String(), n.Tenant.String()
	if a != nil && a.Tenant != nil {
		what, tenant = c.IP.String(), a.Tenant.String()
	}
	department, known := i.mapping.Department(tenant)
	switch {
	case known && department == c.Department:
		return Confirmed, ""
	case known && department != LeaveOut:
		return Contradicted, fmt.Sprintf("%s is of %s, not of %s", what, word(department), word(c.Department))
	case tenant == "":
		return Unknown, fmt.Sprintf("NetBox does not say whose %s is", what)
	}
	return Unknown, fmt.Sprintf("%s is of tenant %q, which is no department here", what, word(tenant))
}

// use tells a network whose addresses change hands.
func (i *IPAM) use(n *netboxPrefix, _ *netboxAddress, _ Claim) (Outcome, string) {
	if use, known := i.mapping.Use(n.Role.String()); known && use != useStatic && use != LeaveOut {
		return Contradicted, fmt.Sprintf("%s is a pool (%s)", n.Prefix, use)
	}
	return Confirmed, ""
}

// atAddress compares what stands at the address itself.
func atAddress(_ *netboxPrefix, a *netboxAddress, c Claim) (Outcome, string) {
	switch {
	case a == nil:
		return Confirmed, ""
	case a.Status.Value == "dhcp" || a.Status.Value == "slaac":
		return Contradicted, fmt.Sprintf("%s is handed out by %s", c.IP, a.Status.Value)
	case a.Status.Value == statusDeprecated:
		return Contradicted, fmt.Sprintf("%s is no longer in use (%s)", c.IP, statusDeprecated)
	case a.DNSName != "" && canonical(a.DNSName) != canonical(c.Name):
		return Contradicted, fmt.Sprintf("%s is %s in NetBox, not %s", c.IP, word(a.DNSName), word(c.Name))
	}
	return Confirmed, ""
}

func describe(n *netboxPrefix) string {
	return "prefix " + n.Prefix.String() + attributes("tenant", n.Tenant.String(), "role", n.Role.String(), "status", n.Status.Value, "VRF", n.VRF.String())
}

func describeEntry(a *netboxAddress) string {
	return "address " + a.Address.String() + attributes("name", a.DNSName, "tenant", a.Tenant.String(), "status", a.Status.Value)
}

// attributes lists those that are set: ", tenant physics, role servers".
func attributes(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			b.WriteString(", " + pairs[i] + " " + word(pairs[i+1]))
		}
	}
	return b.String()
}
