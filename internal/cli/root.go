package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// registerDir is the folder of the register in its repository.
const registerDir = "registrations"

// findRoot is the checkout that dir is in: the nearest folder from dir upwards
// that has registrations/, so that commands work from below as git's do.
func findRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fail(fmt.Sprintf("there is no folder %s", dir), "give the checkout of the register: -C DIR")
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fail(fmt.Sprintf("%s is not a folder", dir), "give the checkout of the register: -C "+quote(filepath.Dir(dir)))
	}
	for at := abs; ; at = filepath.Dir(at) {
		if info, err := os.Lstat(filepath.Join(at, registerDir)); err == nil && info.IsDir() {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fail(fmt.Sprintf("there is no register here: %s has no folder %s, nor has any folder above it", abs, registerDir),
				"change to a checkout of the register, or name it: -C DIR")
		}
	}
}
