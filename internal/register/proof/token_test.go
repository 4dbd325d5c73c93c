package proof

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	now    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	secret = []byte("a secret of at least 32 octets, for tests")
	mfp    = netip.MustParseAddr("141.211.13.21")
	mfp6   = netip.MustParseAddr("2607:f018:1:13::22")
)

func key(t testing.TB, secret []byte) Key {
	t.Helper()
	k, err := NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func token(t testing.TB, k Key, c Claim) string {
	t.Helper()
	s, err := k.Token(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func week(addr netip.Addr, request int) Claim {
	return Claim{Addr: addr, Request: request, Expires: now.Add(DefaultFor)}
}

// golden is the token of a claim of a week for mfp and request 7, as a program
// in another language makes it.
const golden = "afvq2zkaaaaaabzfoeirrnp2w4se7r75v75espa7"

// TestATokenOpensForItsAddressAlone is the point of it all.
func TestATokenOpensForItsAddressAlone(t *testing.T) {
	k := key(t, secret)
	good := token(t, k, week(mfp, 7))
	for name, tc := range map[string]struct {
		key   Key
		token string
		addr  netip.Addr
		at    time.Time
		err   error
	}{
		"as it was made":              {k, good, mfp, now, nil},
		"folded to upper case":        {k, strings.ToUpper(good), mfp, now, nil},
		"the address in IPv6 form":    {k, good, netip.MustParseAddr("::ffff:141.211.13.21"), now, nil},
		"in its last second":          {k, good, mfp, now.Add(DefaultFor - time.Second), nil},
		"when it ends":                {k, good, mfp, now.Add(DefaultFor), ErrExpired},
		"long after":                  {k, good, mfp, now.AddDate(1, 0, 0), ErrExpired},
		"from the address beside it":  {k, good, netip.MustParseAddr("141.211.13.22"), now, ErrInvalid},
		"expired, and another's":      {k, good, netip.MustParseAddr("141.211.13.22"), now.AddDate(1, 0, 0), ErrInvalid},
		"from an IPv6 address":        {k, good, mfp6, now, ErrInvalid},
		"from a zone":                 {k, good, netip.MustParseAddr("fe80::1%eth0"), now, ErrInvalid},
		"from nowhere":                {k, good, netip.Addr{}, now, ErrInvalid},
		"under another secret":        {key(t, append([]byte("x"), secret...)), good, mfp, now, ErrInvalid},
		"under none":                  {Key{}, good, mfp, now, ErrInvalid},
		"nothing":                     {k, "", mfp, now, ErrInvalid},
		"one character short":         {k, good[1:], mfp, now, ErrInvalid},
		"one too many":                {k, good + "a", mfp, now, ErrInvalid},
		"padded":                      {k, good[:39] + "=", mfp, now, ErrInvalid},
		"a line end in it":            {k, good[:39] + "\n", mfp, now, ErrInvalid},
		"a letter that folds to k":    {k, good[:37] + "\u212a", mfp, now, ErrInvalid},
		"a digit that is not used":    {k, "0" + good[1:], mfp, now, ErrInvalid},
		"so old that it is to come":   {k, good, mfp, now.AddDate(0, 0, -8), ErrInvalid},
		"an hour before it was made":  {k, token(t, k, Claim{Addr: mfp, Expires: now.Add(MaxFor)}), mfp, now.Add(-time.Hour), nil},
		"longer before it was made":   {k, token(t, k, Claim{Addr: mfp, Expires: now.Add(MaxFor)}), mfp, now.Add(-time.Hour - time.Second), ErrInvalid},
		"an IPv6 address":             {k, token(t, k, week(mfp6, 0)), mfp6, now, nil},
		"an IPv6 address's, from v4":  {k, token(t, k, week(mfp6, 0)), mfp, now, ErrInvalid},
		"the largest request":         {k, token(t, k, week(mfp, MaxRequest)), mfp, now, nil},
		"made for the mapped address": {k, token(t, k, week(netip.MustParseAddr("::ffff:141.211.13.21"), 7)), mfp, now, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tc.key.Open(tc.token, tc.addr, tc.at)
			if !errors.Is(err, tc.err) || tc.err == nil && err != nil {
				t.Fatalf("got %+v, %v, want %v", c, err, tc.err)
			}
			if tc.err == ErrInvalid && c != (Claim{}) {
				t.Errorf("a token that is not one says %+v", c)
			}
		})
	}
	if c, err := k.Open(good, mfp, now); err != nil || c != week(mfp, 7) {
		t.Errorf("the claim came back as %+v, %v", c, err)
	}
	if c, _ := k.Open(good, mfp, now.AddDate(1, 0, 0)); c != week(mfp, 7) {
		t.Errorf("an expired token says %+v", c)
	}
}

// TestEveryBitOfATokenCounts: no part of it can be changed, and there is no
// second way to write it.
func TestEveryBitOfATokenCounts(t *testing.T) {
	k := key(t, secret)
	good := token(t, k, week(mfp, 7))
	raw, err := text.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if c, err := k.Open(text.EncodeToString(raw), mfp, now); err == nil {
				t.Errorf("bit %d of octet %d changes nothing: %+v", bit, i, c)
			}
			raw[i] ^= 1 << bit
		}
	}
}

func TestWhatNoTokenIsMadeFor(t *testing.T) {
	k := key(t, secret)
	for name, tc := range map[string]struct {
		key   Key
		claim Claim
	}{
		"no secret":          {Key{}, week(mfp, 0)},
		"no address":         {k, week(netip.Addr{}, 0)},
		"a zone":             {k, week(netip.MustParseAddr("fe80::1%eth0"), 0)},
		"a negative request": {k, week(mfp, -1)},
		"a huge request":     {k, Claim{Addr: mfp, Request: 1 << 32, Expires: now.Add(time.Hour)}},
		"ended":              {k, Claim{Addr: mfp, Expires: now}},
		"no end":             {k, Claim{Addr: mfp}},
		"too long a life":    {k, Claim{Addr: mfp, Expires: now.Add(MaxFor + time.Second)}},
	} {
		if got, err := tc.key.Token(tc.claim, now); err == nil {
			t.Errorf("%s: a token was made: %s", name, got)
		}
	}
}

// TestTheFormIsKept: relays of a fleet, and those of tomorrow, open each
// other's tokens.
func TestTheFormIsKept(t *testing.T) {
	got := token(t, key(t, secret), week(mfp, 7))
	if got != golden {
		t.Errorf("the token of the same claim is now %s", got)
	}
	if len(got) != TokenSize || got != strings.ToLower(got) {
		t.Errorf("%q", got)
	}
	if local := LocalPart(got); len(local) > 64 {
		t.Errorf("the local part has %d octets", len(local))
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	for _, n := range []int{0, 1, MinSecret - 1, MaxSecret + 1} {
		if _, err := NewKey(make([]byte, n)); err == nil {
			t.Errorf("a secret of %d octets is taken", n)
		}
	}
}

func TestAKeyShowsNothing(t *testing.T) {
	k := key(t, secret)
	for _, form := range []string{"%v", "%+v", "%s", "%#v", "%q"} {
		if got := fmt.Sprintf(form, k); strings.Contains(got, "secret of") || strings.Contains(got, "97") {
			t.Errorf("%s: %s", form, got)
		}
	}
}

func TestFromLocalPart(t *testing.T) {
	for local, want := range map[string]struct {
		token string
		ok    bool
	}{
		"prove+abc":   {"abc", true},
		"PROVE+Abc":   {"Abc", true},
		"prove+":      {"", true},
		"prove":       {"", true},
		"prove+a+b":   {"a+b", true},
		"proven+abc":  {"abc", false},
		"postmaster":  {"", false},
		"+abc":        {"abc", false},
		"":            {"", false},
		"prove-abc":   {"", false},
		" prove+abc":  {"abc", false},
		"improve+abc": {"abc", false},
	} {
		if token, ok := FromLocalPart(local); token != want.token || ok != want.ok {
			t.Errorf("%q: %q %v", local, token, ok)
		}
	}
}

// FuzzOpen: whatever is sent, nothing but the one token opens, and nothing
// breaks.
func FuzzOpen(f *testing.F) {
	k := key(f, secret)
	good := token(f, k, week(mfp, 7))
	for _, s := range []string{"", good, strings.ToUpper(good), good[:39], good + good, strings.Repeat("a", TokenSize), strings.Repeat("\x00", TokenSize), "\u212a" + good[3:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := k.Open(s, mfp, now)
		if same := strings.ToLower(s) == good && len(s) == len(good); same != (err == nil) {
			t.Errorf("%q: %+v, %v", s, c, err)
		}
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrExpired) {
			t.Error(err)
		}
	})
}

// BenchmarkOpen is what a guess costs the relay.
func BenchmarkOpen(b *testing.B) {
	k := key(b, secret)
	guess := token(b, k, week(mfp6, 7))
	for b.Loop() {
		_, _ = k.Open(guess, mfp, now)
	}
}
