package portal

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"example.edu/gatepost/internal/durable"
)

// maxLogo bounds the logo, in octets.
const maxLogo = 256 << 10

// readLogo reads the logo, and its media type, by its name. A file of another
// kind than its name says would be shown by no browser, as none may guess.
func readLogo(path string) (data []byte, kind string, err error) {
	data, err = durable.ReadFile(path, maxLogo)
	if err != nil {
		return nil, "", fmt.Errorf("reading the logo: %w", err)
	}
	if strings.EqualFold(filepath.Ext(path), ".svg") {
		if !bytes.Contains(data[:min(len(data), 4<<10)], []byte("<svg")) {
			return nil, "", fmt.Errorf("%s is no SVG image", path)
		}
		return data, "image/svg+xml", nil
	}
	if !bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) {
		return nil, "", fmt.Errorf("%s is no PNG image", path)
	}
	return data, "image/png", nil
}
