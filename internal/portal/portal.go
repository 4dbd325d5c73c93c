// Package portal is what a department sees: the guidelines, the form that opens
// a pull request, the pages of a request, an address and a department, and for
// postmasters the state of the relays. In the same process runs the reporter,
// the only holder of a credential that can write to the forge.
//
// It decides nothing about registrations: package policy judges, package forge
// opens, a postmaster merges. If it is down, mail flows and merges go live all
// the same.
//
// Each page has a file of its own here, with its routes, and a template of that
// name in package page.
package portal
