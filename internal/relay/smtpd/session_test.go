package smtpd

import (
	"testing"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// TestTheContactGoesIntoTheEnvelope where the registration asks for it: what is
// told later needs no register.
func TestTheContactGoesIntoTheEnvelope(t *testing.T) {
	r := func(bounces, email string) *registration.Registration {
		return &registration.Registration{Bounces: bounces, Contact: registration.Contact{Email: email}}
	}
	for _, tt := range []struct {
		r    *registration.Registration
		want string
	}{
		{nil, ""},
		{r("", "it@example.edu"), ""},
		{r("contact", "it@example.edu"), "it@example.edu"},
		{r("contact", "no mailbox"), ""},
	} {
		if got := contactOf(policy.Verdict{Registration: tt.r}); got.String() != tt.want {
			t.Errorf("%+v: %q, and not %q", tt.r, got, tt.want)
		}
	}
}
