package registration

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The checks of this file are those that a definition cannot make, or cannot
// explain. They look at the data before the definition does, skip what is
// missing or of the wrong type (the definition will tell) and blame each value
// at most once.

// readRegistration reads one registration; nil when there is an error.
func (p *Parser) readRegistration(file string, n *node, r *report) *Registration {
	checkFolder(file, n.get("department"), r)
	checkText(n.get("contact", "email"), r, mailbox)
	seen := map[netip.Addr]Pos{}
	for _, h := range n.get("hosts").list() {
		checkHost(h, seen, r)
	}
	for _, s := range n.get("senders").list() {
		checkText(s, r, sender)
	}
	checkVolume(n.get("volume"), r)
	checkText(n.get("expires"), r, func(s string) (string, string) {
		_, message, hint := day(s)
		return message, hint
	})
	for f := range n.get("accept").each() {
		if f.value.kind == boolNode && !f.value.truth {
			r.blame(f.value, RuleAccept, "accept."+clip(f.name, 64)+" is false", acceptHint(f.name))
		}
	}
	var raw rawRegistration
	if !p.registration.settle("the file", n, r, r.errors == 0, &raw) {
		return nil
	}
	return raw.registration(file, n)
}

// acceptHint says what each condition asks for.
func acceptHint(name string) string {
	switch name {
	case "policies":
		return "the relay is only for those who accept the university's IT policies; read them, then write true"
	case "notBulk":
		return "the relay is not for bulk mail; ask the postmaster for the service that is"
	case "notWorkstation":
		return "the relay is not for personal workstations; let the mail program there log in with SMTP AUTH"
	case "noMailServer":
		return "switch the machine's own mail server off, or let it relay through the university's servers; then write true"
	}
	return "write true when this holds"
}

// rawRegistration is a registration as CUE hands it over, defaults filled in.
type rawRegistration struct {
	Department string
	Contact    Contact
	Purpose    string
	WhyNoAuth  string
	Hosts      []struct {
		IP, Name, Kind string
		Device         Device
	}
	Senders []string
	Bounces string
	Volume  Volume
	Expires string
	Accept  Accept
}

func (raw *rawRegistration) registration(file string, n *node) *Registration {
	last, _, _ := day(raw.Expires)
	reg := &Registration{
		Path:       file,
		Department: raw.Department,
		Contact:    raw.Contact,
		Purpose:    raw.Purpose,
		WhyNoAuth:  raw.WhyNoAuth,
		Hosts:      make([]Host, len(raw.Hosts)),
		Volume:     raw.Volume,
		Expires:    last.AddDate(0, 0, 1),
		Accept:     raw.Accept,
		At: Positions{
			Department: n.pos("department"), Contact: n.pos("contact"), Email: n.pos("contact", "email"),
			Hosts: n.pos("hosts"), Senders: n.pos("senders"), Volume: n.pos("volume"),
			Expires: n.pos("expires"), Accept: n.pos("accept"),
		},
	}
	if raw.Bounces == BouncesToContact { // else as if it were not written
		reg.Bounces = raw.Bounces
	}
	hosts := n.get("hosts").list()
	for i, h := range raw.Hosts {
		addr, _ := netip.ParseAddr(h.IP) // was checked
		reg.Hosts[i] = Host{IP: addr, Name: strings.ToLower(h.Name), Kind: h.Kind, Device: h.Device, At: hosts[i].pos("ip")}
	}
	for _, s := range raw.Senders {
		reg.Senders = append(reg.Senders, strings.ToLower(s))
	}
	return reg
}

// checkText holds a text to a check; anything else is left to the definition.
func checkText(n *node, r *report, check func(string) (message, hint string)) {
	if !n.isText() || n.text == "" {
		return
	}
	if message, hint := check(n.text); message != "" {
		r.blame(n, RuleSchema, message, hint)
	}
}

// checkFolder holds that a file stands where its department says.
func checkFolder(file string, n *node, r *report) {
	folder := department(file)
	if !n.isText() || n.text == folder {
		return
	}
	if isDepartmentID(n.text) {
		r.blame(n, RulePath, fmt.Sprintf("the file stands in the folder %s, and its department is %s", quote(folder), quote(n.text)),
			fmt.Sprintf("write department: %q, as the folder is named; or, if %s is the department, move the file to registrations/%s/", folder, n.text, n.text))
		return
	}
	r.blame(n, RuleSchema, quote(n.text)+" is no department's short name (small letters, digits and hyphens)",
		fmt.Sprintf("write department: %q, as the folder is named", folder))
}

// checkHost checks a machine's address and name, and that the file has the
// address once.
func checkHost(h *node, seen map[netip.Addr]Pos, r *report) {
	if ip := h.get("ip"); ip.isText() {
		addr, message, hint := hostAddress(ip.text)
		switch {
		case message != "":
			r.blame(ip, RuleBadIP, message, hint)
		case seen[addr] != Pos{}:
			r.blame(ip, RuleIPDuplicate, fmt.Sprintf("%s is in this file already, on line %d", addr, seen[addr].Line),
				"delete one of the two entries")
		default:
			seen[addr] = ip.at
		}
	}
	checkText(h.get("name"), r, hostName)
}

// checkVolume holds that the two numbers go together.
func checkVolume(n *node, r *report) {
	hour, ok1 := n.get("perHour").number()
	day, ok2 := n.get("perDay").number()
	if !ok1 || !ok2 || hour < 1 || day < 1 {
		return
	}
	at := n.get("perDay")
	switch {
	case day < hour:
		r.blame(at, RuleVolume, fmt.Sprintf("perDay (%d) is less than perHour (%d)", day, hour),
			"write at least "+strconv.Itoa(hour)+" for perDay, or less for perHour")
	case day/24 > hour || day/24 == hour && day%24 > 0:
		r.put(at.at, RuleVolume, Warning, fmt.Sprintf("perDay (%d) cannot be reached with perHour (%d)", day, hour),
			fmt.Sprintf("the relay stops the machines at %d in an hour: raise perHour if they send all their mail at one time", hour))
	}
}

// readBlock reads one block; nil when there is an error.
func (p *Parser) readBlock(file string, n *node, r *report) *Block {
	block := &Block{Path: file}
	b := n.get("block")
	ip, prefix := b.get("ip"), b.get("prefix")
	if b != nil && b.kind == recordNode {
		block.At = b.at
		switch {
		case ip == nil && prefix == nil:
			r.add(b.at, RuleMissingField, "neither ip nor prefix is in block", `add ip: "192.0.2.21" for one machine, or prefix: "192.0.2.0/24" for a network`)
		case ip != nil && prefix != nil:
			r.blame(prefix, RuleSchema, "ip and prefix are both in block", "keep one of the two; write another file for the other")
		}
	}
	if ip.isText() {
		block.At = ip.at
		addr, message, hint := hostAddress(ip.text)
		if _, err := netip.ParsePrefix(ip.text); err == nil {
			hint = "write prefix: " + quote(ip.text) + " in its place"
		}
		if message != "" {
			r.blame(ip, RuleBadIP, message, hint)
		} else {
			block.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if prefix.isText() {
		block.At = prefix.at
		p, message, hint := network(prefix.text)
		if message != "" {
			r.blame(prefix, RuleBadIP, message, hint)
		} else if !block.Prefix.IsValid() {
			block.Prefix = p
		}
	}
	since, ok1 := checkInstant(b.get("since"), r)
	until, ok2 := checkInstant(b.get("until"), r)
	if ok1 && ok2 && !until.After(since) {
		r.blame(b.get("until"), RuleSchema, "until is not later than since", "write a later time for until, or leave it out")
	}
	var raw struct{ Block struct{ Reason string } }
	if !p.block.settle("the file", n, r, r.errors == 0, &raw) {
		return nil
	}
	block.Reason, block.Since, block.Until = raw.Block.Reason, since, until
	return block
}

func checkInstant(n *node, r *report) (time.Time, bool) {
	if !n.isText() {
		return time.Time{}, false
	}
	t, message, hint := instant(n.text)
	if message != "" {
		r.blame(n, RuleSchema, message, hint)
		return time.Time{}, false
	}
	return t, true
}
