package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Bounds of the local file.
const (
	MaxLocal      = 4096    // blocks
	maxLocalFile  = 1 << 20 // octets
	maxLocalLines = 16384   // comments and empty ones included
	maxLocalLine  = 1024    // octets of one
	maxBad        = 20      // bad lines that are told one by one
)

// A BadLine is a line of the local file that makes no sense.
type BadLine struct {
	Line int
	Why  string // for people; it quotes no line that does not begin with what looks like an address
}

// parseLocal reads the local file:
//
//	# a comment; empty lines are skipped
//	192.0.2.21 sent 40,000 messages overnight
//	2001:db8:1::/64 until=2026-12-01T00:00:00Z scans the campus
//	192.0.0.0/16 wide=yes the whole of it, and meant
//
// A line is an address or a network in its canonical form, then options of the
// form NAME=VALUE, then the reason, between white space. The options are until,
// a time as RFC 3339 has it, and wide=yes, without which a network of more than
// a /20 of IPv4 or a /48 of IPv6 is a bad line. A block whose time is over counts
// for nothing. Lines end in LF or CRLF.
//
// The error says why the file as a whole cannot be used; bad lines are no such
// reason, unless there is not one good one. What is half written is refused: a
// file that ends within a line, is empty, or has a NUL. So a file without blocks
// has a comment.
func parseLocal(data []byte) (list []Block, bad []BadLine, err error) {
	switch {
	case len(data) == 0:
		return nil, nil, errors.New("it is empty, as a file is that is just being written; a file without blocks has a comment in it")
	case len(data) > maxLocalFile:
		return nil, nil, fmt.Errorf("it is larger than %d KiB", maxLocalFile>>10)
	case data[len(data)-1] != '\n':
		return nil, nil, errors.New("its last line has no end, as in a file that is just being written")
	case bytes.IndexByte(data, 0) >= 0:
		return nil, nil, errors.New("it holds a NUL, as a file does that a power cut caught")
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		if n > maxLocalLines {
			return nil, nil, fmt.Errorf("it has more than %d lines", maxLocalLines)
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := parseLine(line)
		if err != nil {
			bad = append(bad, BadLine{n, err.Error()})
			continue
		}
		if len(list) == MaxLocal {
			return nil, nil, fmt.Errorf("it has more than %d blocks", MaxLocal)
		}
		b.Line = n
		list = append(list, b)
	}
	if len(bad) > 0 && len(list) == 0 {
		return nil, bad, fmt.Errorf("none of its lines makes sense; line %d: %s", bad[0].Line, bad[0].Why)
	}
	return list, bad, nil
}

// CheckLocal reads a local file as a List would: how many blocks it has, and its
// bad lines. The error says why it cannot be used as a whole.
func CheckLocal(path string) (n int, bad []BadLine, err error) {
	data, err := readLocal(path)
	if err != nil {
		return 0, nil, err
	}
	list, bad, err := parseLocal(data)
	return len(list), bad, err
}

// parseLine reads a line that is not empty and no comment.
func parseLine(line string) (b Block, err error) {
	if len(line) > maxLocalLine {
		return b, fmt.Errorf("it is longer than %d octets", maxLocalLine)
	}
	words := strings.Fields(line)
	if !likePrefix(words[0]) {
		return b, errors.New("its first word is neither an address nor a network")
	}
	if b.Prefix, err = ParsePrefix(words[0]); err != nil {
		return b, err
	}
	meant, rest := false, strings.TrimSpace(strings.TrimPrefix(line, words[0]))
	for _, word := range words[1:] {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") != "" {
			break // the reason begins
		}
		rest = strings.TrimSpace(strings.TrimPrefix(rest, word))
		switch {
		case name == "until":
			if b.Until, err = time.Parse(time.RFC3339, value); err != nil {
				return b, fmt.Errorf("until=%q is no time; write it as 2026-12-01T00:00:00Z", value)
			}
			b.Until = instant(b.Until)
		case name == "wide" && value == "yes":
			meant = true
		default:
			return b, fmt.Errorf("there is no option %q; a reason does not begin with a word that has an equals sign", word)
		}
	}
	if Wide(b.Prefix) && !meant {
		return b, fmt.Errorf("%s is wider than a /%d of IPv4 or a /%d of IPv6; if that is meant, say wide=yes behind it", b.Prefix, wide4, wide6)
	}
	b.Reason, err = ParseReason(rest)
	return b, err
}

// likePrefix reports whether s may be quoted where monitoring reads it. The
// program that writes the file may be trusted with less than the relay: with a
// link in its place, it must not read a key or a token.
func likePrefix(s string) bool {
	const longest = len("1111:2222:3333:4444:5555:6666:7777:8888/128")
	return len(s) <= longest && strings.ContainsAny(s, ".:") && strings.Trim(s, "0123456789abcdefABCDEF.:/") == ""
}

// readLocal reads the local file, as far as it is one that may be read.
func readLocal(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for ever
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, maxLocalFile+1))
}

// The copy of the local file's last good content has a line before it that
// says whose it is: that of another file is of no use.

func lastGoodHead(path string) []byte {
	return fmt.Appendf(nil, "# gatepost: the last good content of %q\n", path)
}

func lastGood(path string, content []byte) []byte { return slices.Concat(lastGoodHead(path), content) }

// fromLastGood is the content of the copy; nil if it is of another file.
func fromLastGood(path string, copied []byte) []byte {
	content, ok := bytes.CutPrefix(copied, lastGoodHead(path))
	if !ok {
		return nil
	}
	return content
}
