package blocks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"time"
)

// The file of the blocks by command: a line with the version and the number,
// then a line for each block, each behind the checksum of its rest. So what is
// damaged costs itself and nothing else.
//
//	a1b2c3d4 {"version":1,"blocks":1}
//	01020304 {"prefix":"192.0.2.21/32","reason":"…","since":"…"}

const (
	version  = 1
	maxSaved = MaxCommands * 2048 // octets; a line is well below 2 KiB, whatever is escaped in it
)

type head struct {
	Version int `json:"version"`
	Blocks  int `json:"blocks"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // read-only

// encode writes blocks by command as a file.
func encode(list []Block) ([]byte, error) {
	var out bytes.Buffer
	put := func(v any) error {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		out.Write(seal(text))
		return nil
	}
	if err := put(head{version, len(list)}); err != nil {
		return nil, err
	}
	for _, b := range list {
		if err := put(b); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// decode reads a file of blocks by command: those that are sound, in order, and
// an error if that is not all of them.
func decode(data []byte) ([]Block, error) {
	var list []Block
	var damage error
	bad := func(line int, err error) {
		if damage == nil {
			damage = fmt.Errorf("line %d: %w", line, err)
		}
	}
	want, n := -1, 0
	for text := range bytes.Lines(data) {
		n++
		if len(list) == MaxCommands {
			bad(n, fmt.Errorf("more than %d blocks", MaxCommands))
			break
		}
		content, err := unseal(text)
		if err != nil {
			bad(n, err)
			continue
		}
		if n == 1 {
			var h head
			if err := json.Unmarshal(content, &h); err != nil {
				bad(n, err)
			} else if h.Version != version {
				bad(n, fmt.Errorf("version %d is not known here", h.Version))
			}
			want = h.Blocks
			continue
		}
		b, err := readBlock(content)
		if err != nil {
			bad(n, err)
			continue
		}
		list = append(list, b)
	}
	if damage == nil && want != len(list) {
		damage = fmt.Errorf("it has %d blocks, and says that they are %d", len(list), want)
	}
	slices.SortStableFunc(list, compare)
	return slices.CompactFunc(list, func(a, b Block) bool { return a.Prefix == b.Prefix }), damage
}

// seal is a line with its checksum.
func seal(content []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(content, castagnoli), content)
}

// unseal checks and takes away the checksum of a line.
func unseal(line []byte) ([]byte, error) {
	sum, content, ok := bytes.Cut(line, []byte(" "))
	content, whole := bytes.CutSuffix(content, []byte("\n"))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || !whole || err != nil || uint32(want) != crc32.Checksum(content, castagnoli) {
		return nil, errors.New("it is damaged")
	}
	return content, nil
}

// readBlock reads one block and holds it to what Add would have taken.
func readBlock(content []byte) (Block, error) {
	var b Block
	if err := json.Unmarshal(content, &b); err != nil {
		return Block{}, err
	}
	p, err := ParsePrefix(b.Prefix.String())
	if err != nil {
		return Block{}, err
	}
	if b.Reason, err = ParseReason(b.Reason); err != nil {
		return Block{}, err
	}
	b.Prefix, b.Since, b.Until = p, instant(b.Since), instant(b.Until)
	return b, nil
}

// instant is a time as it comes back from the file, so that blocks can be
// compared: to the microsecond, in UTC, of the wall clock alone.
func instant(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
