package reconcile_test

import (
	"context"
	"crypto/sha1"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

// A memorySource is a branch in memory, each commit the child of the one
// before, so that the benchmark measures the register and not git.
type memorySource struct {
	entries []gitsync.Entry
	blobs   map[gitsync.Hash][]byte
	head    gitsync.Hash
	changes []gitsync.Change // of the last put
	whole   bool             // all files must be listed: more than the last put has changed
}

func (m *memorySource) put(i int, path, content string) {
	h := gitsync.Hash(sha1.Sum([]byte(content)))
	m.blobs[h] = []byte(content)
	e := gitsync.Entry{Path: path, Hash: h, Size: -1}
	if i < len(m.entries) {
		m.entries[i] = e
	} else {
		m.entries = append(m.entries, e)
	}
	m.changes = []gitsync.Change{{Path: path, New: e}}
	m.head[0]++
	m.head[1] |= 1
}

func (m *memorySource) Fetch(context.Context) (gitsync.Hash, error) { return m.head, nil }
func (m *memorySource) Keep(context.Context, gitsync.Hash) error    { return nil }

func (m *memorySource) Relation(_ context.Context, old, new gitsync.Hash) (gitsync.Relation, error) {
	if old == new {
		return gitsync.Same, nil
	}
	return gitsync.Descends, nil
}

func (m *memorySource) Line(context.Context, gitsync.Hash, gitsync.Hash, int) ([]gitsync.Step, error) {
	return nil, nil
}

func (m *memorySource) Files(context.Context, gitsync.Hash, ...string) ([]gitsync.Entry, error) {
	return m.entries, nil
}

func (m *memorySource) Diff(context.Context, gitsync.Hash, gitsync.Hash, ...string) ([]gitsync.Change, error) {
	if m.whole {
		return nil, gitsync.ErrNoCommit
	}
	return m.changes, nil
}

func (m *memorySource) Read(_ context.Context, h gitsync.Hash, _ int64) ([]byte, error) {
	return m.blobs[h], nil
}

func (m *memorySource) Describe(_ context.Context, h gitsync.Hash) (gitsync.Commit, error) {
	return gitsync.Commit{Hash: h, Time: today}, nil
}

// large is a register of 10,000 registrations.
func large() *memorySource {
	m := &memorySource{blobs: make(map[gitsync.Hash][]byte)}
	m.put(0, "registrations/campus/departments.cue", departments)
	m.put(1, "registrations/campus/networks.cue", strings.Replace(networks, ".13.0/24", ".0.0/16", 1))
	for i := range 10_000 {
		m.put(2+i, fmt.Sprintf("registrations/lsa-physics/mfp%d.cue", i), strings.Replace(registration(1), address(1).String(), memoryAddress(i), 1))
	}
	return m
}

// memoryAddress is the address of the i-th of them.
func memoryAddress(i int) string {
	return netip.AddrFrom4([4]byte{141, 211, byte(1 + i/250), byte(1 + i%250)}).String()
}

func BenchmarkFirstRound(b *testing.B) {
	m := large()
	for b.Loop() {
		r, err := reconcile.New(reconcile.Options{Source: m, Dir: b.TempDir(), Live: new(policy.Live)})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Once(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRoundWithOneChange(b *testing.B) {
	m := large()
	live := new(policy.Live)
	r, err := reconcile.New(reconcile.Options{Source: m, Dir: b.TempDir(), Live: live, Program: "this one"})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Once(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		m.put(2, "registrations/lsa-physics/mfp0.cue", strings.NewReplacer(address(1).String(), "141.211.1.1", "multifunction", fmt.Sprintf("multifunction-%d", i)).Replace(registration(1)))
		if err := r.Once(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if live.Load().Len() != 10_000 {
		b.Fatalf("%d addresses", live.Load().Len())
	}
}

func BenchmarkRestart(b *testing.B) {
	o := reconcile.Options{Source: large(), Dir: b.TempDir(), Live: new(policy.Live), Program: "this one"}
	r, err := reconcile.New(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Once(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, program := range []string{"this one", "another one"} {
		b.Run(program, func(b *testing.B) {
			o.Program = program
			for b.Loop() {
				if _, err := reconcile.New(o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
