package durable

import (
	"encoding/binary"
	"io"
)

// frame is the octets before each piece that say how long it is.
const frame = 8

// Frame is what stands before a piece of a file, so that Frames finds it again.
func Frame(piece []byte) []byte { return binary.BigEndian.AppendUint64(nil, uint64(len(piece))) }

// Frames takes a file apart into its pieces, which share its memory. A file that
// ends too early is an io.ErrUnexpectedEOF.
func Frames(data []byte) ([][]byte, error) {
	var pieces [][]byte
	for len(data) > 0 {
		if len(data) < frame || binary.BigEndian.Uint64(data) > uint64(len(data)-frame) {
			return nil, io.ErrUnexpectedEOF
		}
		end := frame + binary.BigEndian.Uint64(data)
		pieces, data = append(pieces, data[frame:end]), data[end:]
	}
	return pieces, nil
}
