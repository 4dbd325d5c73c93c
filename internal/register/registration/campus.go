package registration

import (
	"fmt"
	"net/netip"
	"strings"
)

// readCampus reads a file under campus/; nil when there is an error. Each
// network and each department is judged by itself, so that a file of a hundred
// thousand networks needs no more memory at a time than one of them. Networks
// that say the same are judged once.
func (p *Parser) readCampus(file string, n *node, r *report) *Campus {
	c := &Campus{Path: file}
	p.campusList(c, n, r)
	fit := map[holding]bool{}
	for f := range n.get("networks").each() {
		if len(r.problems) > maxProblems {
			break
		}
		p.campusNetwork(c, f, fit, r)
	}
	for f := range n.get("departments").each() {
		if len(r.problems) > maxProblems {
			break
		}
		p.campusDepartment(c, f, r)
	}
	if r.errors > 0 {
		return nil
	}
	return c
}

// campusList judges the top of the file, with the entries of networks and
// departments left out, and the list campus. What is a prefix is what #Prefix
// asks for: the evaluator gets to see the other entries only.
func (p *Parser) campusList(c *Campus, n *node, r *report) {
	seen := map[netip.Prefix]Pos{}
	list := n.get("campus")
	others := []*node{}
	for _, e := range list.list() {
		if len(r.problems) > maxProblems {
			break
		}
		prefix, ok := checkPrefix(e, r)
		if !ok {
			others = append(others, e)
			continue
		}
		if first, twice := seen[prefix]; twice {
			r.blame(e, RuleIPDuplicate, fmt.Sprintf("%s is in this list already, on line %d", prefix, first.Line), "delete one of the two")
			continue
		}
		seen[prefix] = e.at
		c.Prefixes = append(c.Prefixes, Prefix{prefix, e.at})
	}
	if len(n.fields) == 0 {
		r.add(n.at, RuleMissingField, "the file says nothing", "write campus, networks or departments, or delete the file")
	}
	top := &node{kind: recordNode, at: n.at}
	for f := range n.each() {
		if (f.name == "networks" || f.name == "departments") && f.value.kind == recordNode {
			continue
		}
		if f.value == list && list.kind == listNode {
			f = &field{f.name, f.at, &node{kind: listNode, at: list.at, elems: others}}
		}
		top.fields = append(top.fields, *f)
	}
	var raw struct{ Portal Account }
	if p.campus.settle("the file", top, r, r.errors == 0, &raw) {
		c.Portal = raw.Portal
	}
}

func checkPrefix(n *node, r *report) (netip.Prefix, bool) {
	if !n.isText() {
		return netip.Prefix{}, false
	}
	prefix, message, hint := network(n.text)
	if message != "" {
		r.blame(n, RuleBadIP, message, hint)
		return netip.Prefix{}, false
	}
	return prefix, true
}

// A holding is what an entry of networks says: all of it, if it is right.
type holding struct{ Department, Use string }

// campusNetwork reads one network. fit holds what the definition has accepted.
func (p *Parser) campusNetwork(c *Campus, f *field, fit map[holding]bool, r *report) {
	// A name cannot be written twice, and a prefix has one form only: no duplicates here.
	prefix, message, hint := network(f.name)
	if message != "" {
		r.add(f.at, RuleBadIP, message, hint)
	}
	checkDepartment(f.value.get("department"), r)
	var raw holding
	if department, use := f.value.get("department"), f.value.get("use"); len(f.value.fields) == 2 && department.isText() && use.isText() {
		raw = holding{department.text, use.text}
	}
	if !fit[raw] {
		fits := p.network.settle("the entry of "+clip(f.name, 64), f.value, r, r.errors == 0, &raw)
		if !fits {
			return
		}
		fit[raw] = len(f.value.fields) == 2
	}
	if r.errors == 0 {
		c.Networks = append(c.Networks, Network{prefix, raw.Department, raw.Use, f.at})
	}
}

func (p *Parser) campusDepartment(c *Campus, f *field, r *report) {
	if !isDepartmentID(f.name) {
		r.add(f.at, RuleSchema, quote(f.name)+" is no department's short name",
			"write small letters, digits and hyphens, like \"lsa-physics\"; campus and blocks are taken")
	}
	for _, d := range f.value.get("contactDomains").list() {
		checkText(d, r, func(s string) (string, string) {
			if isDomain(s) {
				return "", ""
			}
			return quote(s) + " is no domain", `write a domain, like "example.edu"`
		})
	}
	if f.value.kind == recordNode && f.value.get("speakers") == nil && f.value.get("team") == nil {
		r.add(f.value.at, RuleMissingField, "neither speakers nor team is in "+clip(f.name, 64),
			`add speakers: [{github: "octocat", id: 583231}], or team: {slug: "lsa-physics", id: 42}: without one nobody can register`)
	}
	for _, s := range f.value.get("speakers").list() {
		checkSpeaker(s, r)
	}
	var raw rawDepartment
	if p.department.settle("the entry of "+clip(f.name, 64), f.value, r, r.errors == 0, &raw) {
		c.Departments = append(c.Departments, raw.department(f))
	}
}

// checkSpeaker wants an account with its number, a mail address, or both.
func checkSpeaker(n *node, r *report) {
	if n.kind != recordNode {
		return
	}
	github, id, email := n.get("github"), n.get("id"), n.get("email")
	switch {
	case len(n.fields) == 0:
		r.add(n.at, RuleMissingField, "a speaker has neither an account nor a mail address",
			`write {github: "octocat", id: 583231}, or {email: "ada@example.edu"} for who signs in to the portal, or both in one`)
	case github != nil && id == nil:
		r.add(n.at, RuleMissingField, "id is missing beside github",
			"add id, the number of the account, which decides: https://api.github.com/users/"+loginOf(github)+" shows it")
	case github == nil && id != nil:
		r.add(n.at, RuleMissingField, "github is missing beside id", `add github, the login of the account, for people to read`)
	}
	checkText(email, r, mailbox)
}

// loginOf is a login as a part of a URL.
func loginOf(n *node) string {
	if n.isText() && strings.Trim(n.text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-[]") == "" {
		return n.text
	}
	return "LOGIN"
}

// checkDepartment refuses a short name that can be no folder of a department.
func checkDepartment(n *node, r *report) {
	checkText(n, r, func(s string) (string, string) {
		if isDepartmentID(s) {
			return "", ""
		}
		return quote(s) + " is no department's short name", "write small letters, digits and hyphens, as in departments"
	})
}

type rawDepartment struct {
	Name     string
	Speakers []struct {
		GitHub, Email string
		ID            int64
	}
	Team           Team
	ContactDomains []string
}

func (raw *rawDepartment) department(f *field) Department {
	d := Department{ID: f.name, Name: raw.Name, Team: raw.Team, At: f.at}
	for _, s := range raw.Speakers {
		d.Speakers = append(d.Speakers, Speaker{s.GitHub, s.ID, strings.ToLower(s.Email)})
	}
	for _, domain := range raw.ContactDomains {
		d.ContactDomains = append(d.ContactDomains, strings.ToLower(domain))
	}
	return d
}
