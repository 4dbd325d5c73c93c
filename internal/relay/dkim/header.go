package dkim

import (
	"bytes"
	"net/mail"
	"strings"

	"golang.org/x/net/idna"
)

// maxFrom bounds the From field that is parsed, in octets.
const maxFrom = 8 << 10

// The header fields that a signature covers: RFC 6376 §5.4.1, without those
// that change on the way.
var (
	// sealed ones are covered once more than they are there, so that none can
	// be added, not even where there is none. RFC 6376 §5.4.2, §8.15.
	sealed = []string{"From", "Reply-To", "Subject", "Date", "To", "Cc", "Message-ID"}
	// present ones are so only where there is one: next hops add some of them.
	present = []string{"Sender", "In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description"}
)

// maxCovered bounds how often one field is covered: more of a kind than this
// are no message that a person wrote.
const maxCovered = 4

// A header is what is asked of a header section.
type header struct {
	count map[string]int // by lower-case name, for names in sealed and present
	value string         // of the last From field, unfolded
}

// readHeader reads a header section, which ends in its empty line.
func readHeader(section []byte) header {
	h := header{count: map[string]int{}}
	for _, names := range [][]string{sealed, present} {
		for _, name := range names {
			h.count[strings.ToLower(name)] = 0
		}
	}
	inFrom := false
	var from []byte
	for line := range bytes.SplitAfterSeq(section, []byte("\r\n")) {
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if inFrom {
				from = append(from, bytes.TrimSuffix(line, []byte("\r\n"))...)
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		word := strings.ToLower(string(bytes.TrimRight(name, " \t")))
		if _, ok := h.count[word]; ok {
			h.count[word]++
		}
		if inFrom = word == "from"; inFrom {
			from = append(from[:0], bytes.TrimSuffix(value, []byte("\r\n"))...)
		}
	}
	h.value = string(from)
	return h
}

// from is the domain of the author, in lower case and A-labels. With two From
// fields, or authors of several domains, nobody knows which one a reader is
// shown.
func (h header) from() (string, error) {
	if h.count["from"] != 1 || len(h.value) > maxFrom {
		return "", errHeader
	}
	authors, err := mail.ParseAddressList(strings.TrimSpace(h.value))
	if err != nil {
		return "", errHeader
	}
	domain := ""
	for _, a := range authors {
		_, d, _ := cutLast(a.Address, "@")
		ascii, err := idna.Lookup.ToASCII(strings.ToLower(strings.TrimSuffix(d, ".")))
		if err != nil || ascii == "" || domain != "" && ascii != domain {
			return "", errHeader
		}
		domain = ascii
	}
	return domain, nil
}

// covered lists the names for h=.
func (h header) covered() []string {
	var names []string
	for _, name := range sealed {
		for range min(h.count[strings.ToLower(name)], maxCovered) + 1 {
			names = append(names, name)
		}
	}
	for _, name := range present {
		if n := h.count[strings.ToLower(name)]; n > 0 {
			for range min(n, maxCovered) + 1 {
				names = append(names, name)
			}
		}
	}
	return names
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
