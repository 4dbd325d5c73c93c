package reconcile

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// The files of package reconcile in Options.Dir.
const (
	lastGoodFile  = "register.last-good"
	announcedFile = "register.announced"
)

// A source is one file of the register, as it is in force or would be.
type source struct {
	Path     string            `json:"path"`
	Blob     gitsync.Hash      `json:"blob"`
	From     gitsync.Hash      `json:"from"` // the commit that the content was read from
	Mode     registration.Mode `json:"mode,omitempty"`
	Size     int64             `json:"size"`
	Data     []byte            `json:"data,omitempty"`
	Odd      string            `json:"odd,omitempty"` // see gitsync.Entry
	Unusable bool              `json:"unusable,omitempty"`
	Good     bool              `json:"good,omitempty"`   // in force with no fault of its own: may stand in for a faulty successor
	Beside   bool              `json:"beside,omitempty"` // of a held block: another version of the path is in force, and stays

	// File is what Data means to the program that wrote it, so that this one
	// need not parse it again. On the disk only.
	File *registration.File `json:"file,omitempty"`
}

// inForce is everything about what is in force. It is replaced, never edited.
type inForce struct {
	commit      gitsync.Hash
	at          time.Time // accepted at
	committedAt time.Time
	how         How
	reason      string // the operator's
	site        source // the site rules; without a path if there are none
	files       []source
	held        []source // blocks of a commit that waits
	problems    []registration.Problem
	substituted []Substitution
	dropped     int              // files of which no version is in force
	removed     []policy.Removal // since the last announcement, see Accepted
	snapshot    *policy.Snapshot
}

// known reports whether a commit was ever accepted.
func (f *inForce) known() bool { return !f.commit.IsZero() }

// base is the snapshot that the next one is measured against, without held
// blocks; those do not matter to whoever asks.
func (f *inForce) base() *policy.Snapshot { return f.snapshot }

// announced is what OnAccept last took.
type announced struct {
	Commit   gitsync.Hash     `json:"commit"`
	ever     bool             // something was announced at some time
	snapshot *policy.Snapshot // nil after a restart in between
}

// saved is inForce on the disk.
type saved struct {
	Program     string                 `json:"program,omitempty"` // that the parsed files are of
	Commit      gitsync.Hash           `json:"commit"`
	At          time.Time              `json:"at"`
	CommittedAt time.Time              `json:"committedAt"`
	How         How                    `json:"how"`
	Reason      string                 `json:"reason,omitempty"`
	Site        *source                `json:"site,omitempty"`
	Files       []source               `json:"files"`
	Held        []source               `json:"held,omitempty"`
	Problems    []registration.Problem `json:"problems,omitempty"`
	Substituted []Substitution         `json:"substituted,omitempty"`
	Dropped     int                    `json:"dropped,omitempty"`
	Removed     []policy.Removal       `json:"removed,omitempty"`
}

// header begins the file. The sum of all that follows comes after it.
const header = "gatepost register, last good, version 1, sha256 "

// encode writes what is in force as one file: a line with a checksum, and
// compressed JSON. Files of which nothing is in force are left out, but for
// those under campus/, whose good lines are. The parsed files go along if the
// program has a name.
func (f *inForce) encode(program string, parsed *cache) ([]byte, error) {
	s := saved{
		Program: program, Commit: f.commit, At: f.at, CommittedAt: f.committedAt, How: f.how, Reason: f.reason,
		Held: f.held, Problems: f.problems, Substituted: f.substituted, Dropped: f.dropped, Removed: f.removed,
	}
	if f.site.Path != "" {
		s.Site = &f.site
	}
	for _, file := range f.files {
		if file.Good || registration.Kind(file.Path) == registration.KindCampus {
			if program != "" {
				file.File = parsed.parsed[file.key()].file
			}
			s.Files = append(s.Files, file)
		}
	}
	var body bytes.Buffer
	z, err := gzip.NewWriterLevel(&body, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(z).Encode(s), z.Close()); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body.Bytes())
	return slices.Concat([]byte(header+hex.EncodeToString(sum[:])+"\n"), body.Bytes()), nil
}

// decode reads what encode wrote, and nothing else, and which program did.
func decode(data []byte) (f *inForce, program string, err error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	sum, isOurs := strings.CutPrefix(string(line), header)
	if !ok || !isOurs {
		return nil, "", errors.New("it is not a file of this program, or of another version")
	}
	if have := sha256.Sum256(body); hex.EncodeToString(have[:]) != sum {
		return nil, "", errors.New("its checksum is wrong")
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	var s saved
	if err := json.NewDecoder(io.LimitReader(z, 4*registration.MaxRegister)).Decode(&s); err != nil {
		return nil, "", err
	}
	f = &inForce{
		commit: s.Commit, at: s.At, committedAt: s.CommittedAt, how: s.How, reason: s.Reason,
		files: s.Files, held: s.Held, problems: s.Problems, substituted: s.Substituted, dropped: s.Dropped, removed: s.Removed,
	}
	if s.Site != nil {
		f.site = *s.Site
	}
	return f, s.Program, nil
}

// persist makes what is to be in force durable.
func (r *Reconciler) persist(f *inForce) error {
	if len(f.problems) > maxProblems {
		f.problems = slices.Clone(f.problems[:maxProblems]) // lets go of the others
	}
	data, err := f.encode(r.o.Program, &r.cache)
	if err == nil {
		err = r.o.Disk.WriteFile(filepath.Join(r.o.Dir, lastGoodFile), data)
	}
	if err != nil {
		return fmt.Errorf("keeping what is to be in force: %w", err)
	}
	return nil
}

func (r *Reconciler) persistAnnounced(a announced) error {
	data, err := json.Marshal(a)
	if err == nil {
		err = r.o.Disk.WriteFile(filepath.Join(r.o.Dir, announcedFile), data)
	}
	if err != nil {
		return fmt.Errorf("reconcile: remembering what was announced: %w", err)
	}
	return nil
}

// restore puts in force what was in force before. If the file is damaged, the
// commit that was announced last is at least remembered as the accepted one,
// so that a rewound branch is not taken for a beginning.
func (r *Reconciler) restore() {
	data, err := r.o.Disk.ReadFile(filepath.Join(r.o.Dir, announcedFile), 1<<20)
	if !errors.Is(err, fs.ErrNotExist) {
		r.announced.ever = true // even if it cannot be read
		if err == nil {
			err = json.Unmarshal(data, &r.announced)
		}
		if err != nil {
			r.log.Error("it is not known what was announced last", "event", "register.announced_damaged", "err", err)
		}
	}
	f, err := r.readLastGood()
	switch {
	case err == nil:
		r.inForce = *f
		r.o.Live.Store(r.snapshot)
		r.update(func(s *State) { s.ContactAt = r.at }) // it answered then, at least
		if r.announced.Commit == r.commit {
			r.announced.snapshot = r.snapshot
		}
		r.log.Info("the register is in force as before", "event", "register.restored", "commit", r.commit.String(),
			"addresses", r.snapshot.Len(), "at", r.at)
	case errors.Is(err, fs.ErrNotExist) && !r.announced.ever:
	default:
		r.commit = r.announced.Commit
		r.log.Error("the last good register cannot be read; nobody is served until the repository answers",
			"event", "register.damaged", "commit", r.commit.String(), "err", err)
	}
	r.show()
}

func (r *Reconciler) readLastGood() (*inForce, error) {
	data, err := r.o.Disk.ReadFile(filepath.Join(r.o.Dir, lastGoodFile), 2*registration.MaxRegister)
	if err != nil {
		return nil, err
	}
	f, program, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("reconcile: %s: %w", lastGoodFile, err)
	}
	r.cache.adopt(f.site.Data, f.files, program != "" && program == r.o.Program)
	if err := r.rebuild(f); err != nil {
		return nil, fmt.Errorf("reconcile: %s: %w", lastGoodFile, err)
	}
	return f, nil
}

// sameSources reports whether two lists hold the same files.
func sameSources(a, b []source) bool {
	return slices.EqualFunc(a, b, func(x, y source) bool { return x.key() == y.key() && x.Beside == y.Beside })
}

func compareProblems(a, b registration.Problem) int {
	return cmp.Or(
		strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		strings.Compare(string(a.Rule), string(b.Rule)), strings.Compare(a.Message, b.Message))
}
