package registration

import (
	"path"
	"regexp"
	"strings"
)

// A FileKind says what a path of the repository is to the register.
type FileKind uint8

// The kinds of file.
const (
	KindIgnored      FileKind = iota // no file of the register: README.md, and all outside registrations/
	KindRegistration                 // registrations/<department>/…/<name>.cue
	KindCampus                       // registrations/campus/<name>.cue
	KindBlock                        // registrations/blocks/<name>.cue
	KindMisplaced                    // in registrations/, but where nothing belongs: rule path
)

// The folders of registrations/ that are no department's.
const (
	root         = "registrations/"
	campusFolder = "campus"
	blocksFolder = "blocks"
)

// Kind tells what the file at a path is, by the path alone. The path is
// relative to the repository, with forward slashes.
func Kind(file string) FileKind {
	below, ok := strings.CutPrefix(file, root)
	if !ok || path.Base(file) == "README.md" {
		return KindIgnored
	}
	if misplaced(file) != "" {
		return KindMisplaced
	}
	switch folder, _, _ := strings.Cut(below, "/"); folder {
	case campusFolder:
		return KindCampus
	case blocksFolder:
		return KindBlock
	default:
		return KindRegistration
	}
}

// inRegister reports whether a path is the register or below it.
func inRegister(file string) bool {
	return strings.HasPrefix(file+"/", root)
}

// department is the folder that a registration's file stands in.
func department(file string) string {
	folder, _, _ := strings.Cut(strings.TrimPrefix(file, root), "/")
	return folder
}

var (
	odd          = regexp.MustCompile(`[^a-z0-9._+@-]+`)
	departmentID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) // as in #DepartmentID
	segment      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}$`)
)

// isDepartmentID reports whether s can be a department's short name: the
// pattern of #DepartmentID, less the two folders that mean something else.
func isDepartmentID(s string) bool {
	return departmentID.MatchString(s) && s != campusFolder && s != blocksFolder
}

// misplaced says in plain words why a file below registrations/ is not where a
// file of the register can be; "" when it is.
func misplaced(file string) string {
	parts := strings.Split(strings.TrimPrefix(file, root), "/")
	name := parts[len(parts)-1]
	for _, part := range parts {
		if !segment.MatchString(part) {
			return "the name holds something else than letters, digits, hyphens, dots and underscores, or starts with a dot"
		}
	}
	switch {
	case !strings.HasSuffix(name, ".cue"):
		return "the name does not end in .cue"
	case len(parts) == 1:
		return "it stands in no department's folder"
	case (parts[0] == campusFolder || parts[0] == blocksFolder) && len(parts) > 2:
		return "registrations/" + parts[0] + " has no folders below it"
	case parts[0] != campusFolder && parts[0] != blocksFolder && !isDepartmentID(parts[0]):
		return "the folder is no department's short name (small letters, digits and hyphens)"
	case len(file) > 512:
		return "the path is longer than 512 characters"
	}
	return ""
}

// leftover matches what editors and systems leave beside a file.
var leftover = regexp.MustCompile(`^\.|~$|\.(bak|orig|rej|sw[a-p]|tmp)$`)

// placeHint says what to do with a misplaced file.
func placeHint(file string) string {
	folder, name := path.Split(strings.TrimPrefix(file, root))
	if leftover.MatchString(name) {
		return "an editor or the system has left it here: delete it, and keep it out of the commit"
	}
	parts := strings.Split(strings.TrimSuffix(folder, "/"), "/")
	stem, ending, cue := strings.Cut(strings.ToLower(name), ".cue")
	if !cue {
		ending = path.Ext(stem)
	}
	if ending == "" || ending == ".txt" {
		stem = strings.Trim(odd.ReplaceAllString(strings.TrimSuffix(stem, ".txt"), "-"), "-._+@")
		if right := root + folder + stem + ".cue"; stem != "" && isDepartmentID(parts[0]) && misplaced(right) == "" {
			return "rename it to " + right
		}
	}
	return `move it to registrations/<department>/<name>.cue, like "registrations/lsa-physics/mfp.cue"; only README.md may stand beside such files`
}
