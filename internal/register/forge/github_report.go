package forge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/go-github/v60/github"

	"example.edu/gatepost/internal/register/registration"
)

// A Conclusion is what a check says in a word.
type Conclusion string

// The conclusions.
const (
	Success        Conclusion = "success"
	Failure        Conclusion = "failure"
	Neutral        Conclusion = "neutral"
	ActionRequired Conclusion = "action_required" // somebody must do something before it can be judged
	Pending        Conclusion = "pending"         // of a status alone: not yet
)

// A Report is what a check found in one commit.
type Report struct {
	Commit     string
	Name       string // the check's; what a ruleset requires
	Run        int64  // that BeginCheck began; 0 makes a new one
	Conclusion Conclusion
	Title      string
	Summary    string // Markdown; the caller escapes what is not its own
	URL        string // where more is told; may be ""
	Problems   []registration.Problem
}

const (
	annotationsACall = 50     // GitHub takes no more
	maxAnnotations   = 1000   // the rest is counted in the summary
	maxSummary       = 60_000 // bytes; GitHub takes 65,535 characters
	maxComment       = 60_000
	maxComments      = 3000 // read to find one's own
	maxStatus        = 140  // characters
)

// BeginCheck says on a commit that a check of it is under way. From then on an
// older run of that name counts for nothing, and until ReportCheck is given this
// one's number, the check has not passed. The error is ErrRefused for anybody but
// an App or a workflow.
func (g *GitHub) BeginCheck(ctx context.Context, commit, name, url string) (run int64, err error) {
	if !isCommit(commit) || name == "" {
		return 0, fmt.Errorf("forge: beginning a check: %w: no commit or name", ErrInvalid)
	}
	var made *github.CheckRun
	err = g.write(ctx, "beginning a check", func(ctx context.Context) (resp *github.Response, err error) {
		o := github.CreateCheckRunOptions{Name: name, HeadSHA: commit, Status: github.String("in_progress")}
		if url != "" {
			o.DetailsURL = &url
		}
		made, resp, err = g.client.Checks.CreateCheckRun(ctx, g.owner, g.name, o)
		return resp, err
	})
	if err == nil && made.GetID() == 0 {
		err = fmt.Errorf("forge: beginning a check: %w", ErrIncomplete)
	}
	return made.GetID(), err
}

// ReportCheck writes one check run with its annotations, the first fifty with
// the run and the rest by updates. The run is concluded with the last of them:
// one that broke off never counts as passed. Only an App, or a workflow's token,
// may do this; the error is ErrRefused for anybody else (see ReportStatus).
func (g *GitHub) ReportCheck(ctx context.Context, r Report) error {
	if !isCommit(r.Commit) || r.Name == "" || r.Conclusion == "" {
		return fmt.Errorf("forge: reporting a check: %w: no commit, name or conclusion", ErrInvalid)
	}
	notes := annotations(r.Problems[:min(len(r.Problems), maxAnnotations)])
	summary := clip(r.Summary, maxSummary)
	if more := len(r.Problems) - len(notes); more > 0 {
		summary += fmt.Sprintf("\n\nAnd %d more.", more)
	}
	output := func(part []*github.CheckRunAnnotation) *github.CheckRunOutput {
		return &github.CheckRunOutput{Title: github.String(cmp.Or(printable(r.Title, 200), r.Name)), Summary: &summary, Annotations: part}
	}
	var parts [][]*github.CheckRunAnnotation
	for part := range slices.Chunk(notes, annotationsACall) {
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		parts = append(parts, nil)
	}
	state := func(last bool) (*string, *string) {
		if last {
			return github.String("completed"), github.String(string(r.Conclusion))
		}
		return github.String("in_progress"), nil
	}
	var details *string
	if r.URL != "" {
		details = &r.URL
	}
	id := r.Run
	if id == 0 {
		err := g.write(ctx, "reporting a check", func(ctx context.Context) (resp *github.Response, err error) {
			o := github.CreateCheckRunOptions{Name: r.Name, HeadSHA: r.Commit, DetailsURL: details, Output: output(parts[0])}
			o.Status, o.Conclusion = state(len(parts) == 1)
			run, resp, err := g.client.Checks.CreateCheckRun(ctx, g.owner, g.name, o)
			id = run.GetID()
			return resp, err
		})
		if err != nil {
			return err
		}
		parts = parts[1:]
	}
	for i, part := range parts {
		err := g.write(ctx, "reporting more of a check", func(ctx context.Context) (resp *github.Response, err error) {
			o := github.UpdateCheckRunOptions{Name: r.Name, DetailsURL: details, Output: output(part)}
			o.Status, o.Conclusion = state(i == len(parts)-1)
			_, resp, err = g.client.Checks.UpdateCheckRun(ctx, g.owner, g.name, id, o)
			return resp, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// annotations puts problems on their lines. What concerns a file as a whole
// stands on its first.
func annotations(problems []registration.Problem) []*github.CheckRunAnnotation {
	out := make([]*github.CheckRunAnnotation, len(problems))
	for i, p := range problems {
		line, level, text := max(p.Line, 1), "failure", p.Message
		if p.Severity == registration.Warning {
			level = "warning"
		}
		if p.Hint != "" {
			text += "\nhint: " + p.Hint
		}
		out[i] = &github.CheckRunAnnotation{
			Path: github.String(p.File), StartLine: &line, EndLine: &line, AnnotationLevel: &level,
			Title: github.String(string(p.Rule)), Message: github.String(clip(text, 10_000)),
		}
		if p.Column > 0 && p.Line > 0 {
			out[i].StartColumn, out[i].EndColumn = &problems[i].Column, &problems[i].Column
		}
	}
	return out
}

// ReportStatus writes a commit status: one line, which any token that may
// write can do.
func (g *GitHub) ReportStatus(ctx context.Context, r Report) error {
	if !isCommit(r.Commit) || r.Name == "" {
		return fmt.Errorf("forge: reporting a status: %w: no commit or name", ErrInvalid)
	}
	state, ok := map[Conclusion]string{Success: "success", Neutral: "success", Failure: "failure", ActionRequired: "failure", Pending: "pending"}[r.Conclusion]
	if !ok {
		return fmt.Errorf("forge: reporting a status: %w: conclusion %q", ErrInvalid, r.Conclusion)
	}
	status := &github.RepoStatus{State: &state, Context: &r.Name, Description: github.String(printable(r.Title, maxStatus))}
	if r.URL != "" {
		status.TargetURL = &r.URL
	}
	return g.write(ctx, "reporting a status", func(ctx context.Context) (*github.Response, error) {
		_, resp, err := g.client.Repositories.CreateStatus(ctx, g.owner, g.name, r.Commit, status)
		return resp, err
	})
}

// SetComment keeps one comment on a request: written once, edited in place,
// gone when body is "". It is known by a mark that nobody sees, and by the
// number of the account that wrote it: what others write with that mark is
// theirs.
func (g *GitHub) SetComment(ctx context.Context, number int, mark, body string) error {
	if slug(mark) != mark {
		return fmt.Errorf("forge: commenting: %w: mark %q", ErrInvalid, mark)
	}
	self, err := g.account(ctx)
	if err != nil {
		return err
	}
	mine, err := g.comments(ctx, number, self, sign(mark))
	if err != nil {
		return err
	}
	text := sign(mark) + "\n" + clip(body, maxComment)
	keep := 1
	switch {
	case body == "":
		keep = 0
	case len(mine) == 0:
		return g.write(ctx, "commenting", func(ctx context.Context) (*github.Response, error) {
			_, resp, err := g.client.Issues.CreateComment(ctx, g.owner, g.name, number, &github.IssueComment{Body: &text})
			return resp, err
		})
	case mine[0].GetBody() != text:
		err := g.write(ctx, "editing a comment", func(ctx context.Context) (*github.Response, error) {
			_, resp, err := g.client.Issues.EditComment(ctx, g.owner, g.name, mine[0].GetID(), &github.IssueComment{Body: &text})
			return resp, err
		})
		if err != nil {
			return err
		}
	}
	for _, c := range mine[min(keep, len(mine)):] { // two runs at a time may have left two
		err := g.write(ctx, "deleting a comment", func(ctx context.Context) (*github.Response, error) {
			return g.client.Issues.DeleteComment(ctx, g.owner, g.name, c.GetID())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// comments lists one's own comments with a sign, oldest first.
func (g *GitHub) comments(ctx context.Context, number int, self int64, sign string) ([]*github.IssueComment, error) {
	var mine []*github.IssueComment
	err := g.pages(ctx, "reading comments", maxComments/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.Issues.ListComments(ctx, g.owner, g.name, number, &github.IssueListCommentsOptions{ListOptions: o})
		for _, c := range page {
			if c.GetUser().GetID() == self && strings.HasPrefix(c.GetBody(), sign) {
				mine = append(mine, c)
			}
		}
		return resp, err
	})
	return mine, err
}

// account is the number of one's own account. It is asked for once, and again
// as long as that fails.
func (g *GitHub) account(ctx context.Context) (int64, error) {
	if self := g.self.Load(); self != 0 {
		return self, nil
	}
	ask := g.Self
	if g.whoAmI != nil {
		ask = g.whoAmI
	}
	who, err := ask(ctx)
	if err == nil {
		g.self.Store(who.ID)
	}
	return who.ID, err
}

// Me is the account that this client writes as: a person's, or an App's. Its login
// may be left out.
func (g *GitHub) Me(ctx context.Context) (Account, error) {
	id, err := g.account(ctx)
	return Account{ID: id}, err
}

// Self is the account that a person's token stands for.
func (g *GitHub) Self(ctx context.Context) (Account, error) {
	var u *github.User
	err := g.read(ctx, "asking whose the token is", func(ctx context.Context) (resp *github.Response, err error) {
		u, resp, err = g.client.Users.Get(ctx, "")
		return resp, err
	})
	if err == nil && u.GetID() == 0 {
		err = fmt.Errorf("forge: asking whose the token is: %w", ErrIncomplete)
	}
	return Account{ID: u.GetID(), Login: u.GetLogin()}, err
}

// clip cuts a text of several lines to a number of bytes, and says so.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "\n… (cut)"
}
