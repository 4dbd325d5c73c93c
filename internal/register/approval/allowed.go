package approval

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// An allowedKey is one line of a file of allowed signers, as ssh-keygen(1)
// describes it under ALLOWED SIGNERS.
type allowedKey struct {
	principals string // as written, a list of patterns
	key        ssh.PublicKey
	namespaces string    // patterns; "": any
	after      time.Time // not valid before this; zero: always was
	before     time.Time // not valid after this; zero: for ever
}

// Bounds of a file of keys.
const (
	maxKeyFile = 1 << 20 // bytes
	maxKeys    = 1000    // of one file
	maxKeyLine = 16 << 10
	minRSA     = 2048 // bits
)

// parseAllowed reads a file of allowed signers. What is wrong with a line is
// told, and costs that line alone. Times without a Z are of zone, as ssh-keygen
// takes them.
func parseAllowed(data []byte, zone *time.Location) (keys []allowedKey, problems []string) {
	if bytes.Contains(data, []byte(" PRIVATE KEY-----")) {
		return nil, []string{"it holds a private key, which belongs nowhere near the relay"}
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, maxKeyLine)
	n := 0
	for scan.Scan() {
		n++
		line := strings.Trim(scan.Text(), " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if len(keys) == maxKeys {
			return keys, append(problems, fmt.Sprintf("line %d: more than %d keys", n, maxKeys))
		}
		k, err := parseAllowedLine(line, zone)
		if err != nil {
			problems = append(problems, fmt.Sprintf("line %d: %v", n, err))
			continue
		}
		keys = append(keys, k)
	}
	if err := scan.Err(); err != nil {
		problems = append(problems, fmt.Sprintf("line %d: longer than %d bytes", n+1, maxKeyLine))
	}
	return keys, problems
}

// parseAllowedLine reads "principals [options] type base64 [comment]".
func parseAllowedLine(line string, zone *time.Location) (k allowedKey, err error) {
	if _, err := parseSSHKey(line); err == nil { // a .pub file as ssh-keygen makes it
		return k, errors.New("whose key it is, such as pm@example.edu, is missing before the key")
	}
	k.principals, line = word(line)
	if strings.Trim(k.principals, ",!") == "" || strings.ContainsAny(k.principals, "\x00\"") {
		return k, errors.New("no principals, such as an address, before the key")
	}
	if k.key, err = parseSSHKey(line); !errors.Is(err, errNoKey) {
		return k, err
	}
	options, rest, err := quotedWord(line)
	if err == nil && rest == "" {
		err = errNoKey
	}
	if err != nil {
		return k, err
	}
	if err := k.options(options, zone); err != nil {
		return k, err
	}
	k.key, err = parseSSHKey(rest)
	return k, err
}

// word cuts the first word off a line.
func word(s string) (first, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// quotedWord is word for one in which blanks may stand between quotes.
func quotedWord(s string) (first, rest string, err error) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return s[:i], strings.TrimLeft(s[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("a quote is not closed")
	}
	return s, "", nil
}

var errNoKey = errors.New("no public key, such as ssh-ed25519 AAAA…")

// parseSSHKey reads "type base64 [comment]".
func parseSSHKey(s string) (ssh.PublicKey, error) {
	kind, rest := word(s)
	text, _ := word(rest)
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil || text == "" {
		return nil, errNoKey
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("a key that cannot be read: %s", clean(err.Error()))
	}
	if key.Type() != kind {
		return nil, fmt.Errorf("a key of type %s where %s is written", clean(key.Type()), clean(kind))
	}
	return key, usableSSH(key)
}

// usableSSH refuses keys that prove too little, and certificates.
func usableSSH(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		if bits := rsaBits(key); bits < minRSA {
			return fmt.Errorf("an RSA key of %d bits; %d are the least", bits, minRSA)
		}
		return nil
	}
	return fmt.Errorf("keys of type %s are not taken", clean(key.Type()))
}

// options reads the options of a line, comma-separated. ssh-keygen takes their
// names in any case.
func (k *allowedKey) options(s string, zone *time.Location) error {
	seen := map[string]bool{}
	for s != "" {
		name, rest := s, ""
		value, hasValue := "", false
		if i := strings.IndexAny(s, "=,"); i >= 0 {
			name, rest = s[:i], s[i:]
		}
		if strings.HasPrefix(rest, `="`) {
			end, text := dequote(rest[2:])
			if end < 0 {
				return errors.New("a quote is not closed")
			}
			value, rest, hasValue = text, rest[2+end:], true
		}
		name = strings.ToLower(name)
		if seen[name] {
			return fmt.Errorf("the option %s stands twice", clean(name))
		}
		seen[name] = true
		var err error
		switch {
		case name == "cert-authority":
			return errors.New("cert-authority: certificates are not taken; list the keys themselves")
		case name == "namespaces" && hasValue && value != "":
			k.namespaces = value
		case name == "valid-after" && hasValue:
			k.after, err = parseSSHTime(value, zone)
		case name == "valid-before" && hasValue:
			k.before, err = parseSSHTime(value, zone)
		default:
			return fmt.Errorf("unknown option %s", clean(name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if rest == "" {
			break
		}
		if rest[0] != ',' || len(rest) == 1 {
			return fmt.Errorf("something stands behind the option %s", clean(name))
		}
		s = rest[1:]
	}
	if len(seen) == 0 {
		return errNoKey
	}
	if !k.after.IsZero() && !k.before.IsZero() && !k.before.After(k.after) {
		return errors.New("valid-before is not later than valid-after")
	}
	return nil
}

// dequote reads up to the closing quote: the text, and where it goes on.
func dequote(s string) (end int, text string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
			b.WriteByte('"')
		case s[i] == '"':
			return i + 1, b.String()
		default:
			b.WriteByte(s[i])
		}
	}
	return -1, ""
}

// parseSSHTime reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in UTC with a Z
// behind.
func parseSSHTime(s string, zone *time.Location) (time.Time, error) {
	text := s
	if z := strings.TrimSuffix(strings.TrimSuffix(s, "Z"), "z"); z != s {
		text, zone = z, time.UTC
	}
	layout, ok := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(text)]
	if !ok {
		return time.Time{}, errors.New("a time is written YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z behind for UTC")
	}
	t, err := time.ParseInLocation(layout, text, zone)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("%s is no time", clean(s))
	}
	return t, nil
}

// permits says why a key may not sign what is of a namespace and a time; nil if
// it may.
func (k *allowedKey) permits(namespace string, at time.Time) error {
	switch {
	case k.namespaces != "" && !matchList(namespace, k.namespaces):
		return fmt.Errorf("its key is not for the namespace %s", namespace)
	case !k.after.IsZero() && at.Before(k.after):
		return fmt.Errorf("its key is valid from %s only", k.after.UTC().Format(time.RFC3339))
	case !k.before.IsZero() && at.After(k.before):
		return fmt.Errorf("its key was valid until %s", k.before.UTC().Format(time.RFC3339))
	}
	return nil
}

// matchList reports whether a word matches a comma-separated list of patterns
// with * and ?; one with ! before it that matches rules the word out.
func matchList(s, patterns string) bool {
	found := false
	for p := range strings.SplitSeq(patterns, ",") {
		p, not := strings.CutPrefix(p, "!")
		if p == "" || !matchPattern(s, p) {
			continue
		}
		if not {
			return false
		}
		found = true
	}
	return found
}

// matchPattern matches with * and ?, in time bounded by the product of both
// lengths.
func matchPattern(s, p string) bool {
	at, star, from := 0, -1, 0 // in p; of the last * in p; where in s what it stands for ends
	i := 0
	for i < len(s) {
		switch {
		case at < len(p) && (p[at] == '?' || p[at] == s[i]) && p[at] != '*':
			i, at = i+1, at+1
		case at < len(p) && p[at] == '*':
			star, from = at, i
			at++
		case star >= 0:
			from++
			i, at = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(p[at:], "*") == ""
}
