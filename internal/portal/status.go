package portal

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
)

// Paces of the live status. How many streams there are, and for how long a
// visitor may not take what is sent, is guard.Stream's to bound.
const (
	streamPace   = 3 * time.Second  // from one state of the page to the next, at least
	streamBeat   = 20 * time.Second // a sign of life where nothing changes
	streamLasts  = 10 * time.Minute // then the visitor's browser asks anew, and who it is is looked at again
	streamRetry  = "retry: 3000\n\n"
	historyLasts = fleet.Memory
)

func (s *server) statusRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /status", s.signedIn(s.statusPage))
	mux.Handle("GET /status/events", s.lasting(s.statusEvents))
	mux.HandleFunc("GET /status/{verb}", s.postmaster(s.orderForm))
	mux.HandleFunc("POST /status/{verb}", s.postmaster(s.giveOrder))
	mux.HandleFunc("GET /status/orders/{id}", s.postmaster(s.showOrder))
}

// statusPage is how the relays stand.
func (s *server) statusPage(w http.ResponseWriter, r *http.Request, who session.Person) {
	s.pages.Render(w, r, http.StatusOK, "status", s.frame(w, r, s.statusNow(who)))
}

// statusNow is the page for one person at this moment.
func (s *server) statusNow(who session.Person) statusPage {
	now := s.now()
	if s.fleet == nil {
		return statusOf(nil, s.branch(), who.Postmaster, now)
	}
	relays := s.fleet.Relays()
	p := statusOf(relays, s.branch(), who.Postmaster, now)
	if who.Postmaster {
		history := map[string][]fleet.Point{}
		for _, r := range relays {
			history[r.Name] = s.fleet.History(r.Name, now.Add(-historyLasts))
		}
		p.Charts = chartsOf(history, now)
		p.Orders = s.orders.list()
	}
	return p
}

// statusEvents streams the changing part of the page as server-sent events
// (HTML Living Standard §9.2), each "status" with its HTML on one line or more.
func (s *server) statusEvents(w http.ResponseWriter, r *http.Request) {
	who, ok := s.sessions.Who(r)
	if !ok {
		w.WriteHeader(http.StatusNoContent) // which tells the browser not to ask again
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep it
	ctx, cancel := context.WithTimeout(r.Context(), streamLasts)
	defer cancel()
	out := &stream{w, http.NewResponseController(w)}
	if out.send(streamRetry) == nil {
		_ = s.follow(ctx, out, who, r.URL.Path) // the visitor went away, or the stream is old enough
	}
}

// follow sends the page's changing part whenever it has changed.
func (s *server) follow(ctx context.Context, out *stream, who session.Person, path string) error {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	pace := time.NewTimer(0)
	defer pace.Stop()
	sent := ""
	for {
		select { // not more often than streamPace
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ending():
			return errors.New("portal: it ends")
		case <-pace.C:
		}
		news := s.news()
		text, err := s.parts.of(who.Postmaster, s.now(), func() ([]byte, error) {
			return s.pages.Part("status", "live", page.Frame{Path: path, Body: s.statusNow(who)})
		})
		if err != nil {
			s.log.Error("a page cannot be made", "event", "portal.page_failed", "page", "status", "err", err)
			return err
		}
		if text != sent {
			sent = text
			if err := out.send(event("status", sent)); err != nil {
				return err
			}
		}
		pace.Reset(streamPace)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.ending():
				return errors.New("portal: it ends")
			case <-news:
				waiting = false
			case <-beat.C:
				if err := out.send(": \n\n"); err != nil {
					return err
				}
			}
		}
	}
}
