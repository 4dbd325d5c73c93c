// Package session knows who the visitor of the portal is.
package session

// A Person is who is signed in. Everything in it comes from the identity
// provider, and is text of a stranger to a page.
type Person struct {
	ID         string // the provider's name of the account, which never becomes another's
	Name       string // for display
	Email      string // verified, lower case; "" if there is none
	Postmaster bool   // as the portal's configuration has it
}
