package registration

import (
	"net/netip"
	"strings"

	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// Remarks are the comments of a registration's file, without what makes them
// comments.
type Remarks struct {
	Head  []string                // those above the file, and all that belong to no machine
	Hosts map[netip.Addr][]string // those above a machine and beside it
}

// RemarksOf reads the comments of a file that has been parsed, so that whoever
// writes it anew can keep them: all of them, where they belong as far as that can
// be told. Of a text that is none, there are none.
func RemarksOf(data []byte, r *Registration) (remarks Remarks) {
	defer func() {
		if recover() != nil { // the scanner of CUE is not ours
			remarks = Remarks{}
		}
	}()
	data, ok := plainText(data, &report{})
	if !ok || r == nil || len(data) > MaxFile {
		return Remarks{}
	}
	remarks.Hosts = map[netip.Addr][]string{}
	file := token.NewFile("", -1, len(data))
	var s scanner.Scanner
	s.Init(file, data, func(token.Pos, string, []interface{}) {}, scanner.ScanComments)
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return remarks
		}
		if tok != token.COMMENT {
			continue
		}
		text = strings.TrimPrefix(strings.TrimPrefix(text, "//"), " ")
		if ip, ok := r.hostAt(int32(pos.Line())); ok {
			remarks.Hosts[ip] = append(remarks.Hosts[ip], text)
		} else {
			remarks.Head = append(remarks.Head, text)
		}
	}
}

// hostAt is the machine that a comment on a line of the file is about: the one on
// that line, or else the next one in the list.
func (r *Registration) hostAt(line int32) (netip.Addr, bool) {
	if line < r.At.Hosts.Line {
		return netip.Addr{}, false
	}
	for _, h := range r.Hosts {
		if h.At.Line >= line {
			return h.IP, true
		}
	}
	return netip.Addr{}, false
}
