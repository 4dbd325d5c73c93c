package review

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// ErrLeft, from the content function of Sources, says that the content need not
// be read: a Shelf knows what it means.
var ErrLeft = errors.New("the content is left where it is")

// A Shelf keeps what files of a register mean from one run of a program to the
// next, by git's name of their contents, so that a request of one file does not
// take the reading of all others. It holds for one program and one set of site
// rules, and is a file that may go at any time. The nil Shelf knows nothing. It
// is not safe for concurrent use.
type Shelf struct {
	path    string
	program string
	site    [sha256.Size]byte // of the rules that known holds for
	known   map[shelfKey]*registration.File
}

type shelfKey struct {
	Path, Blob string
	Mode       registration.Mode
	Odd        string
	Unusable   bool
}

// shelved is one entry on the disk.
type shelved struct {
	Key  shelfKey
	File *registration.File
}

const (
	shelfHeader = "gatepost: what files of the register mean, version 1\n"
	maxShelf    = 1 << 30 // bytes
	shelfChunk  = 1000    // entries that are encoded as one
)

// OpenShelf reads the shelf in a file. What is not there, damaged, or of another
// program is an empty shelf. program names this build, and no other.
func OpenShelf(path, program string) *Shelf {
	s := &Shelf{path: path, program: program, known: make(map[shelfKey]*registration.File)}
	data, err := durable.ReadFile(path, maxShelf)
	if err != nil || program == "" {
		return s
	}
	body, ok := bytes.CutPrefix(data, []byte(shelfHeader))
	if !ok || len(body) < sha256.Size {
		return s
	}
	sum, body := body[:sha256.Size], body[sha256.Size:]
	if have := sha256.Sum256(body); !bytes.Equal(sum, have[:]) {
		return s
	}
	chunks, err := durable.Frames(body)
	if err != nil || len(chunks) == 0 {
		return s
	}
	var head struct {
		Program string
		Site    [sha256.Size]byte
	}
	if err := gob.NewDecoder(bytes.NewReader(chunks[0])).Decode(&head); err != nil || head.Program != program {
		return s
	}
	s.site = head.Site
	for _, part := range decodeShelved(chunks[1:]) {
		for _, e := range part {
			s.known[e.Key] = e.File
		}
	}
	return s
}

func decodeShelved(chunks [][]byte) [][]shelved {
	parts := make([][]shelved, len(chunks))
	workers := runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < len(chunks); i += workers {
				if err := gob.NewDecoder(bytes.NewReader(chunks[i])).Decode(&parts[i]); err != nil {
					parts[i] = nil // the sum is right, so it is another form of the type
				}
			}
		})
	}
	group.Wait()
	return parts
}

func keyOf(s Source) shelfKey { return shelfKey{s.Path, s.Blob, s.Mode, s.Odd, s.Unusable} }

// under is the shelf if it holds for these site rules.
func (s *Shelf) under(site []byte) *Shelf {
	if s == nil || len(s.known) == 0 || siteSum(site) != s.site {
		return nil
	}
	return s
}

// siteSum tells no rules from empty ones.
func siteSum(site []byte) [sha256.Size]byte {
	if site == nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(site)
}

// Left is read, unless the shelf knows under these site rules what is in the
// file: then the error is ErrLeft.
func (s *Shelf) Left(site []byte, read func(gitsync.Entry, int64) ([]byte, error)) func(gitsync.Entry, int64) ([]byte, error) {
	holds := s.under(site)
	if holds == nil {
		return read
	}
	return func(e gitsync.Entry, max int64) ([]byte, error) {
		if !e.Hash.IsZero() {
			k := shelfKey{e.Path, e.Hash.String(), e.Mode.Register(), e.Odd, e.Unusable}
			if holds.known[k] != nil {
				return nil, ErrLeft
			}
		}
		return read(e, max)
	}
}

// Parse is the function of that name; what the shelf knows is not parsed again.
func (s *Shelf) Parse(ctx context.Context, site []byte, sources []Source, c *Counter) ([]*registration.File, error) {
	holds := s.under(site)
	if holds == nil {
		return Parse(ctx, site, sources, c)
	}
	files := make([]*registration.File, len(sources))
	var others []Source
	var places []int
	for i := range sources {
		if sources[i].Blob != "" {
			files[i] = holds.known[keyOf(sources[i])]
		}
		if files[i] == nil {
			others, places = append(others, sources[i]), append(places, i)
		}
	}
	if len(others) == 0 {
		return files, ctx.Err()
	}
	parsed, err := Parse(ctx, site, others, c)
	if err != nil {
		return nil, err
	}
	for i, f := range parsed {
		files[places[i]] = f
	}
	return files, nil
}

// Worth is from how many files on a shelf is worth the writing, and how much of
// it must be new.
const (
	worthFiles = 500
	worthNew   = 20 // one in so many
)

// Keep writes what sources mean, in the order of files, if there is enough that
// is not on the shelf yet. It says nothing of a failure: the next run reads the
// files themselves.
func (s *Shelf) Keep(site []byte, sources []Source, files []*registration.File) {
	if s == nil || s.program == "" || len(sources) < worthFiles {
		return
	}
	holds, fresh := s.under(site), 0
	var all []shelved
	for i := range sources {
		k := keyOf(sources[i])
		// A file on disk may say something else than git's name for it means: git
		// can rewrite what it checks out.
		if k.Blob == "" || !sources[i].Left && gitsync.BlobHash(sources[i].Data).String() != k.Blob {
			continue
		}
		all = append(all, shelved{k, files[i]})
		if holds == nil || holds.known[k] == nil {
			fresh++
		}
	}
	if fresh*worthNew < len(all) {
		return
	}
	pieces, err := encodeShelved(s.program, siteSum(site), all)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.path), 0o755)
	}
	if err == nil {
		_ = durable.WritePieces(s.path, 0o644, pieces...)
	}
}

func encodeShelved(program string, site [sha256.Size]byte, all []shelved) ([][]byte, error) {
	sum := sha256.New()
	var pieces [][]byte
	add := func(v any) error {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(v); err != nil {
			return err
		}
		for _, p := range [][]byte{durable.Frame(b.Bytes()), b.Bytes()} {
			sum.Write(p)
			pieces = append(pieces, p)
		}
		return nil
	}
	if err := add(struct {
		Program string
		Site    [sha256.Size]byte
	}{program, site}); err != nil {
		return nil, err
	}
	for part := range slices.Chunk(all, shelfChunk) {
		if err := add(part); err != nil {
			return nil, err
		}
	}
	return slices.Insert(pieces, 0, []byte(shelfHeader), sum.Sum(nil)), nil
}
