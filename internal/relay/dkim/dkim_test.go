package dkim

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// keyFile writes a private key in PKCS #8 and returns its file.
func keyFile(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func textFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func open(t testing.TB, keys ...Key) *Ring {
	t.Helper()
	r, err := Open(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sign has a message signed that comes in pieces.
func sign(r *Ring, message io.Reader, size int) (string, error) {
	return r.Sign(func(w io.Writer) error {
		// io.Copy would hand the whole to WriteTo.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{message}, make([]byte, size))
		return err
	})
}

var zoneLine = regexp.MustCompile(`^(\S+)\. TXT (.*)$`)

// lookup is the DNS, as Records says it must be.
func lookup(r *Ring) func(string) ([]string, error) {
	return func(name string) ([]string, error) {
		for _, line := range r.Records() {
			if m := zoneLine.FindStringSubmatch(line); m[1] == name {
				return []string{strings.NewReplacer(`" "`, "", `"`, "").Replace(m[2])}, nil
			}
		}
		return nil, errors.New("no such name")
	}
}

// verified are the domains and algorithms whose signatures hold.
func verified(t *testing.T, r *Ring, message string) string {
	t.Helper()
	found, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: lookup(r)})
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, v := range found {
		if v.Err == nil {
			out = append(out, v.Domain)
		} else {
			out = append(out, v.Domain+" does not hold")
		}
	}
	return strings.Join(out, ", ")
}

const letter = "Received: from x\r\nFrom: Device <device@example.edu>\r\nTo: <a@example.org>\r\nSubject: a  folded\r\n\tsubject\r\n\r\nhello \t there  \r\n\r\n.dot\r\n\r\n\r\n"

func TestWhoSigns(t *testing.T) {
	r := open(t,
		Key{Domain: "example.edu", Selector: "r", File: keyFile(t, rsaKey(t)), Subdomains: true},
		Key{Domain: "example.edu", Selector: "e", File: keyFile(t, edKey(t)), Subdomains: true},
		Key{Domain: "lab.example.edu", Selector: "l", File: keyFile(t, edKey(t))},
		Key{Domain: "xn--mnchen-3ya.example", Selector: "m", File: keyFile(t, edKey(t))},
	)
	body := "\r\n\r\nhello\r\n"
	for _, c := range []struct{ name, message, want, err string }{
		{"every key of the domain", letter, "example.edu, example.edu", ""},
		{"the closest domain", "From: a@lab.example.edu" + body, "lab.example.edu", ""},
		{"not below a key without subdomains", "From: a@x.lab.example.edu" + body, "example.edu, example.edu", ""},
		{"a domain below", "From: a@x.y.example.edu" + body, "example.edu, example.edu", ""},
		{"in capitals, with a name", "FROM : \"x@other.example\" <a@EXAMPLE.edu>" + body, "example.edu, example.edu", ""},
		{"a name that is encoded", "From: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n <a@example.edu>" + body, "example.edu, example.edu", ""},
		{"beyond ASCII", "From: ü@münchen.example" + body, "xn--mnchen-3ya.example", ""},
		{"two authors of one domain", "From: a@example.edu, b@example.edu" + body, "example.edu, example.edu", ""},
		{"no body", "From: a@example.edu\r\n\r\n", "example.edu, example.edu", ""},
		{"empty lines for a body", "From: a@example.edu\r\n\r\n\r\n\r\n", "example.edu, example.edu", ""},
		{"another domain", "From: a@example.org" + body, "", ""},
		{"one that ends likewise", "From: a@notexample.edu" + body, "", ""},
		{"a top-level domain", "From: a@edu" + body, "", ""},

		{"two authors of two domains", "From: a@example.edu, b@example.org" + body, "", "no one domain"},
		{"two From fields", "From: a@example.edu\r\nFrom: b@example.edu" + body, "", "no one domain"},
		{"no From", "Subject: x" + body, "", "no one domain"},
		{"a From without an address", "From: example.edu" + body, "", "no one domain"},
		{"a long From", "From: " + strings.Repeat("a@example.edu, ", 600) + "a@example.edu" + body, "", "no one domain"},
		{"no header", "\r\nhello\r\n", "", "no one domain"},
		{"a header that begins in the middle", " x\r\nFrom: a@example.edu" + body, "", "no one domain"},
		{"no end of the header", "From: a@example.edu\r\n", "", "has no end"},
		{"a large header", "From: a@example.edu\r\nX: " + strings.Repeat("x", maxHeader) + body, "", "too large"},
		{"many empty lines", "From: a@example.edu\r\n\r\n" + strings.Repeat("\r\n", maxRun), "", "too many empty lines"},
	} {
		for _, size := range []int{1, 3, 32 << 10} {
			fields, err := sign(r, strings.NewReader(c.message), size)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			if got := verified(t, r, fields+c.message); fields != "" && got != c.want || fields == "" && c.want != "" {
				t.Errorf("%s, in pieces of %d: %q holds, want %q\n%s", c.name, size, got, c.want, fields)
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n"), "\r\n") {
				if len(line) > 998 || strings.ContainsAny(line, "\r\n") || strings.HasPrefix(line, ".") {
					t.Errorf("%s: line %q", c.name, line)
				}
			}
		}
	}
}

// What a signature covers: nothing that is read can be changed or added, and
// what changes on the way does not matter.
func TestWhatIsCovered(t *testing.T) {
	r := open(t, Key{Domain: "example.edu", Selector: "r", File: keyFile(t, rsaKey(t))})
	fields, err := sign(r, strings.NewReader(letter), 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, message string
		holds         bool
	}{
		{"as it was", fields + letter, true},
		{"another trace", "Received: from y\r\n" + fields + letter, true},
		{"blanks and empty lines at the end", fields + strings.Replace(letter, "hello \t", "hello ", 1) + "\r\n", true},
		{"a field that next hops add", "MIME-Version: 1.0\r\n" + fields + letter, true},
		{"another body", fields + letter + "more\r\n", false},
		{"another subject", fields + strings.Replace(letter, "folded", "changed", 1), false},
		{"a second From", "From: a@example.org\r\n" + fields + letter, false},
		{"a second subject", "Subject: x\r\n" + fields + letter, false},
		{"a field that was not there", "Reply-To: a@example.org\r\n" + fields + letter, false},
	} {
		want := "example.edu"
		if !c.holds {
			want += " does not hold"
		}
		if got := verified(t, r, c.message); got != want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	// A signature that is there already stays, and goes on holding.
	again, err := sign(r, strings.NewReader(fields+letter), 512)
	if err != nil {
		t.Fatal(err)
	}
	if got := verified(t, r, again+fields+letter); got != "example.edu, example.edu" {
		t.Errorf("two signatures: %q", got)
	}
}

// The error of reading a message is the caller's own, and leaves no goroutine.
func TestTheMessageBreaksOff(t *testing.T) {
	r := open(t, Key{Domain: "example.edu", Selector: "r", File: keyFile(t, edKey(t))})
	gone := errors.New("disk gone")
	before := runtime.NumGoroutine()
	for range 50 {
		if _, err := sign(r, io.MultiReader(strings.NewReader(letter), iotest.ErrReader(gone)), 512); !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	for runtime.NumGoroutine() > before+5 { // the test's time is the limit
		runtime.Gosched()
	}
}

// A long body costs no memory of its length.
func TestALongBodyStreams(t *testing.T) {
	r := open(t, Key{Domain: "example.edu", Selector: "r", File: keyFile(t, edKey(t))})
	line := strings.Repeat("x", 76) + "\r\n"
	var before, after runtime.MemStats
	peak := uint64(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, err := r.Sign(func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 32<<10)
		_, _ = b.WriteString("From: a@example.edu\r\n\r\n")
		for i := range 25 << 20 / len(line) {
			if _, err := b.WriteString(line); err != nil {
				return err
			}
			if i%50_000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&after)
				peak = max(peak, after.HeapAlloc)
			}
		}
		return b.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
	if peak > before.HeapAlloc+2<<20 {
		t.Errorf("%d octets of memory", peak-before.HeapAlloc)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, want string }{
		{"gone", filepath.Join(t.TempDir(), "none"), "no such file"},
		{"empty", textFile(t, ""), "no private key in PEM"},
		{"a certificate", textFile(t, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), "no private key in PEM"},
		{"garbage in PEM", textFile(t, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "cannot be read as a private key"},
		{"encrypted", textFile(t, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "it is encrypted"},
		{"an elliptic curve", keyFile(t, curve), "neither RSA nor Ed25519"},
		{"RSA of 512 bits", textFile(t, weak), "it is RSA of 512 bits"},
		{"large", textFile(t, strings.Repeat("x", maxKeyFile+1)), "too large"},
	} {
		_, err := Open([]Key{{Domain: "example.edu", Selector: "a", File: c.file}})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "example.edu, selector a, in "+c.file) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// weak was made with openssl genrsa -traditional 512.
const weak = `-----BEGIN RSA PRIVATE KEY-----
MIIBOQIBAAJBALTXxgsDTXdYUN2mBTOBaNMyqjIWtHblOiG1L2GFXRH96abJMNyG
9Gor+Kbz4sFOARSGaN8PhsEWUwm/3/7laIcCAwEAAQJAAx2Iet4Wsoyh7/+RLV74
WFMSHYTInRe71aLSayKqBMpMj+tQpolGItY4blc5oelUoLn+a5HPDuKq+VTFvtAr
IQIhAOsG8u87uOwNZ6s1WpbdCIW/rOyRaNZASFrY207rWtYxAiEAxPsEnFySBLWS
W1/9hpa7ROYODuHkrSvV8Ac6fMNKpDcCIH7zWfXvhIu9Eepg/3XOHvRf/MAsKzzP
rEWmLZALgR2BAiAoKIjTG+hE/4N8D4DPXJGHRWOeUx1c1LAEBGU/JE1mVwIgMaIU
od0RDJ+nfiz21h/8IYUpc/XB+L9LaG/GppkTCfM=
-----END RSA PRIVATE KEY-----
`

// Keys are replaced together or not at all.
func TestReload(t *testing.T) {
	first, second := keyFile(t, edKey(t)), keyFile(t, rsaKey(t))
	r := open(t, Key{Domain: "example.edu", Selector: "a", File: first}, Key{Domain: "example.edu", Selector: "b", File: second})
	if changed, err := r.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	before := strings.Join(r.Records(), "\n")
	write := func(file, from string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first, keyFile(t, edKey(t)))
	write(second, textFile(t, "half a key"))
	if changed, err := r.Reload(); changed || err == nil || strings.Join(r.Records(), "\n") != before {
		t.Errorf("a bad key beside a new one: %v, %v", changed, err)
	}
	write(second, keyFile(t, rsaKey(t)))
	if changed, err := r.Reload(); !changed || err != nil || strings.Join(r.Records(), "\n") == before {
		t.Errorf("two new keys: %v, %v", changed, err)
	}
}

func FuzzSign(f *testing.F) {
	f.Add([]byte(letter), uint16(7))
	f.Add([]byte("From: a@example.edu\r\n\r\n\r\n"), uint16(1))
	f.Add([]byte("From: a@example.edu\r\n x\r\nTo:\r\n\r\n \t\r\nx"), uint16(2))
	r := open(f, Key{Domain: "example.edu", Selector: "a", File: keyFile(f, edKey(f)), Subdomains: true})
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		// As it comes: lines end in CRLF, with no other CR or LF.
		text := strings.ReplaceAll(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(in)), "\n", "\r\n")
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		fields, err := sign(r, strings.NewReader(text), int(size)+1)
		if err != nil || fields == "" {
			return
		}
		got := verified(t, r, fields+text)
		if first, _, _ := strings.Cut(got, ","); first != "example.edu" {
			t.Fatalf("%q holds of %q", got, fields+text)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for name, key := range map[string]any{"rsa2048": rsaKey(b), "ed25519": edKey(b)} {
		for size, n := range map[string]int{"4KiB": 4 << 10, "1MiB": 1 << 20} {
			b.Run(name+"/"+size, func(b *testing.B) {
				r := open(b, Key{Domain: "example.edu", Selector: "a", File: keyFile(b, key)})
				text := "From: a@example.edu\r\nSubject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", n/78)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := sign(r, strings.NewReader(text), 32<<10); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
