package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A registerBody is what the page "register" shows. Templates ask it for what
// stands in a field.
type registerBody struct {
	form.Values
	Checked     bool           // somebody asked for the judgement
	Trouble     string         // why nothing could be done
	SignIn      string         // where to sign in, for somebody who is not
	Focus       string         // the field to begin in
	Known       []knownAddress // of the addresses asked for, those that are registered already
	Departments []department
	Speaks      string // in a sentence, whether the visitor speaks for the department
	Latest      string // the last day that can be chosen
	First       string // the first one

	texts     url.Values // what stands in each field
	judgement *form.Judgement
	problems  map[string][]form.Finding
}

type department struct{ ID, Name string }

// renderForm shows the form as it was typed, with what was found of it.
func (s *server) renderForm(w http.ResponseWriter, r *http.Request, status int, who session.Person, v form.Values, j *form.Judgement, p *registerBody) {
	p.Values, p.texts, p.judgement, p.problems = v, v.Encode(), j, map[string][]form.Finding{}
	p.Latest, p.First = form.Latest(s.now()), s.now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	found := v.Cut
	if j != nil {
		found = j.Findings
	}
	for _, f := range found {
		p.problems[f.Field] = append(p.problems[f.Field], f)
	}
	if now := s.register(); now != nil && who.ID != "" {
		snapshot := now.Base.Snapshot()
		p.Departments = departments(snapshot, who)
		p.Speaks = speaksWords(snapshot, who, strings.TrimSpace(v.Department))
	}
	s.pages.Render(w, r, status, "register", s.frame(w, r, p))
}

// departments are those to choose from, the visitor's own first.
func departments(snapshot *policy.Snapshot, who session.Person) []department {
	var mine, others []department
	for d := range snapshot.Departments() {
		if speaks(who, d) {
			mine = append(mine, department{d.ID, d.Name})
		} else {
			others = append(others, department{d.ID, d.Name})
		}
	}
	return append(mine, others...)
}

// speaksWords says whether somebody speaks for a department; "" where there is
// none.
func speaksWords(snapshot *policy.Snapshot, who session.Person, id string) string {
	d := snapshot.Department(id)
	switch {
	case d == nil:
		return ""
	case speaks(who, d):
		return fmt.Sprintf("%s. You speak for it.", d.Name)
	}
	return fmt.Sprintf("%s. You do not speak for it; you may ask all the same, and the request says so.", d.Name)
}

// Heading is the page's.
func (p *registerBody) Heading() string {
	if p.From != "" {
		return "Change or renew a registration"
	}
	return "Register a machine"
}

// Label is the page's title.
func (p *registerBody) Label() string {
	if n := len(p.Errors()); n > 0 && p.Checked {
		return fmt.Sprintf("%s to mend: %s", review.Count(n, "thing", "things"), p.Heading())
	}
	return p.Heading()
}

// A remark is a finding, fit for a page.
type remark struct {
	Field, Label, Message, Hint string
	Warning                     bool
}

func remarksOf(found []form.Finding) []remark {
	list := make([]remark, len(found))
	for i, f := range found {
		list[i] = remark{f.Field, labelOf(f.Field), asSentence(f.Message), asSentence(f.Hint), f.Warning}
	}
	return list
}

// labelOf is what a field is called in a list of what is wrong; "" for the
// whole.
func labelOf(field string) string {
	if label := labels[field]; label != "" {
		return label
	}
	rest, ok := strings.CutPrefix(field, "host-")
	if !ok {
		return ""
	}
	number, name, _ := strings.Cut(rest, "-")
	return "Machine " + number + ", " + labels[name]
}

var labels = map[string]string{ // read only
	form.FieldDepartment: "Department", form.FieldContactName: "Contact", form.FieldContactEmail: "Mail address",
	form.FieldPurpose: "What for", form.FieldWhyNoAuth: "Why no sign-in", form.FieldPasted: "List", form.FieldSenders: "Senders", form.FieldBounces: "Who is told",
	form.FieldPerHour: "In an hour", form.FieldPerDay: "In a day", form.FieldExpires: "Last day", form.FieldComment: "For the Postmaster team",
	form.FieldAcceptPolicies: "IT policies", form.FieldAcceptNotBulk: "No bulk mail", form.FieldAcceptNotDesktop: "No personal workstation", form.FieldAcceptNoServer: "No mail server of its own",
	form.RowIP: "address", form.RowName: "name", form.RowKind: "kind", form.RowTLS: "encryption", form.RowBareLF: "line ends", form.RowCommands: "commands", form.RowAddHeaders: "headers",
}

// Errors are the findings that keep the form from being sent.
func (p *registerBody) Errors() []remark {
	if p.judgement == nil {
		return nil
	}
	return slices.DeleteFunc(remarksOf(p.judgement.Findings), func(n remark) bool { return n.Warning })
}

// Fine reports whether the form was checked and can be sent.
func (p *registerBody) Fine() bool { return p.judgement != nil && p.judgement.Fine() }

// File is the file that the form makes, as far as it goes.
func (p *registerBody) File() string {
	if p.judgement == nil {
		return ""
	}
	return string(p.judgement.Text)
}

// Path is where the file goes.
func (p *registerBody) Path() string {
	if p.judgement == nil {
		return ""
	}
	return p.judgement.Path
}

// Plan is what merging the request does.
func (p *registerBody) Plan() []string { return planWords(p.judgement) }

// planWords are the lines of a plan, for somebody who has not seen one before.
func planWords(j *form.Judgement) []string {
	lines := []string{}
	if j == nil || j.Plan == nil {
		return lines
	}
	verbs := map[string]string{"Added": "may send", "Removed": "may send no more", "Changed": "is changed", "Blocked": "is blocked", "Unblocked": "is blocked no more"}
	for _, s := range j.Plan.Sections() {
		for _, e := range s.Entries {
			line := e.IP + " " + verbs[s.Title]
			if details := review.Detail(e); len(details) > 0 {
				line += " – " + strings.Join(details, "; ")
			}
			lines = append(lines, line)
		}
	}
	for _, c := range j.Plan.Confirmations {
		lines = append(lines, fmt.Sprintf("a confirmation for %s goes to %s", c.IP, c.To))
	}
	return lines
}

// A fieldView is one field, as a template shows it.
type fieldView struct {
	ID, Value string
	Label     string // where a template has no words of its own
	Choices   []option
	Found     []remark
	HasHint   bool
	Focus     bool
}

// Described names what describes the field.
func (f fieldView) Described() string {
	if f.HasHint {
		return f.ID + "-hint " + f.ID + "-problem"
	}
	return f.ID + "-problem"
}

// Invalid reports whether something is wrong with it.
func (f fieldView) Invalid() bool {
	return slices.ContainsFunc(f.Found, func(n remark) bool { return !n.Warning })
}

// Day reports whether the value can be shown in a field for dates, which loses
// everything else.
func (f fieldView) Day() bool {
	_, err := time.Parse(time.DateOnly, f.Value)
	return f.Value == "" || err == nil
}

// Field is one field with a hint beside it, Plain one without.
func (p *registerBody) Field(name string) fieldView {
	f := p.Plain(name)
	f.HasHint = true
	return f
}

// Plain is a field.
func (p *registerBody) Plain(name string) fieldView {
	return fieldView{ID: name, Value: p.texts.Get(name), Found: remarksOf(p.problems[name]), Focus: p.Focus == name}
}

// A rowView is one machine.
type rowView struct {
	Number         int
	IP, Name, Kind fieldView
	Leniencies     []fieldView
	Open           bool // the part for older devices
}

// Rows are the machines.
func (p *registerBody) Rows() []rowView {
	rows := make([]rowView, len(p.Hosts))
	for i := range p.Hosts {
		rows[i] = p.row(i, p.Hosts[i])
	}
	return rows
}

// Blank is a row for a script to add; its number is 0.
func (p *registerBody) Blank() rowView { return p.row(-1, form.Host{}) }

func (p *registerBody) row(i int, h form.Host) rowView {
	view := func(name, value string, choices ...option) fieldView {
		f := fieldView{ID: form.RowField(i, name), Value: value, Label: leniencyLabels[name]}
		f.Found, f.Focus = remarksOf(p.problems[f.ID]), p.Focus == f.ID
		if choices != nil {
			f.Choices = chosen(choices, value)
		}
		return f
	}
	kinds := []option{{"", "Choose…", false}}
	for _, k := range form.Kinds() {
		kinds = append(kinds, option{k, strings.ToUpper(k[:1]) + k[1:], false})
	}
	r := rowView{Number: i + 1, IP: view(form.RowIP, h.IP), Name: view(form.RowName, h.Name), Kind: view(form.RowKind, h.Kind, kinds...), Open: h.Old()}
	for _, of := range []struct{ name, value string }{
		{form.RowTLS, h.TLS}, {form.RowBareLF, h.BareLF}, {form.RowCommands, h.Commands}, {form.RowAddHeaders, h.AddHeaders},
	} {
		f := view(of.name, of.value, slices.Clone(leniencies[of.name])...)
		r.Leniencies = append(r.Leniencies, f)
		r.Open = r.Open || len(f.Found) > 0
	}
	return r
}

// A option is one of a few values.
type option struct {
	Value, Words string
	Chosen       bool
}

var leniencyLabels = map[string]string{ // read only
	form.RowTLS: "Encryption that is offered", form.RowBareLF: "Lines that end in a bare line feed",
	form.RowCommands: "SMTP commands", form.RowAddHeaders: "Missing Date and Message-ID",
}

var leniencies = map[string][]option{ // read only
	form.RowTLS:        {{"", "TLS 1.2 and newer (usual)", false}, {"legacy", "TLS 1.0 and newer", false}, {"off", "none at all", false}},
	form.RowBareLF:     {{"", "refuse the message (usual)", false}, {"fix", "repair them", false}},
	form.RowCommands:   {{"", "as the standard says (usual)", false}, {"sloppy", "as old equipment says them", false}},
	form.RowAddHeaders: {{"", "add them (usual)", false}, {"false", "leave the message as it is", false}},
}

// Bouncing is the option of who is told of mail that does not arrive.
func (p *registerBody) Bouncing() fieldView {
	f := p.Plain(form.FieldBounces)
	f.Choices = chosen([]option{{"", "the sender of the message (usual)", false}, {registration.BouncesToContact, "the contact, where the sender takes no mail", false}}, f.Value)
	return f
}

// chosen marks a value among choices, and adds it where it is none, so that what
// was sent is not lost.
func chosen(list []option, value string) []option {
	usual := slices.Contains([]string{"reject", "modern", "strict", "true", "sender"}, value)
	for i := range list {
		if list[i].Value == value || i == 0 && usual {
			list[i].Chosen = true
			return list
		}
	}
	return append(list, option{value, value, true})
}

// Volumes are the presets.
func (p *registerBody) Volumes() []volume { return volumes }

// A tick is a box to be ticked.
type tick struct {
	fieldView
	Words string
	On    bool
}

// Ticks are the conditions to accept.
func (p *registerBody) Ticks() []tick {
	return []tick{
		{p.Plain(form.FieldAcceptPolicies), "I accept the university’s IT policies.", p.Accept.Policies},
		{p.Plain(form.FieldAcceptNotBulk), "The mail is no bulk mail, such as newsletters or campaigns.", p.Accept.NotBulk},
		{p.Plain(form.FieldAcceptNotDesktop), "None of the machines is a personal workstation.", p.Accept.NotWorkstation},
		{p.Plain(form.FieldAcceptNoServer), "None of the machines runs a mail server of its own that could send by itself.", p.Accept.NoMailServer},
	}
}

// Full reports whether no row can be added.
func (p *registerBody) Full() bool { return len(p.Hosts) >= form.MaxHosts }
