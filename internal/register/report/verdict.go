package report

import (
	"fmt"
	"strings"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A Verdict is what is said of one request, or of a group of the merge queue.
type Verdict struct {
	Head, Base string           // the commit that was judged, and the one of the branch by which; full hashes
	Conclusion forge.Conclusion // Success, Failure or ActionRequired
	Title      string           // plain, one line, and none of it from a stranger
	Problems   []registration.Problem
	Plan       *review.Plan      // what merging it does; nil where there is none
	Seen       *review.Witnesses // nil where nobody was asked
	Moot       bool              // it changes nothing of the register

	lead string // Markdown, and safe
}

// text is the check's summary.
func (v Verdict) text() string { return Comment(v.lead, Told{}, v.Body()) }

// Comment is the one comment on a request, in Markdown; "" where there is nothing
// to say. It is safe: what comes from a register, a request or a person stands in
// code spans.
func (v Verdict) Comment(t Told) string {
	if v.Moot && t.markdown() == "" {
		return ""
	}
	return Comment(v.lead, t, v.Body())
}

// Lead is how the comment begins.
func (v Verdict) Lead() string { return v.lead }

// Body is the comment without its beginning: what is wrong, and what merging does.
func (v Verdict) Body() string {
	return strings.TrimSpace(review.Comment("", v.Problems, v.Plan, v.Seen))
}

// Comment puts a comment together again, of which the body is kept: lead and body
// are Markdown and safe.
func Comment(lead string, t Told, body string) string {
	return strings.TrimSpace(strings.TrimSpace(lead+"\n\n"+t.markdown())+"\n\n"+body) + "\n"
}

// rulesChange is said where a request changes the site's rules.
const rulesChange = "It changes the site's own rules (`" + review.SitePath + "`). Those are not judged here, and count from the merge on: try them with `gatepost check` in a checkout."

// moot is said of what does not touch the register.
func moot(site bool) Verdict {
	v := Verdict{Conclusion: forge.Success, Title: "nothing of the register changes", lead: "This changes nothing of the register.", Moot: true}
	if site {
		v.Title, v.lead, v.Moot = "the site's rules change", "This changes no registration. "+rulesChange, false
	}
	return v
}

// doubted is said of what cannot be judged.
func doubted(d doubt) Verdict {
	return Verdict{Conclusion: forge.Failure, Title: d.title, lead: "**It cannot be judged:** " + d.title + ".\n\n" + d.text}
}

// newVerdict weighs what was found.
func newVerdict(problems []registration.Problem, plan *review.Plan, seen *review.Witnesses, unread []registration.Team, site bool, where string) Verdict {
	v := Verdict{Problems: problems, Plan: plan, Seen: seen}
	errors := 0
	for _, p := range problems {
		if p.Severity != registration.Warning {
			errors++
		}
	}
	warnings := len(problems) - errors
	also := ""
	if warnings > 0 {
		also = ", " + review.Count(warnings, "warning", "warnings")
	}
	switch {
	case errors > 0:
		v.Conclusion, v.Title = forge.Failure, review.Count(errors, "error", "errors")+also
		v.lead = fmt.Sprintf("**%s.** %s`registrations/README.md` explains the rules. Push to the same branch to mend it, and this comment follows.", v.Title, where)
	case len(unread) > 0:
		v.Conclusion, v.Title = forge.ActionRequired, "it is not known whether the author speaks for the department"
		v.lead = "**Somebody must act before this can be judged.**"
	default:
		v.Conclusion, v.Title = forge.Success, "no errors"+also+": "+plan.Summary()
		v.lead = fmt.Sprintf("**Nothing to mend%s.** A postmaster reviews what follows, and merges it.", also)
	}
	if len(unread) > 0 {
		var names []string
		for _, t := range unread {
			names = append(names, t.Slug)
		}
		v.lead += fmt.Sprintf("\n\nThe author speaks for the department only as a member of a team, and this check may not see who is in it (%s). "+
			"A maintainer can let it report as an App that has the organisation permission “Members: read” (a workflow's own token never has it), "+
			"or the accounts of the speakers are named in `registrations/campus/departments.cue`.", strings.TrimSpace(review.NamesMarkdown(names)))
	}
	if site {
		v.lead += "\n\n" + rulesChange
	}
	return v
}
