package archive

import (
	"os"

	"golang.org/x/sys/unix"
)

// closeFile closes a file that was written; syncFolder brings it to the disk.
func closeFile(f *os.File) error { return f.Close() }

// syncFolder brings everything to the disk that was written on the file system
// of a folder: once for all files, where a sync for each of a million takes a
// quarter of an hour. Since Linux 5.8 it tells of what could not be written.
func syncFolder(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }
