package form

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// An Asker is who asks for a change, as the portal knows them.
type Asker struct {
	Name, Email string
	Speaks      bool // for the department
	Postmaster  bool
}

// A Request is a change as those who review it are told of it.
type Request struct {
	Name  string // for the branch
	Title string // one line
	Body  string // Markdown, and the text of a commit
	Edits []review.Edit
}

// Request tells of a form that is Fine.
func (j *Judgement) Request(who Asker, comment string) Request {
	r := j.Made
	title := fmt.Sprintf("Register %s for %s", machines(r.Hosts), r.Department)
	if j.Was != nil {
		title = fmt.Sprintf("Change the registration of %s of %s", machines(r.Hosts), r.Department)
		if renewal(j.Was, r) {
			title = fmt.Sprintf("Renew %s of %s until %s", machines(r.Hosts), r.Department, lastDay(r))
		}
	}
	return Request{
		Name: slug(strings.TrimSuffix(strings.TrimPrefix(j.Path, review.Folder+"/"), ".cue")), Title: title,
		Body: body(who, r.Department, comment, nil), Edits: j.Edits(),
	}
}

// machines names the first machine, and counts the others. Names of hosts have
// passed the rules: they are letters, digits, dots, hyphens and underscores.
func machines(hosts []registration.Host) string {
	if len(hosts) == 0 {
		return "nothing"
	}
	const longest = 60
	name := hosts[0].Name
	if len(name) > longest {
		name = hosts[0].IP.String()
	}
	if n := len(hosts) - 1; n > 0 {
		return fmt.Sprintf("%s and %d more", name, n)
	}
	return name
}

// renewal reports whether nothing but the last day is different.
func renewal(was, is *registration.Registration) bool {
	a, b := registration.DraftOf(was), registration.DraftOf(is)
	a.Expires, b.Expires = "", ""
	x, _ := registration.FormatDraft(a, "")
	y, _ := registration.FormatDraft(b, "")
	return !was.Expires.Equal(is.Expires) && slices.Equal(x, y)
}

func lastDay(r *registration.Registration) string { return registration.DraftOf(r).Expires }

// body is the description of a request. Its last paragraph is always the same,
// so that nothing that somebody wrote can be taken for a trailer of the commit.
func body(who Asker, department, comment string, notes []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Asked for by %s (%s), signed in to the portal, ", span(who.Name), span(who.Email))
	switch {
	case who.Speaks:
		fmt.Fprintf(&b, "who speaks for %s.\n", span(department))
	case who.Postmaster:
		fmt.Fprintf(&b, "a postmaster. They do not speak for %s.\n", span(department))
	default:
		fmt.Fprintf(&b, "who **does not speak** for %s: ask its speakers, which `registrations/campus/departments.cue` names, before you merge this.\n", span(department))
	}
	for _, n := range notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	if comment = strings.TrimSpace(comment); comment != "" {
		b.WriteString("\nThey say:\n\n" + quotation(comment))
	}
	b.WriteString("\nMade with the form of the portal, which has checked it by the rules of the register. Merging it approves it.\n")
	return b.String()
}

// span is a text on one line in which a forge finds nothing to act on.
func span(text string) string {
	if text = strings.TrimSpace(text); text == "" {
		return "`-`"
	}
	const longest = 300
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return review.NamesMarkdown([]string{inert(text)})
}

// quotation is a text as a fenced quote that cannot be left from within: each
// line begins with a mark, and the fence is longer than any in the text.
func quotation(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	var b strings.Builder
	b.WriteString("> " + fence + "text\n")
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(strings.TrimRight("> "+review.Printable(inert(line)), " ") + "\n")
	}
	b.WriteString("> " + fence + "\n")
	return b.String()
}

// What a forge acts on wherever it stands in the message of a commit, where no
// span or fence counts: mentions, and references that close something.
var (
	mention   = regexp.MustCompile(`(^|[^0-9A-Za-z])@([0-9A-Za-z])`)
	reference = regexp.MustCompile(`(?i)(#|gh-|/issues/|/pull/|/discussions/)([0-9])`)
)

// inert puts a blank into what a forge would act on.
func inert(text string) string {
	for mention.MatchString(text) {
		text = mention.ReplaceAllString(text, "$1@ $2")
	}
	return reference.ReplaceAllString(text, "$1 $2")
}
