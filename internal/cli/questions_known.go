package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/policy"
)

// These checks of single answers know the register, so that a slip is told at
// the question and not after the last one. They are kinder than the judgement at
// the end, which decides: what they cannot tell, they let pass.

// knownDepartment holds an answer to the departments there are.
func knownDepartment(known *policy.Snapshot) func(string) error {
	var ids []string
	for d := range known.Departments() {
		ids = append(ids, d.ID)
	}
	return func(s string) error {
		if err := something(s); err != nil || len(ids) == 0 || slices.Contains(ids, s) {
			return err
		}
		for _, id := range ids { // "physics" for lsa-physics
			if len(s) > 2 && strings.Contains(id, strings.ToLower(s)) {
				return fmt.Errorf("there is no department %s; did you mean %s?", quote(s), id)
			}
		}
		if near := nearest(s, ids, 2); near != "" {
			return fmt.Errorf("there is no department %s; did you mean %s?", quote(s), near)
		}
		return fmt.Errorf("there is no department %s; they are in %s/campus/departments.cue", quote(s), registerDir)
	}
}

// reachable holds a mailbox to the domains of a department.
func reachable(known *policy.Snapshot, department string) func(string) error {
	return func(s string) error {
		local, domain, ok := strings.Cut(s, "@")
		if !ok || local == "" || domain == "" || strings.ContainsAny(s, " <>") {
			return errors.New("a mailbox, such as physics-it@example.edu")
		}
		d := known.Department(department)
		if d == nil || slices.ContainsFunc(d.ContactDomains, func(of string) bool { return strings.EqualFold(of, domain) }) {
			return nil
		}
		return fmt.Errorf("%s is to be reached at one of its own domains: %s", department, strings.Join(d.ContactDomains, ", "))
	}
}

// registrable holds an address to who holds it and to what is registered.
func registrable(known *policy.Snapshot, department string) func(string) error {
	return func(s string) error {
		if err := anAddress(s); err != nil {
			return err
		}
		addr, _ := netip.ParseAddr(s)
		if e, ok := known.Find(addr); ok {
			return fmt.Errorf("it is registered already: %s:%d", e.Registration.Path, e.Host.At.Line)
		}
		h, ok := known.Holder(addr)
		switch {
		case known.Len() == 0 && !ok, known.Department(department) == nil:
			return nil
		case !known.OnCampus(addr):
			return errors.New("it is not one of the university's addresses")
		case !ok:
			return errors.New("it is in a network that no department holds; ask the network team")
		case h.Department != department:
			return fmt.Errorf("it is in %s, which %s holds and not %s", h.Prefix, h.Department, department)
		case h.Use != "static":
			return fmt.Errorf("it is in %s, a pool (%s) whose addresses change hands: give the machine a static one first", h.Prefix, h.Use)
		}
		return nil
	}
}
