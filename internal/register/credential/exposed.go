package credential

import "os"

// Exposed says who else may use a file; "" if nobody may, or there is none.
func Exposed(path string) string {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return ""
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return "everybody on this machine may write it"
	case mode&0o004 != 0:
		return "everybody on this machine may read it"
	case mode&0o020 != 0:
		return "its group may write it"
	}
	return ""
}
