package gitsync

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// An object in a pack: its header, and what it holds.
type packed struct {
	kind    plumbing.ObjectType
	claimed int64 // size in the header; 0: that of the content
	content []byte
}

// pack writes objects as git does, but for the sum at the end.
func pack(t *testing.T, objects ...packed) *bytes.Buffer {
	t.Helper()
	b := bytes.NewBufferString("PACK")
	_ = binary.Write(b, binary.BigEndian, []uint32{2, uint32(len(objects))})
	z := zlib.NewWriter(b)
	for _, o := range objects {
		size := uint64(o.claimed)
		if size == 0 {
			size = uint64(len(o.content))
		}
		first := byte(o.kind)<<4 | byte(size&15)
		if size >>= 4; size > 0 {
			b.Write(binary.AppendUvarint([]byte{first | 0x80}, size))
		} else {
			b.WriteByte(first)
		}
		if o.kind == plumbing.REFDeltaObject {
			b.Write(make([]byte, 20))
		}
		z.Reset(b)
		if _, err := z.Write(o.content); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func delta(from, to uint64) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, from), to), 0x90, 1)
}

func TestAPackIsHeldToBounds(t *testing.T) {
	blob := packed{kind: plumbing.BlobObject, content: []byte("hello")}
	for _, test := range []struct {
		name    string
		objects []packed
		large   bool
		fails   bool
	}{
		{name: "nothing"},
		{name: "a blob", objects: []packed{blob}},
		{name: "a delta", objects: []packed{blob, {kind: plumbing.REFDeltaObject, content: delta(5, 100<<20)}}},
		{name: "a blob that claims to be huge", objects: []packed{{kind: plumbing.BlobObject, claimed: defaultMaxObject + 1}}, large: true},
		{name: "a blob that claims less than it is", objects: []packed{{kind: plumbing.BlobObject, claimed: 2, content: make([]byte, 1<<20)}}, fails: true},
		{name: "a huge blob among others", objects: []packed{blob, blob, {kind: plumbing.TreeObject, claimed: 1 << 40}, blob}, large: true},
		{name: "a short delta that makes much", objects: []packed{blob, {kind: plumbing.REFDeltaObject, content: delta(5, defaultMaxObject+1)}}, large: true},
		{name: "a delta that makes more than there is", objects: []packed{blob, {kind: plumbing.REFDeltaObject, content: delta(5, 1<<63)}}, large: true},
		{name: "a delta without sizes", objects: []packed{blob, {kind: plumbing.REFDeltaObject, content: []byte{0x80}}}, large: true},
		{name: "many deltas that make much", objects: many(260, packed{kind: plumbing.REFDeltaObject, content: delta(5, 127<<20)}), large: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := inspect(t.Context(), pack(t, test.objects...), defaultMaxObject)
			if errors.Is(err, ErrTooLarge) != test.large || (err != nil) != (test.large || test.fails) {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := inspect(ctx, pack(t, blob), defaultMaxObject); !errors.Is(err, context.Canceled) {
		t.Errorf("after its time: %v", err)
	}
}

func many(n int, o packed) []packed {
	objects := make([]packed, n)
	for i := range objects {
		objects[i] = o
	}
	return objects
}
