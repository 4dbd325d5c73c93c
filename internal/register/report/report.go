// Package report tells a request what is wrong with it and what merging it would
// do. Run is the workflow's: one check at GitHub on a request's head, with
// annotations, and one comment. It is the half that may write, and takes from
// whoever calls it no more than the name of a commit. The portal asks for the
// verdict alone (Judging), at GitHub or in a plain git repository, and writes the
// comment itself, with what it knows besides (Told).
//
// It owns the way from the name of a commit to a verdict: which open requests
// stand there, what they change, read over the API and held against git's own
// names, what the base is that they are judged by, who the author is, and what is
// said when any of it is in doubt. The judgement itself is package review's.
//
// Invariants:
//   - The base is the branch's tip as GitHub has it, read from a repository on
//     this disk; its rules, its departments and its speakers count, never the
//     request's.
//   - What is judged is what merging would make. Where that, or the author's
//     authority, is not certain, the check does not pass, and says why.
//   - A check is begun before anything is judged, so that none stays passed from
//     an earlier judgement, and passes only with its last word.
package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// CheckName is what the check is called, and what a ruleset requires.
const CheckName = "gatepost"

// Mark tells the comment from others of the same account.
const Mark = "register"

// concludeFor bounds how long it may take to say that a check came to nothing.
const concludeFor = time.Minute

// ErrStale says that the repository on this disk lacks the branch's tip.
var ErrStale = errors.New("this clone lacks the newest commit of the branch")

// Options say where to report, and by what to judge. GitHub, Repo, Branch and
// Now must be set.
type Options struct {
	GitHub *forge.GitHub
	Repo   *gitsync.Repo // has the branch with its history
	Branch string        // the one that the relay follows; requests into others are not judged
	URL    string        // where the log of this run is; may be ""
	Now    func() time.Time

	// Evidence asks the world about what a request adds; nil asks nobody.
	Evidence func(ctx context.Context, was, is *policy.Snapshot) (*review.Witnesses, error)
	Counter  *review.Counter // of files; may be nil

	// NoComment leaves the comment to somebody else: it has one owner, and where a
	// portal runs that is the portal, which knows more to tell.
	NoComment bool
}

func (o Options) judging() Judging {
	return Judging{Forge: GitHub(o.GitHub), Repo: o.Repo, Branch: o.Branch, Now: o.Now, Evidence: o.Evidence, Counter: o.Counter}
}

// An Outcome is what became of one run.
type Outcome struct {
	Conclusion forge.Conclusion // of the check; "" if there was nothing to report on
	Lines      []string         // what was done, for a log; texts of strangers in them are not made safe
}

// Run reports on whatever stands at head, the full hash of a commit: the open
// requests into the branch whose head it is, or a group of the merge queue. When
// nothing does, a newer run will report, or none is needed, and nothing is
// written.
//
// An error means that the forge or this machine is to blame, and not the
// request. The check does not pass then.
func Run(ctx context.Context, o Options, head string) (Outcome, error) {
	subjects, lines, err := o.subjects(ctx, head)
	if err != nil || len(subjects) == 0 {
		return Outcome{Lines: lines}, err
	}
	run, err := o.GitHub.BeginCheck(ctx, head, CheckName, o.URL)
	if err != nil {
		return Outcome{Lines: lines}, err
	}
	verdicts, err := o.judging().judge(ctx, head, subjects)
	if err != nil {
		o.giveUp(ctx, head, run)
		return Outcome{Lines: lines}, err
	}
	report := o.summarise(subjects, verdicts)
	report.Commit, report.Run = head, run
	if err := o.GitHub.ReportCheck(ctx, report); err != nil {
		return Outcome{Lines: lines}, err
	}
	out := Outcome{Conclusion: report.Conclusion, Lines: lines}
	for i, s := range subjects {
		out.Lines = append(out.Lines, fmt.Sprintf("%s: %s: %s", s.name(), verdicts[i].Conclusion, verdicts[i].Title))
		said, err := o.comment(ctx, head, s, verdicts[i])
		if err != nil {
			return out, err
		}
		if said != "" {
			out.Lines = append(out.Lines, fmt.Sprintf("%s: %s", s.name(), said))
		}
	}
	return out, nil
}

// A subject is what stands at a head: a request, or a group of the merge queue.
type subject struct {
	request *forge.Request // nil for a group
}

func (s subject) name() string {
	if s.request == nil {
		return "merge queue"
	}
	return fmt.Sprintf("pull request %d", s.request.Number)
}

// subjects finds what stands at head.
func (o Options) subjects(ctx context.Context, head string) ([]subject, []string, error) {
	requests, err := o.GitHub.OpenAt(ctx, head)
	if err != nil {
		return nil, nil, err
	}
	var found []subject
	var lines []string
	for _, r := range requests {
		if r.Base != o.Branch {
			lines = append(lines, fmt.Sprintf("pull request %d goes into %s, and the register is on %s: not judged", r.Number, r.Base, o.Branch))
			continue
		}
		found = append(found, subject{&r})
	}
	if len(requests) > 0 {
		return found, lines, nil
	}
	queued, err := o.GitHub.Queued(ctx, o.Branch, head)
	if err != nil {
		return nil, nil, err
	}
	if queued {
		return []subject{{}}, nil, nil
	}
	return nil, []string{fmt.Sprintf("no open pull request stands at %s: it was closed or merged, or has a newer head, whose own run reports", head)}, nil
}

// giveUp says that a check came to nothing, if the forge can be told. If not,
// it stays under way, and has not passed either.
func (o Options) giveUp(ctx context.Context, head string, run int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), concludeFor)
	defer cancel()
	// The caller has the error that matters.
	_ = o.GitHub.ReportCheck(ctx, forge.Report{
		Commit: head, Run: run, Name: CheckName, URL: o.URL, Conclusion: forge.Failure, Title: "could not be judged now",
		Summary: "The forge or the machine that judges did not do its part, so nothing is known of this request. Run the workflow again; if it stays like this, a maintainer finds the reason in its log.",
	})
}

// summarise makes one check of the verdicts on one commit: the worst counts, as
// what stands at a commit is merged by it, whoever asks.
func (o Options) summarise(subjects []subject, verdicts []Verdict) forge.Report {
	report := forge.Report{Name: CheckName, URL: o.URL, Conclusion: forge.Success}
	var parts []string
	for i, v := range verdicts {
		if severity(v.Conclusion) > severity(report.Conclusion) || i == 0 {
			report.Conclusion, report.Title = v.Conclusion, v.Title
		}
		for _, p := range v.Problems {
			if !slices.Contains(report.Problems, p) {
				report.Problems = append(report.Problems, p)
			}
		}
		text := v.text()
		if len(verdicts) > 1 {
			text = fmt.Sprintf("## %s\n\n%s", subjects[i].name(), text)
		}
		parts = append(parts, text)
	}
	slices.SortStableFunc(report.Problems, func(a, b registration.Problem) int { // those beyond the bound are warnings, if any
		return rank(a) - rank(b)
	})
	report.Summary = strings.Join(parts, "\n\n")
	return report
}

func rank(p registration.Problem) int {
	if p.Severity == registration.Warning {
		return 1
	}
	return 0
}

func severity(c forge.Conclusion) int {
	return slices.Index([]forge.Conclusion{forge.Success, forge.ActionRequired, forge.Failure}, c)
}

// comment brings the one comment up to date, or takes it away where there is
// nothing to say. A request that has moved on is left to its newer run.
func (o Options) comment(ctx context.Context, head string, s subject, v Verdict) (string, error) {
	if s.request == nil || o.NoComment {
		return "", nil
	}
	now, err := o.GitHub.Get(ctx, s.request.Number)
	if err != nil {
		return "", err
	}
	if now.Head != head || now.State != forge.Open || now.Base != o.Branch {
		return "it has moved on meanwhile: no comment; a newer run reports", nil
	}
	return "", o.GitHub.SetComment(ctx, s.request.Number, Mark, v.Comment(Told{}))
}
