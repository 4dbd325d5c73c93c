package spool

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The steps at which the disk has changed, in the order of a message's life, as
// Options.Step is told of them.
const (
	StepBodyMade       = "body-made"          // its file has a name that means nothing
	StepBodySynced     = "body-synced"        // all of its data
	StepBodyNamed      = "body-named"         // its file has its name
	StepFolderSynced   = "body-folder-synced" // the name lasts
	StepLogWritten     = "log-written"        // a batch is in the engine's log
	StepLogSynced      = "log-synced"         // and lasts
	StepBodyRemoved    = "body-removed"       // its record was, before
	StepTableSynced    = "table-synced"       // what was in the log is in a table that nothing names
	StepManifestSynced = "manifest-synced"    // the table has its place
)

// Steps lists the names that Options.Step is called with.
func Steps() []string {
	return []string{StepBodyMade, StepBodySynced, StepBodyNamed, StepFolderSynced, StepLogWritten, StepLogSynced,
		StepBodyRemoved, StepTableSynced, StepManifestSynced}
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

// file tells of the steps of a file that is made.
func (d *stepped) file(name string, f vfs.File, err error) (vfs.File, error) {
	base := d.PathBase(name)
	s := &steppedFile{File: f, step: d.step}
	switch {
	case err != nil:
		return nil, err
	case d.isBody(name):
		s.synced = StepBodySynced
		d.step(StepBodyMade)
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
	return d.file(name, f, err)
}

func (d *stepped) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.file(newname, f, err)
}

func (d *stepped) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.file(name, f, err)
}

// OpenDir opens a folder, which is done to sync it.
func (d *stepped) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil || name != d.bodies {
		return f, err
	}
	return &steppedFile{File: f, step: d.step, synced: StepFolderSynced}, nil
}

func (d *stepped) Rename(oldname, newname string) error {
	err := d.FS.Rename(oldname, newname)
	if err == nil && d.isBody(newname) {
		d.step(StepBodyNamed)
	}
	return err
}

func (d *stepped) Remove(name string) error {
	err := d.FS.Remove(name)
	if err == nil && d.isBody(name) {
		d.step(StepBodyRemoved)
	}
	return err
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
