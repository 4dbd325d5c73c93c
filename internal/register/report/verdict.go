package report

import (
	"fmt"
	"strings"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A verdict is what is said of one subject. Its texts are Markdown, and safe.
type verdict struct {
	conclusion forge.Conclusion
	title      string // plain, and none of it from a stranger
	lead       string
	problems   []registration.Problem
	plan       *review.Plan // nil where there is none
	seen       *review.Witnesses
	moot       bool // there is nothing to tell the request
}

// text is the comment, and the check's summary.
func (v verdict) text() string { return review.Comment(v.lead, v.problems, v.plan, v.seen) }

// rulesChange is said where a request changes the site's rules.
const rulesChange = "It changes the site's own rules (`" + review.SitePath + "`). Those are not judged here, and count from the merge on: try them with `gatepost check` in a checkout."

// moot is said of what does not touch the register.
func moot(site bool) verdict {
	v := verdict{conclusion: forge.Success, title: "nothing of the register changes", lead: "This changes nothing of the register.", moot: true}
	if site {
		v.title, v.lead, v.moot = "the site's rules change", "This changes no registration. "+rulesChange, false
	}
	return v
}

// doubted is said of what cannot be judged.
func doubted(d doubt) verdict {
	return verdict{conclusion: forge.Failure, title: d.title, lead: "**It cannot be judged:** " + d.title + ".\n\n" + d.text}
}

// newVerdict weighs what was found.
func newVerdict(problems []registration.Problem, plan *review.Plan, seen *review.Witnesses, unread []registration.Team, site bool) verdict {
	v := verdict{problems: problems, plan: plan, seen: seen}
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
		v.conclusion, v.title = forge.Failure, review.Count(errors, "error", "errors")+also
		v.lead = fmt.Sprintf("**%s.** Each stands on its line under “Files changed”; `registrations/README.md` explains the rules. Push to the same branch to mend it, and this comment follows.", v.title)
	case len(unread) > 0:
		v.conclusion, v.title = forge.ActionRequired, "it is not known whether the author speaks for the department"
		v.lead = "**Somebody must act before this can be judged.**"
	default:
		v.conclusion, v.title = forge.Success, "no errors"+also+": "+plan.Summary()
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
