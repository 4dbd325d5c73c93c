package reconcile

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// What is in force is kept in up to three files, so that keeping a commit costs
// what the commit changes:
//
//	register.last-good   all but what the next two hold; replaced with each commit.
//	                     It names the next two by their sums, so that the three
//	                     change as one
//	register.files-X     the files as they were when this was written, X being a or b:
//	                     what they mean to the program that wrote them
//	register.contents-X  and what they say, one after the other
//
// A small register has the first only. Each begins with a line that ends in the
// sum of all that follows.
const (
	lastGoodFile   = "register.last-good"
	filesPrefix    = "register.files-"
	contentsPrefix = "register.contents-"
	announcedFile  = "register.announced"
)

// header begins each of the files.
const header = "gatepost register, last good, version 2, sha256 "

// A sum is a SHA-256.
type sum [sha256.Size]byte

// saved is inForce on the disk.
type saved struct {
	Program     string // that the parsed files are of
	Commit      gitsync.Hash
	At          time.Time
	CommittedAt time.Time
	How         How
	Reason      string
	Site        *savedFile
	Base        *savedBase  // nil: there is none
	Files       []savedFile // in place of the base's of that path, or beside them
	Gone        []string    // not in force any more, of the base's
	Bad         []string    // of the files under campus/, those with a fault
	Held        []savedFile
	Revision    int
	Withheld    withholding
	Problems    []registration.Problem
	Substituted []Substitution
	Dropped     int
	Removed     []policy.Removal
}

// A savedBase names the files that hold the rest.
type savedBase struct {
	Name            string // "a" or "b"
	Files, Contents sum
}

// A savedFile is a source with its content; without it in the file of files.
type savedFile struct {
	Source  source
	Content []byte
	At      int64 // in the file of contents
}

// of is what is saved of a source; what it means only for a program with a
// name.
func savedOf(s *source, program string, content []byte) savedFile {
	f := savedFile{Source: *s, Content: content}
	if program == "" {
		f.Source.File = nil
	}
	return f
}

func (f *savedFile) source() *source {
	s := f.Source
	s.content = f.Content
	return &s
}

// sealed puts the header before a text in pieces.
func sealed(pieces ...[]byte) ([][]byte, sum) {
	h := sha256.New()
	for _, p := range pieces {
		h.Write(p)
	}
	s := sum(h.Sum(nil))
	return slices.Insert(pieces, 0, []byte(header+hex.EncodeToString(s[:])+"\n")), s
}

// unsealed is the text behind the header, if it is what was sealed.
func unsealed(data []byte) ([]byte, sum, error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	told, isOurs := strings.CutPrefix(string(line), header)
	if !ok || !isOurs {
		return nil, sum{}, errors.New("it is not a file of this program, or of another version")
	}
	have := sum(sha256.Sum256(body))
	if hex.EncodeToString(have[:]) != told {
		return nil, sum{}, errors.New("its checksum is wrong")
	}
	return body, have, nil
}

// chunk is how many files are encoded as one, so that many can be decoded at a
// time. Its length stands before each.
const chunk = 1000

// encodeFiles writes files, less their contents, in pieces.
func encodeFiles(files []savedFile) ([][]byte, error) {
	var pieces [][]byte
	for part := range slices.Chunk(files, chunk) {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(part); err != nil {
			return nil, err
		}
		pieces = append(pieces, durable.Frame(b.Bytes()), b.Bytes())
	}
	return pieces, nil
}

// decodeFiles reads what encodeFiles wrote.
func decodeFiles(data []byte) ([]savedFile, error) {
	chunks, err := durable.Frames(data)
	if err != nil {
		return nil, err
	}
	parts, errs := make([][]savedFile, len(chunks)), make([]error, len(chunks))
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var pool registration.Pool
			for i := w; i < len(chunks); i += workers {
				errs[i] = gob.NewDecoder(bytes.NewReader(chunks[i])).Decode(&parts[i])
				for j := range parts[i] {
					if s := &parts[i][j].Source; s.File != nil {
						s.File.Path = s.Path
						pool.Share(s.File)
					}
				}
			}
		})
	}
	wg.Wait()
	return slices.Concat(parts...), errors.Join(errs...)
}

func encodeSaved(s *saved) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(s)
	return b.Bytes(), err
}

func decodeSaved(data []byte) (*saved, error) {
	var s saved
	in := bytes.NewReader(data)
	if err := gob.NewDecoder(in).Decode(&s); err != nil {
		return nil, err
	}
	if in.Len() > 0 {
		return nil, fmt.Errorf("%d octets are left over: %w", in.Len(), io.ErrUnexpectedEOF)
	}
	return &s, nil
}
