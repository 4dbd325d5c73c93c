package spool

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The steps at which the disk has changed, in the order of a message's life, as
// Options.Step is told of them.
const (
	StepBodyMade       = "body-made"          // a new file for it
	StepBodyReused     = "body-reused"        // or one is opened that had another body before
	StepBodySynced     = "body-synced"        // all of its data
	StepFolderSynced   = "body-folder-synced" // the name of a new file lasts
	StepLogWritten     = "log-written"        // a batch is in the engine's log
	StepLogSynced      = "log-synced"         // and lasts
	StepTableSynced    = "table-synced"       // what was in the log is in a table that nothing names
	StepManifestSynced = "manifest-synced"    // the table has its place
)

// Steps lists the names that Options.Step is called with.
func Steps() []string {
	return []string{StepBodyMade, StepBodyReused, StepBodySynced, StepFolderSynced, StepLogWritten, StepLogSynced,
		StepTableSynced, StepManifestSynced}
}

// A stepped is a disk that tells of each step once it is made: between any two
// of them a process may be killed.
type stepped struct {
	vfs.FS
	bodies string // the folder of bodies
	step   func(name string)
}

var _ vfs.FS = (*stepped)(nil)

func (d *stepped) isBody(name string) bool { return d.PathDir(name) == d.bodies }

// file tells of the steps of a file that is opened for writing; made is that of
// a body.
func (d *stepped) file(name string, f vfs.File, err error, made string) (vfs.File, error) {
	base := d.PathBase(name)
	s := &steppedFile{File: f, step: d.step}
	switch {
	case err != nil:
		return nil, err
	case d.isBody(name):
		s.synced = StepBodySynced
		d.step(made)
	case isLog(name):
		s.written, s.synced = StepLogWritten, StepLogSynced
	case strings.HasSuffix(base, ".sst"):
		s.synced = StepTableSynced
	case strings.HasPrefix(base, "MANIFEST"):
		s.synced = StepManifestSynced
	default:
		return f, nil
	}
	return s, nil
}

func (d *stepped) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.file(name, f, err, StepBodyMade)
}

func (d *stepped) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.file(newname, f, err, StepBodyMade)
}

func (d *stepped) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.file(name, f, err, StepBodyReused)
}

// OpenDir opens a folder, which is done to sync it.
func (d *stepped) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil || name != d.bodies {
		return f, err
	}
	return &steppedFile{File: f, step: d.step, synced: StepFolderSynced}, nil
}

// Unwrap is the disk itself.
func (d *stepped) Unwrap() vfs.FS { return d.FS }

// A steppedFile tells of what is written and synced.
type steppedFile struct {
	vfs.File
	step            func(name string)
	written, synced string // the names of the steps; "": none
}

func (f *steppedFile) tell(name string, err error) {
	if err == nil && name != "" {
		f.step(name)
	}
}

func (f *steppedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.tell(f.written, err)
	return n, err
}

func (f *steppedFile) Sync() error {
	err := f.File.Sync()
	f.tell(f.synced, err)
	return err
}

func (f *steppedFile) SyncData() error {
	err := f.File.SyncData()
	f.tell(f.synced, err)
	return err
}

func (f *steppedFile) SyncTo(offset int64) (full bool, err error) {
	full, err = f.File.SyncTo(offset)
	f.tell(f.synced, err)
	return full, err
}
