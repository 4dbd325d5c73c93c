package forgetest

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Import makes a branch what the branch of that name is in a git repository
// on the disk, with its history. It runs git.
func (h *Hub) Import(dir, branch string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).Output()
		if err != nil {
			return "", fmt.Errorf("forgetest: git %v: %w", args, err)
		}
		return string(out), nil
	}
	lines, err := git("rev-list", "--reverse", "--parents", "refs/heads/"+branch)
	if err != nil {
		return err
	}
	for line := range strings.Lines(lines) {
		names := strings.Fields(line)
		if _, known := h.objects.commits[names[0]]; known {
			continue
		}
		about, err := git("show", "-s", "--format=%T%n%an <%ae>%n%aI%n%B", names[0])
		if err != nil {
			return err
		}
		parts := strings.SplitN(about, "\n", 4)
		at, err := time.Parse(time.RFC3339, parts[2])
		if err != nil {
			return fmt.Errorf("forgetest: %w", err)
		}
		listed, err := git("ls-tree", "-r", "-z", names[0])
		if err != nil {
			return err
		}
		files := map[string]File{}
		for entry := range strings.SplitSeq(strings.TrimSuffix(listed, "\x00"), "\x00") {
			head, path, _ := strings.Cut(entry, "\t")
			fields := strings.Fields(head)
			if len(fields) != 3 {
				continue
			}
			data, err := git("cat-file", "blob", fields[2])
			if err != nil {
				return err
			}
			files[path] = File{fields[0], h.objects.blob([]byte(data))}
		}
		if tree := h.objects.write(files); tree != parts[0] {
			return fmt.Errorf("forgetest: tree %s came out as %s", parts[0], tree)
		}
		h.objects.commits[names[0]] = commitObject{parts[0], slices.Clone(names[1:]), parts[3], parts[1], at.UTC()}
		h.branches[branch] = names[0]
	}
	return nil
}
