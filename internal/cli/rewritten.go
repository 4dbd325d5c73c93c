package cli

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"regexp"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

const (
	attributesPath = ".gitattributes"
	maxAttributes  = 1 << 20 // bytes
)

// rewriting finds the attributes with which git makes another file of what is
// committed. That of line ends is harmless: all are read alike.
var rewriting = regexp.MustCompile(`(?m)^[^#\n]*\s(ident|filter|working-tree-encoding)\b`)

// rewritten finds files of the register that are on disk not as they are
// committed, where git may be what has changed them. With "ident", all between
// "$Id:" and "$" is replaced on the way to the disk: check would see harmless
// files there, and the relay, which reads what is committed, would see others.
func (c *checkout) rewritten(ctx context.Context, disk *tree) ([]registration.Problem, error) {
	text, err := c.git.DiskRead(ctx, attributesPath, maxAttributes)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !rewriting.Match(text) {
		return nil, nil // what cannot be read is suspicious
	}
	head, err := c.git.Resolve(ctx, "HEAD")
	if err != nil {
		return nil, nil // nothing is committed
	}
	committed, err := c.committed(ctx, head)
	if err != nil {
		return nil, err
	}
	var found []registration.Problem
	for _, s := range disk.Sources {
		blob, ok := committed[s.Path]
		if !ok || s.Mode != registration.Regular || s.Size != int64(len(s.Data)) ||
			blob == gitsync.BlobHash(s.Data) || blob == gitsync.BlobHash(bytes.ReplaceAll(s.Data, []byte("\r\n"), []byte("\n"))) {
			continue
		}
		found = append(found, registration.Problem{
			File: s.Path, Rule: registration.RuleNotRegular, Severity: registration.Error,
			Message: "the file on disk is not what is committed, and " + attributesPath + " has git rewrite files (ident, filter, working-tree-encoding)",
			Hint:    "commit your work and check again; if this stays, take those attributes off the files under " + registerDir + "/",
		})
	}
	return found, nil
}

// committed are the regular files of the register at a commit.
func (c *checkout) committed(ctx context.Context, head gitsync.Hash) (map[string]gitsync.Hash, error) {
	entries, err := c.git.Files(ctx, head, registerDir)
	if err != nil {
		return nil, err
	}
	committed := make(map[string]gitsync.Hash, len(entries))
	for _, e := range entries {
		if registration.Kind(e.Path) != registration.KindIgnored && e.Mode.Register() == registration.Regular {
			committed[e.Path] = e.Hash
		}
	}
	return committed, nil
}
