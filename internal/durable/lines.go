package durable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// DecodeLines reads a file of JSON: one value that says what it is, which must
// be head, and then any number of lines, each given to take. An error of take
// ends it, and is returned.
func DecodeLines[H comparable, L any](data []byte, head H, take func(L) error) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var first H
	if err := dec.Decode(&first); err != nil || first != head {
		return errors.Join(errors.New("durable: not a file of this version"), err)
	}
	for {
		var l L
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("durable: reading a line: %w", err)
		}
		if err := take(l); err != nil {
			return err
		}
	}
}
