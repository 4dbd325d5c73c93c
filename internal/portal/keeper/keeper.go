// Package keeper is the reporter: it tells everybody what becomes of requests, and
// does by itself what the register needs done in time.
//
// On a request at the forge it keeps one comment (the verdict of package report,
// the proofs, where it is live) and, where the forge has such, the commit status
// gatepost/live. People who have no account there it reaches by mail: a question of
// a postmaster (a remark that begins with /ask), and the words with which a request
// was closed; the answer to a question becomes a comment. It opens requests of its
// own: for blocks that an operator made on a relay, for registrations that end
// soon, and for addresses that have been silent.
//
// It approves nothing and merges nothing: what it opens is judged and merged like
// any other request. If it is down, mail flows and merges go live all the same.
//
// Invariants:
//   - It never does a thing twice. What was done is in the book before it counts as
//     done, and what a crash left between forge and book is looked for at the forge
//     before it is done again. A comment may come twice if a crash hides that it
//     was written and the forge does not show it; a mail as package book says.
//   - Everything that comes from the forge, a relay or a form is text of a stranger.
//     In a comment it stands in code, and in a mail it is plain text.
//   - What one round writes to the forge is bounded, and so is what it asks of it;
//     the rest comes with the next.
//   - What is down costs itself: the forge, the relays, the register and the mail
//     server each have one log line when they fail and one when they are back.
package keeper

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/report"
	"example.edu/gatepost/internal/register/review"
)

// Bounds of one round.
const (
	maxWrites    = 30               // to the forge
	maxTended    = 60               // requests that are looked at closely
	maxQuestions = 24               // to the relays about single addresses
	roundFor     = 5 * time.Minute  // it takes at most
	lightEvery   = 2 * time.Second  // between rounds that a relay's news begin
	remarksEvery = 15 * time.Minute // remarks are read anew, whatever the forge says of changes
	dutiesEvery  = time.Hour        // renewals and removals are looked for
	lookBack     = 30 * 24 * time.Hour
)

// ErrNoQuestion is the error of an answer to what nobody asked, or what was
// answered already.
var ErrNoQuestion = errors.New("there is no such question, or it has an answer")

// A Forge is what the reporter needs of one.
type Forge interface {
	forge.Opener
	forge.Speaker
	forge.Follower
}

// A statuses is a forge whose commits have statuses. A plain git repository has
// none.
type statuses interface {
	ReportStatus(context.Context, forge.Report) error
}

// Options of New. Forge, Book, Register, Repo, Branch and URL must be set.
type Options struct {
	Forge    Forge
	Book     *book.Book
	Register func() *view.Register // the newest; nil: none yet
	Repo     *gitsync.Repo         // has the branch with its history
	Branch   string
	URL      string // of the portal, without a final slash
	Relays   Relays // nil: none is asked
	Mailer   Mailer // nil: no mail is sent

	// Judge judges an open request; nil: as package report does it.
	Judge func(context.Context, forge.Request) (report.Verdict, error)

	// Self is the account that the portal writes as; nil where there are none.
	Self func(context.Context) (forge.Account, error)
	// Askers may ask and close with words; empty: whoever may write there.
	Askers []forge.Account
	// Author is whom commits of the reporter's own requests are by.
	Author forge.Person

	Poll           time.Duration // between two looks at the forge; 0: 30 s
	RenewAhead     time.Duration // before the end that a renewal is opened; 0: none is
	RemoveSilent   time.Duration // after which an address is proposed for removal; 0: none is
	MirrorsBlocks  bool
	Now            func() time.Time // nil: time.Now
	Logger         *slog.Logger
	Registerer     prometheus.Registerer // nil: no metrics
	AfterBookWrite func()                // for tests of crashes; nil: nothing
}

// A Keeper is the reporter. Make it with New, and Run it once. The other methods
// may be called at any time from anywhere.
type Keeper struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	wake    chan struct{} // a round is wanted
	post    chan struct{} // a mail is owed

	mu      sync.Mutex
	trouble map[string]string // part → what is wrong with it; guarded by mu

	// What follows belongs to the goroutine of the rounds.
	writes    int                       // left in this round
	questions int                       // likewise
	requests  map[int]*tended           // what was heard of them last
	accounts  map[forge.Account]account // who may ask
	self      ownAccount                // the portal's
	asked     map[string]time.Time      // addresses that relays were asked about
	failed    error                     // what the forge did not do in this round, the first of it
	duties    time.Time                 // when renewals were looked for last
}

// An account is what is known of one for a while.
type account struct {
	may   bool
	until time.Time
}

// An ownAccount is the portal's own account, for a while.
type ownAccount struct {
	id    int64
	until time.Time
}

// A tended request is what is in memory of one that something may still become of.
type tended struct {
	request forge.Request
	at      time.Time // when it was looked at last
	read    time.Time // when its remarks were read
	updated time.Time // the forge's UpdatedAt then
	remarks []forge.Remark
}

// New makes a Keeper.
func New(o Options) *Keeper {
	if o.Poll <= 0 {
		o.Poll = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Author == (forge.Person{}) {
		o.Author = forge.Person{Name: "Gatepost portal", Email: "gatepost@localhost"}
	}
	o.Author = forge.Person{Name: plainName(o.Author.Name), Email: plainName(o.Author.Email)}
	o.URL = strings.TrimSuffix(o.URL, "/")
	k := &Keeper{
		o: o, log: o.Logger, now: o.Now, metrics: newMetrics(o.Registerer),
		wake: make(chan struct{}, 1), post: make(chan struct{}, 1),
		trouble: map[string]string{}, requests: map[int]*tended{}, accounts: map[forge.Account]account{}, asked: map[string]time.Time{},
	}
	if k.o.Judge == nil {
		k.o.Judge = judging(o)
	}
	return k
}

// judging is the judge that fits the forge.
func judging(o Options) func(context.Context, forge.Request) (report.Verdict, error) {
	j := report.Judging{Repo: o.Repo, Branch: o.Branch, Now: o.Now, Base: func(commit string) *review.Base {
		if r := o.Register(); r != nil && r.Commit == commit {
			return r.Base
		}
		return nil
	}}
	switch f := o.Forge.(type) {
	case *forge.GitHub:
		j.Forge = report.GitHub(f)
	case *forge.Git:
		j.Forge = report.Plain(f)
	default:
		return func(context.Context, forge.Request) (report.Verdict, error) { return report.Verdict{}, nil }
	}
	return j.Request
}

// Wake asks for a round now: the forge's webhook came, or somebody did something.
func (k *Keeper) Wake() { poke(k.wake) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is due already
	}
}

// Run works until ctx ends, and returns nil when nothing is under way any more.
func (k *Keeper) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.rounds(ctx) })
	if k.o.Mailer != nil {
		group.Go(func() error { return k.mails(ctx) })
	} else {
		k.log.Warn("no mail server is configured (mail), so nobody is asked or told by mail", "event", "keeper.no_mail")
	}
	return group.Wait()
}

// rounds looks at the forge with every poll and every Wake, and at the relays
// besides when they have news of what is not live everywhere yet.
func (k *Keeper) rounds(ctx context.Context) error {
	timer, light := time.NewTimer(0), time.NewTimer(0)
	defer timer.Stop()
	defer light.Stop()
	news := k.news()
	quiet := true // a light round may begin at once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			k.round(ctx)
			timer.Reset(k.o.Poll)
		case <-k.wake:
			k.round(ctx)
			timer.Reset(k.o.Poll)
		case <-news:
			if news = k.news(); quiet {
				k.light(ctx)
				quiet = false
				light.Reset(lightEvery)
				continue
			}
			light.Reset(lightEvery)
		case <-light.C:
			if !quiet {
				k.light(ctx)
			}
			quiet = true
		}
	}
}

// news is closed when a relay has said something new; nil where none is asked.
func (k *Keeper) news() <-chan struct{} {
	if k.o.Relays == nil {
		return nil
	}
	return k.o.Relays.Watch()
}

// round does all that there is to do.
func (k *Keeper) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roundFor)
	defer cancel()
	began := k.now()
	k.writes, k.questions = maxWrites, maxQuestions
	list, err := k.o.Forge.Recent(ctx, began.Add(-lookBack))
	k.failed = err
	if err == nil {
		k.tendAll(ctx, list)
		k.ownRequests(ctx, list)
	}
	k.state(ctx, "forge", k.failed)
	k.metrics.rounds.Observe(k.now().Sub(began).Seconds())
}

// light brings what relays say of merged requests up to date, without asking the
// forge anything.
func (k *Keeper) light(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roundFor)
	defer cancel()
	k.writes, k.questions = maxWrites, maxQuestions
	for _, n := range k.newestFirst() {
		t := k.requests[n]
		r, known := k.o.Book.Get(n)
		if t.request.State == forge.Open && k.proved(&r) || t.request.State == forge.Merged && known && !k.everywhere(r) {
			k.tend(ctx, t, true)
		}
	}
}

// may reports whether something may still be written in this round, and counts it.
func (k *Keeper) may(what string) bool {
	if k.writes <= 0 {
		k.Wake()
		return false
	}
	k.writes--
	k.metrics.writes.WithLabelValues(what).Inc()
	return true
}

// state notes how a part does, and tells changes of it once. What says the same
// again, in other words, is not told again for as long as it lasts.
func (k *Keeper) state(ctx context.Context, part string, err error) {
	if ctx.Err() != nil && err != nil {
		return // it ends, which is nobody's fault
	}
	k.mu.Lock()
	was, bad := k.trouble[part]
	if err == nil {
		delete(k.trouble, part)
	} else {
		k.trouble[part] = err.Error()
	}
	k.mu.Unlock()
	down := 0.0
	switch {
	case err != nil:
		if down = 1; !bad {
			k.log.Warn("the reporter cannot do its part, and goes on with the rest", "event", "keeper.down", "part", part, "err", err)
		}
	case bad:
		k.log.Info("the reporter can do its part again", "event", "keeper.up", "part", part, "before", was)
	}
	k.metrics.down.WithLabelValues(part).Set(down)
}

// missed notes that the forge did not do something for a request. What concerns
// that one alone, such as rubbish in its discussion, is told once and leaves the
// forge as it is.
func (k *Keeper) missed(ctx context.Context, number int, err error) {
	part := "request " + itoa(number)
	k.mu.Lock()
	_, told := k.trouble[part]
	k.mu.Unlock()
	alone := errors.Is(err, forge.ErrIncomplete) || errors.Is(err, forge.ErrTooMuch) || errors.Is(err, forge.ErrConflict) || errors.Is(err, forge.ErrNotFound)
	switch {
	case err == nil && !told || ctx.Err() != nil:
		return
	case err == nil:
		k.mu.Lock()
		delete(k.trouble, part)
		k.mu.Unlock()
	case !alone:
		if k.failed == nil {
			k.failed = err
		}
	case !told:
		k.mu.Lock()
		k.trouble[part] = err.Error()
		k.mu.Unlock()
		k.log.Warn("the reporter cannot do its part for a request, and goes on with the rest", "event", "keeper.stuck", "request", number, "err", err)
	}
}

// Trouble is what is wrong now, by part: forge, register, mail, book, or "request 12".
func (k *Keeper) Trouble() map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[string]string, len(k.trouble))
	for part, text := range k.trouble {
		out[part] = text
	}
	return out
}

// update changes the book. A book that cannot be written is a part that is down,
// and whatever depends on it does not happen.
func (k *Keeper) update(ctx context.Context, number int, change func(*book.Request)) (book.Request, bool) {
	r, err := k.o.Book.Update(number, change)
	k.state(ctx, "book", err)
	if err == nil && k.o.AfterBookWrite != nil {
		k.o.AfterBookWrite()
	}
	return r, err == nil
}

// page is where a request's page is.
func (k *Keeper) page(number int) string { return k.o.URL + "/requests/" + itoa(number) }
