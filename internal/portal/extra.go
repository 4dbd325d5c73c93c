package portal

import (
	"net/http"

	"example.edu/gatepost/internal/portal/page"
)

// Extra makes the pages that whoever starts the portal adds below /demo, such
// as the demo's inbox. It is called once, before the first visitor, and may add
// templates of its own. What it serves passes the same guards as every other
// page: a POST without the frame's token does not reach it.
type Extra func(*page.Pages, FrameFunc) (http.Handler, error)

// FrameFunc is the frame of a page for whoever asks for it.
type FrameFunc func(w http.ResponseWriter, r *http.Request, body any) page.Frame

// addExtra has the handler serve the pages of make; nil: none.
func (s *server) addExtra(make Extra) (err error) {
	if make != nil {
		s.extra, err = make(s.pages, s.frame)
	}
	return err
}
