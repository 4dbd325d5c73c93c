package deliver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"example.edu/gatepost/internal/relay/spool"
)

// A seal is what is put before a message to vouch for it. It is made once an
// attempt, when the first next hop is there, over what will be sent. A nil
// *seal is none.
type seal struct {
	signer  Signer
	made    bool
	text    string
	failure error // why a message that should have one has none
}

// make makes it, if that was not done before. The error is one of reading the
// body.
func (s *seal) make(body func() (io.ReadCloser, error)) error {
	if s == nil || s.made {
		return nil
	}
	text, err := s.signer.Sign(func(w io.Writer) error {
		r, err := body()
		if err != nil {
			return fmt.Errorf("deliver: opening the body: %w: %w", errBody, err)
		}
		defer func() { _ = r.Close() }()
		buffered := bufio.NewWriterSize(w, 32<<10)
		if err := writeLines(buffered, r, false); err != nil {
			return err
		}
		return buffered.Flush()
	})
	if errors.Is(err, errBody) {
		return err
	}
	s.made, s.text, s.failure = true, text, err
	return nil
}

// fields are the header fields; "" for none.
func (s *seal) fields() string {
	if s == nil {
		return ""
	}
	return s.text
}

// sealed counts a seal, and tells of a message that should have one.
func (c *Courier) sealed(ctx context.Context, e *spool.Entry, s *seal) {
	switch {
	case !s.made:
	case s.failure != nil:
		c.metrics.signed("failed")
		c.o.Logger.LogAttrs(ctx, slog.LevelInfo, "unsigned", slog.String("event", "deliver.unsigned"),
			slog.String("id", string(e.ID)), slog.String("registration", e.Envelope.Registration), slog.Any("err", s.failure))
	case s.text == "":
		c.metrics.signed("none")
	default:
		c.metrics.signed("signed")
	}
}
