package approval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
)

// Requests tells of pull requests. *forge.GitHub does.
type Requests interface {
	ForCommit(ctx context.Context, commit string) ([]forge.Request, error)
	Get(ctx context.Context, number int) (forge.Request, error)
	Authors(context.Context, forge.Request) ([]forge.Account, error)
}

// Approvers tells who approves of what, and who may. *forge.GitHub does.
type Approvers interface {
	Approvals(context.Context, forge.Request) ([]forge.Account, error)
	Team(ctx context.Context, slug string) (forge.Team, error)
}

var (
	_ Requests  = (*forge.GitHub)(nil)
	_ Approvers = (*forge.GitHub)(nil)
)

// Bounds of asking.
const (
	maxClaims   = 5               // requests that say they were merged as one commit
	teamFor     = 5 * time.Minute // that a team's members are remembered
	downFor     = 20 * time.Second
	limitedFor  = 2 * time.Minute
	maxRemember = 1000 // commits that were approved of, in memory
)

// ReviewOptions are all required but Now.
type ReviewOptions struct {
	Repository string // as it is configured; for Policy
	Branch     string // that requests must have been merged into
	Team       string // slug of the postmasters' team, in the organisation of the repository
	Requests   Requests
	Approvers  Approvers
	Contents   Contents
	Files      Files
	Now        func() time.Time
}

// Reviews vouches for commits by the reviews of the requests that they came
// with. It is not safe for concurrent use.
type Reviews struct {
	o      ReviewOptions
	team   forge.Team
	teamAt time.Time
	down   string    // why the forge is not asked just now
	until  time.Time // that it is not
	known  map[gitsync.Hash]Verdict
}

// NewReviews makes a Reviews. It asks nothing yet.
func NewReviews(o ReviewOptions) (*Reviews, error) {
	if o.Branch == "" || o.Team == "" || o.Requests == nil || o.Approvers == nil || o.Contents == nil || o.Files == nil {
		return nil, errors.New("approval: reviews need a branch, a team, a forge and git")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reviews{o: o, known: make(map[gitsync.Hash]Verdict)}, nil
}

// Policy names what is gone by.
func (r *Reviews) Policy() string {
	return fmt.Sprintf("reviews of team %s, %s branch %s", r.o.Team, r.o.Repository, r.o.Branch)
}

// A claim is a request that says it was merged as the commit.
type claim struct {
	request   forge.Request
	approvals []forge.Account // at the head that was merged, with their last word
	authors   []forge.Account // of its commits
}

// check judges one commit, whose first parent is what the branch stood at.
func (r *Reviews) check(ctx context.Context, commit gitsync.Hash, parents []gitsync.Hash) (Verdict, error) {
	if v, ok := r.known[commit]; ok { // what it goes by does not change while the program runs
		return v, nil
	}
	if r.o.Now().Before(r.until) {
		return unknown("%s", r.down), nil
	}
	claims, v, err := r.claims(ctx, commit)
	if err == nil && v.Why == "" {
		if err = r.refreshTeam(ctx); err == nil {
			v, err = r.decide(ctx, commit, parents, claims)
		}
	}
	if err != nil {
		return r.failed(ctx, err)
	}
	if v.Standing == Vouched {
		if len(r.known) >= maxRemember {
			clear(r.known)
		}
		r.known[commit] = v
	}
	return v, nil
}

// failed makes a verdict of an error: what git here cannot read is none, and
// the forge is left alone for a while if it does not answer.
func (r *Reviews) failed(ctx context.Context, err error) (Verdict, error) {
	if errors.Is(err, gitsync.ErrDamaged) || errors.Is(err, gitsync.ErrDisk) || ctx.Err() != nil {
		return Verdict{}, err
	}
	why := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "forge: "), "gitsync: ")
	switch {
	case errors.Is(err, forge.ErrLimited):
		r.down, r.until = why, r.o.Now().Add(limitedFor)
	case errors.Is(err, forge.ErrUnreachable), errors.Is(err, forge.ErrRefused), errors.Is(err, gitsync.ErrUnreachable):
		r.down, r.until = why, r.o.Now().Add(downFor)
	}
	return unknown("%s", why), nil
}

// claims reads the requests that were merged as a commit into the branch. v
// says why there is none.
func (r *Reviews) claims(ctx context.Context, commit gitsync.Hash) (out []claim, v Verdict, err error) {
	list, err := r.o.Requests.ForCommit(ctx, commit.String())
	if err != nil {
		return nil, v, err
	}
	var numbers []int
	elsewhere := ""
	for _, q := range list {
		switch {
		case q.State != forge.Merged || q.MergedAs != commit.String():
		case q.Base != r.o.Branch:
			elsewhere = fmt.Sprintf("pull request %d was merged as it, but into the branch %s", q.Number, q.Base)
		default:
			numbers = append(numbers, q.Number)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	switch {
	case len(numbers) == 0 && elsewhere != "":
		return nil, refused("%s", elsewhere), nil
	case len(numbers) == 0:
		return nil, refused("no pull request was merged as it: it was pushed, or is one of several commits of a rebase"), nil
	case len(numbers) > maxClaims:
		return nil, refused("%d pull requests say that they were merged as it", len(numbers)), nil
	}
	for _, n := range numbers {
		// A request's number is of this repository, whatever the list holds.
		q, err := r.o.Requests.Get(ctx, n)
		if err != nil {
			return nil, v, err
		}
		if q.State != forge.Merged || q.MergedAs != commit.String() || q.Base != r.o.Branch {
			continue
		}
		c := claim{request: q}
		if c.authors, err = r.o.Requests.Authors(ctx, q); err != nil {
			return nil, v, err
		}
		if c.approvals, err = r.o.Approvers.Approvals(ctx, q); err != nil {
			return nil, v, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, refused("the pull request that was merged as it is none of this repository"), nil
	}
	return out, v, nil
}

// refreshTeam reads who the postmasters are, now and then.
func (r *Reviews) refreshTeam(ctx context.Context) error {
	if now := r.o.Now(); r.teamAt.IsZero() || now.Sub(r.teamAt) >= teamFor || now.Before(r.teamAt) {
		team, err := r.o.Approvers.Team(ctx, r.o.Team)
		if err != nil {
			return err
		}
		r.team, r.teamAt = team, now
	}
	return nil
}

// decide finds a claim that somebody who may approves of and that the commit
// is.
func (r *Reviews) decide(ctx context.Context, commit gitsync.Hash, parents []gitsync.Hash, claims []claim) (Verdict, error) {
	why := ""
	for i := range claims {
		by, odd := approver(r.team, claims, i)
		if odd == "" {
			var err error
			if odd, err = r.matches(ctx, commit, parents, claims[i].request); err != nil {
				return Verdict{}, err
			}
		}
		number := claims[i].request.Number
		if odd == "" {
			return Verdict{Vouched, clean(fmt.Sprintf("pull request %d, approved by %s (%d)", number, by.Login, by.ID))}, nil
		}
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("pull request %d: %s", number, odd)
	}
	return refused("%s", why), nil
}

// approver is who of the team approves of a claim and wrote nothing of it. Whose
// request another claim to the same commit is, is taken for one of its authors:
// else two requests of one branch would do for one.
func approver(team forge.Team, claims []claim, i int) (who forge.Account, odd string) {
	wrote := map[int64]bool{}
	for _, c := range claims {
		wrote[c.request.Author.ID] = true
		for _, a := range c.authors {
			wrote[a.ID] = true
		}
	}
	c := claims[i]
	var others []string
	for _, a := range c.approvals {
		switch {
		case !team.Has(a.ID):
			others = append(others, a.Login+", who is not in team "+team.Slug)
		case wrote[a.ID]:
			others = append(others, a.Login+", who wrote some of it")
		default:
			return a, ""
		}
	}
	if len(others) > 0 {
		return who, fmt.Sprintf("its head %.12s is approved by %s", c.request.Head, strings.Join(others, " and by "))
	}
	return who, fmt.Sprintf("nobody approves of its head %.12s, as a request into this branch, with their last word", c.request.Head)
}

// matches says why a commit is not what a request brings; "" if it is. A merge
// has the request's head as its second parent; a squash, a rebase of one commit
// and a push of the head itself have none.
func (r *Reviews) matches(ctx context.Context, commit gitsync.Hash, parents []gitsync.Hash, q forge.Request) (odd string, err error) {
	head, err := gitsync.ParseHash(q.Head)
	if err != nil {
		return "", err
	}
	switch len(parents) {
	case 1:
		if head == commit {
			break
		}
		if err := r.o.Contents.FetchRequest(ctx, q.Number, head); err != nil {
			return "", err
		}
	case 2:
		if parents[1] != head {
			return fmt.Sprintf("it merges %.12s, and not the request's head %.12s", parents[1], head), nil
		}
	default:
		return "it merges more than one branch", nil
	}
	return brings(ctx, r.o.Contents, r.o.Files, parents[0], commit, head)
}
