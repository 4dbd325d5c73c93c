package registration

import (
	"bytes"
	"time"
)

// FormatBlock writes the one canonical text of a block, with the comment, if any,
// above it. Parsing the text gives the block again, but for its path and positions.
// Strings are quoted as Format quotes them.
func FormatBlock(b *Block, comment string) []byte {
	var w bytes.Buffer
	writeComment(&w, comment)
	w.WriteString("block: {\n")
	field := func(name, value string) { w.WriteString("\t" + name + text(value) + "\n") }
	if b.Prefix.IsSingleIP() {
		field("ip:     ", b.Prefix.Addr().String())
	} else {
		field("prefix: ", b.Prefix.String())
	}
	field("reason: ", oneLine(b.Reason))
	field("since:  ", b.Since.UTC().Format(time.RFC3339))
	if !b.Until.IsZero() {
		field("until:  ", b.Until.UTC().Format(time.RFC3339))
	}
	w.WriteString("}\n")
	return w.Bytes()
}
