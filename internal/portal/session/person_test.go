package session

import "testing"

// TestAddressesThatPassForAnother: nobody becomes somebody else by a character
// that is the same as another one where case does not count.
func TestAddressesThatPassForAnother(t *testing.T) {
	for typed, want := range map[string]string{
		"\u212Aim@example.edu": "", "\u017Ftaff@example.edu": "", "pat@phy\u017Fics.example.edu": "",
		"Kim@Example.edu": "kim@example.edu", "M\u00DCLLER@example.edu": "m\u00FCller@example.edu",
	} {
		if got := cleanEmail(typed); got != want {
			t.Errorf("%q becomes %q, not %q", typed, got, want)
		}
	}
}
