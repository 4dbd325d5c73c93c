package sts

import (
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"
)

// A Mode is what a policy asks of who sends. RFC 8461 §5.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // no mail to a host that the policy does not name, or without its certificate
	Testing Mode = "testing" // mail as ever; who sends reports tell what would fail
	None    Mode = "none"    // the domain has given it up
)

// Bounds on what a domain publishes.
const (
	maxPolicy   = 64 << 10 // octets. RFC 8461 §3.3
	maxAge      = 31557600 // seconds. RFC 8461 §3.2
	maxPatterns = 200      // hosts of one policy
	maxID       = 32       // RFC 8461 §3.1
	maxName     = 253      // RFC 1035 §2.3.4
	idCharacter = "0123456789" + lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower       = "abcdefghijklmnopqrstuvwxyz"
)

// A Policy is what a domain asks. It is never changed.
type Policy struct {
	Mode   Mode          `json:"mode"`
	MX     []string      `json:"mx"` // host names, or "*.name" for those one label below; lower case
	MaxAge time.Duration `json:"maxAge"`
}

// Names reports whether a host, in lower case and A-labels, is one that the
// policy names. RFC 8461 §4.1: "*" stands for one whole label, the first.
func (p *Policy) Names(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	for _, mx := range p.MX {
		if mx == host || parent != "" && mx == "*."+parent {
			return true
		}
	}
	return false
}

// Lines are the policy as its file has it, without what is unknown.
func (p *Policy) Lines() []string {
	out := []string{"version: STSv1", "mode: " + string(p.Mode)}
	for _, mx := range p.MX {
		out = append(out, "mx: "+mx)
	}
	return append(out, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}

// parseRecord reads the TXT records at _mta-sts. ok is false where there is not
// exactly one that is a policy's. RFC 8461 §3.1.
func parseRecord(txts []string) (id string, ok bool) {
	found := 0
	for _, txt := range txts {
		version, rest, _ := strings.Cut(txt, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		found++
		for field := range strings.SplitSeq(rest, ";") {
			name, value, _ := strings.Cut(strings.Trim(field, " \t"), "=")
			if name == "id" && id == "" {
				id = value
			}
		}
	}
	return id, found == 1 && id != "" && len(id) <= maxID && strings.Trim(id, idCharacter) == ""
}

// parsePolicy reads the file of a policy. RFC 8461 §3.2: of a field that is
// there twice the first counts, but for mx; what is unknown is passed over.
func parsePolicy(text []byte) (*Policy, error) {
	p := &Policy{}
	first := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			if strings.TrimSpace(line) == "" {
				continue
			}
			return nil, fmt.Errorf("a line without a colon: %.40q", line)
		}
		if name == "mx" {
			mx, err := pattern(value)
			if err != nil {
				return nil, err
			}
			if len(p.MX) == maxPatterns {
				return nil, fmt.Errorf("more than %d mx", maxPatterns)
			}
			p.MX = append(p.MX, mx)
		} else if _, seen := first[name]; !seen {
			first[name] = value
		}
	}
	if v := first["version"]; v != "STSv1" {
		return nil, fmt.Errorf("version is %.40q, and not STSv1", v)
	}
	p.Mode = Mode(first["mode"])
	switch {
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return nil, fmt.Errorf("mode is %.40q", first["mode"])
	case p.Mode != None && len(p.MX) == 0:
		return nil, errors.New("no mx")
	}
	age, err := strconv.ParseUint(first["max_age"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("max_age is %.40q", first["max_age"])
	}
	p.MaxAge = time.Duration(min(age, maxAge)) * time.Second
	return p, nil
}

// pattern reads the value of an mx.
func pattern(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	name := strings.TrimPrefix(s, "*.")
	if name == "" || len(name) > maxName || strings.Trim(name, "-._0123456789"+lower) != "" || strings.Contains(name, "..") || name[0] == '.' {
		return "", fmt.Errorf("mx is %.40q", s)
	}
	return s, nil
}

// isText reports whether a media type is the one of a policy, so that whoever
// may put pictures on a web server writes no policy. RFC 8461 §3.2.
func isText(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "text/plain"
}
