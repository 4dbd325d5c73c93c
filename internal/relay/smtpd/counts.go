package smtpd

import "sync/atomic"

// Counts are a server in three numbers, for people; metrics.go has the rest.
type Counts struct {
	Sessions int   // now
	Accepted int64 // messages since the start
	Refused  int64 // connections and commands since the start
}

// tally keeps what Counts tells.
type tally struct {
	accepted, refused atomic.Int64
}

// Counts tells them.
func (s *Server) Counts() Counts {
	s.crowd.mu.Lock()
	sessions := s.crowd.all
	s.crowd.mu.Unlock()
	return Counts{Sessions: sessions, Accepted: s.tally.accepted.Load(), Refused: s.tally.refused.Load()}
}
