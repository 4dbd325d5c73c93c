package queue

import (
	"time"
	"unique"
)

// A share is what one registration has of the workers.
//
// A registration may begin an attempt while it has fewer under way than three
// times the workers that are free, and a retry while it has fewer retries than
// there are free workers. So one alone has three quarters of the workers, its
// retries a half, and however many want all of them, some are left for the one
// that has nothing under way: it may always begin. That its next hops hang
// costs a registration its own share, and its new mail does not wait for its
// old. (Dynamic thresholds: A. K. Choudhury and E. L. Hahne, 1998.)
type share struct {
	running int
	retries int         // of running
	turns   int         // that there are of it
	parked  fifo[*turn] // those that had to wait for the share; some may be back in their places
	listed  bool        // in schedule.parked
}

const (
	shareOfFree   = 3
	retriesOfFree = 1
)

// may tells whether a registration may begin an attempt with so many workers
// free.
func (sh *share) may(retry bool, free int) bool {
	return (sh.running == 0 || sh.running < shareOfFree*free) && (!retry || sh.retries == 0 || sh.retries < retriesOfFree*free)
}

func (sh *share) begin(s *schedule, j *job) {
	s.running++
	sh.running++
	if j.attempts > 0 {
		sh.retries++
	}
	j.retry = j.attempts > 0
}

func (sh *share) end(s *schedule, j *job) {
	s.running--
	sh.running--
	if j.retry {
		sh.retries--
	}
	s.endShare(j.item.registration, sh)
}

func (s *schedule) shareOf(j *job) *share {
	sh := s.shares[j.item.registration]
	if sh == nil {
		sh = &share{}
		s.shares[j.item.registration] = sh
	}
	return sh
}

// A turn is one registration's ready jobs at one destination. New ones go
// before those that were tried already, but for one in four.
type turn struct {
	registration unique.Handle[string]
	share        *share
	dest         *destination
	fresh, tried fifo[*job]
	freshInRow   int
	parked       bool // not in dest.turns, since its share was used up
}

// turn is that of a job; it is made if there is none.
func (s *schedule) turn(j *job) *turn {
	t := j.dest.byReg[j.item.registration]
	if t == nil {
		t = &turn{registration: j.item.registration, share: s.shareOf(j), dest: j.dest}
		t.share.turns++
		j.dest.byReg[j.item.registration] = t
		j.dest.turns.push(t)
	}
	return t
}

// push adds a job. What is new may begin where retries wait for their share.
func (t *turn) push(s *schedule, j *job) {
	if j.attempts > 0 {
		t.tried.push(j)
		return
	}
	t.fresh.push(j)
	if t.parked && t.share.may(false, s.workers-s.running) {
		t.back()
	}
}

// back puts a turn that was parked in its place again.
func (t *turn) back() {
	t.parked = false
	t.dest.turns.push(t)
}

// freshAtMost is how many new ones are taken before one that was tried.
const freshAtMost = 3

// pop takes the next job that the share allows. parked: there is one, and it
// does not.
func (t *turn) pop(free int) (j *job, parked bool) {
	for {
		from := &t.fresh
		mayFresh, mayTried := t.fresh.len() > 0 && t.share.may(false, free), t.tried.len() > 0 && t.share.may(true, free)
		switch {
		case !mayFresh && !mayTried:
			return nil, t.fresh.len()+t.tried.len() > 0
		case mayTried && (!mayFresh || t.freshInRow >= freshAtMost):
			from = &t.tried
		}
		j, _ := from.pop()
		j.queued = false
		if j.state != ready || j.item.gone { // displaced since
			continue
		}
		if t.freshInRow++; from == &t.tried {
			t.freshInRow = 0
		}
		return j, false
	}
}

// takeJob hands out a job of a destination: of the registration whose turn it
// is, and which has some of its share left. nil: there is none.
func (s *schedule) takeJob(d *destination) *job {
	for {
		t, ok := d.turns.pop()
		if !ok {
			return nil
		}
		j, parked := t.pop(s.workers - s.running)
		switch {
		case parked:
			t.parked = true
			t.share.parked.push(t)
			if !t.share.listed {
				t.share.listed = true
				s.parked.push(t.share)
			}
		case t.fresh.len()+t.tried.len() > 0:
			d.turns.push(t)
		default:
			s.endTurn(t)
		}
		if j != nil {
			return j
		}
	}
}

// endTurn forgets a turn.
func (s *schedule) endTurn(t *turn) {
	t.parked = false
	delete(t.dest.byReg, t.registration)
	t.share.turns--
	s.endShare(t.registration, t.share)
}

// endShare forgets a share that is nobody's.
func (s *schedule) endShare(registration unique.Handle[string], sh *share) {
	if sh.running == 0 && sh.turns == 0 {
		delete(s.shares, registration)
	}
}

// unpark brings back one turn of each registration that may begin something by
// now. take calls it, so that each attempt that ends lets another one begin; at
// most so many registrations have turns parked as have attempts under way, or
// wait for the next take.
func (s *schedule) unpark(now time.Time) {
	for range min(s.parked.len(), s.workers) {
		sh, _ := s.parked.pop()
		for sh.parked.len() > 0 && sh.may(false, s.workers-s.running) {
			t, _ := sh.parked.pop()
			if !t.parked { // it is back already
				continue
			}
			t.back()
			s.refresh(t.dest, now)
			break
		}
		if sh.listed = sh.parked.len() > 0; sh.listed {
			s.parked.push(sh)
		}
	}
}
