package form

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A Judgement is what becomes of a form.
type Judgement struct {
	Findings []Finding // in the order of the form, what is about the whole first
	Path     string    // of the file; "" while the department is none
	Text     []byte    // of the file
	Plan     *review.Plan
	Made     *registration.Registration // what the file says; nil while it says nothing sound
	Was      *registration.Registration // what it said before; nil for a new one
}

// Fine reports whether the form can be sent.
func (j *Judgement) Fine() bool {
	return j.Made != nil && !slices.ContainsFunc(j.Findings, func(f Finding) bool { return !f.Warning })
}

// Edits are the change of the register that a form which is Fine makes.
func (j *Judgement) Edits() []review.Edit { return []review.Edit{{Path: j.Path, Data: j.Text}} }

// Options of Judge.
type Options struct {
	Now   time.Time
	Taken func(path string) bool // paths that open requests are going to use; nil: none
}

// Judge makes a file of a form, and has it judged as a request to the register
// would be. All that is wrong comes out at once: where one value keeps the file
// from being understood, what remains is judged with a sound value in its stead.
// The plan is there for a form that is Fine. An error is the register's own
// (review.ErrSite), and no fault of the form.
func Judge(base *review.Base, v Values, o Options) (*Judgement, error) {
	j := &judge{base: base, v: v, o: o, Judgement: &Judgement{}, amiss: map[string]bool{}}
	j.draft, j.rows = v.Draft()
	j.origin()
	path, sound := j.path()
	var places registration.Places
	j.Text, places = registration.FormatDraft(j.draft, j.head)
	change, err := base.Change([]review.Edit{{Path: path, Data: j.Text}}, o.Now)
	if err != nil {
		return nil, err
	}
	for _, p := range change.Blame(policy.Author{}) {
		j.tell(p, path, places)
	}
	if sound {
		j.Path, j.Made = path, change.File(path).Registration
	}
	if change.File(path).Registration == nil {
		if err := j.rest(path, sound); err != nil {
			return nil, err
		}
	}
	j.Findings = append(j.Findings, v.Cut...)
	if j.Fine() {
		plan := change.Plan()
		if j.Plan = &plan; plan.Empty() {
			j.add(Finding{Message: "this changes nothing: the register says the same already", Hint: "change what should be different, such as the last day"})
		}
	}
	j.sort()
	return j.Judgement, nil
}

// A judge is one run of Judge.
type judge struct {
	*Judgement
	base  *review.Base
	v     Values
	o     Options
	draft registration.Draft
	head  string          // the comment above the file, of one that was there
	rows  []int           // which of the form's rows the draft's hosts are
	amiss map[string]bool // places of the draft with an error
}

// origin looks after the file that is to be changed.
func (j *judge) origin() {
	if j.v.From == "" {
		return
	}
	f := j.base.File(j.v.From)
	switch {
	case f == nil || f.Registration == nil:
		j.add(Finding{Message: fmt.Sprintf("the registration %q, which was to be changed, is not in the register", j.v.From),
			Hint: "look your address up to see what is registered; this form would make a new registration, if you open it anew"})
		j.v.From = ""
	case j.v.Sum != sumOf(f):
		j.add(Finding{Message: "this registration has been changed since you opened the form",
			Hint: "open the form again to see how it is now; sending this one would undo the other change"})
		fallthrough
	default:
		j.Was = f.Registration
		j.head = keepRemarks(j.base, j.Was, &j.draft)
	}
}

// keepRemarks puts the comments of a file into a draft that is to replace it, and
// returns those above all.
func keepRemarks(base *review.Base, was *registration.Registration, d *registration.Draft) string {
	remarks := registration.RemarksOf(base.Text(was.Path), was)
	for i := range d.Hosts {
		if ip, err := netip.ParseAddr(d.Hosts[i].IP); err == nil {
			d.Hosts[i].Remarks = remarks.Hosts[ip]
		}
	}
	return strings.Join(remarks.Head, "\n")
}

// standIn is the department that an unsound one is judged as. It need not be
// none: nothing that is said of it is told.
const standIn = "a-department"

// path is where the file goes, and whether it can: while the department is none
// it is judged under another name.
func (j *judge) path() (path string, sound bool) {
	if j.v.From != "" {
		return j.v.From, true
	}
	department := j.draft.Department
	if sound = registration.Kind("registrations/"+department+"/x.cue") == registration.KindRegistration && !strings.Contains(department, "/"); !sound {
		department = standIn
	}
	const most = 1000 // names of one stem
	stem := stemOf(j.draft)
	for n := 1; ; n++ {
		path = fmt.Sprintf("registrations/%s/%s.cue", department, stem)
		if n > 1 {
			path = fmt.Sprintf("registrations/%s/%s-%d.cue", department, stem, n)
		}
		free := !j.base.Taken(path) && (j.o.Taken == nil || !j.o.Taken(path))
		if free || n == most {
			return path, sound
		}
	}
}

// stemOf names a file after its first machine, or else after what it is for.
func stemOf(d registration.Draft) string {
	for _, h := range d.Hosts {
		label, _, _ := strings.Cut(h.Name, ".")
		if s := slug(label); s != "" {
			return s
		}
	}
	return cmp.Or(slug(d.Purpose), "registration")
}

// slug is the small letters and digits of a text, with hyphens between them.
func slug(text string) string {
	const longest = 40
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(text) {
		switch sound := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'; {
		case !sound:
			gap = b.Len() > 0
		case b.Len() >= longest:
			return b.String()
		default:
			if gap {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(r)
		}
	}
	return b.String()
}

func (j *judge) add(f Finding) {
	if !slices.Contains(j.Findings, f) {
		j.Findings = append(j.Findings, f)
	}
}

// tell puts a problem beside its field.
func (j *judge) tell(p registration.Problem, path string, places registration.Places) {
	warning := p.Severity == registration.Warning
	if p.File != path {
		if !warning { // what stood there before is not the visitor's business
			j.add(Finding{Rule: p.Rule, Message: fmt.Sprintf("%s: %s", p.File, p.Message), Hint: p.Hint})
		}
		return
	}
	place := places[registration.Pos{Line: int32(p.Line), Column: int32(p.Column)}]
	if !warning {
		j.amiss[place] = true
	}
	f := Finding{Field: j.field(place), Rule: p.Rule, Message: p.Message, Hint: p.Hint, Warning: warning}
	switch name, empty := j.empty(place); {
	case p.Rule == registration.RuleAccept:
		f.Message = "this is a condition, and it is not ticked"
	case empty && p.Rule == registration.RuleSchema, empty && p.Rule == registration.RuleBadIP:
		f.Message = name + " is empty" // whatever type it should have
	}
	f.Hint = inAForm(f)
	j.add(f)
}

// empty reports whether nothing was filled in at a place, and what it is called
// in a file.
func (j *judge) empty(place string) (name string, empty bool) {
	name = place[strings.LastIndexByte(place, '.')+1:]
	value, known := map[string]string{
		"department": j.draft.Department, "contact.name": j.draft.ContactName, "contact.email": j.draft.ContactEmail,
		"purpose": j.draft.Purpose, "whyNoAuth": j.draft.WhyNoAuth, "volume.perHour": j.draft.PerHour, "volume.perDay": j.draft.PerDay, "expires": j.draft.Expires,
	}[place]
	rest, ok := strings.CutPrefix(place, "hosts")
	switch {
	case known:
		return name, value == ""
	case !ok:
		return name, false
	case rest == "" && len(j.rows) == 0:
		return "ip", true
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(rest, "."), ".")
	host, err := strconv.Atoi(number)
	if err != nil || host >= len(j.rows) {
		return name, false
	}
	row := j.v.Hosts[j.rows[host]]
	value, known = map[string]string{"ip": row.IP, "name": row.Name, "kind": row.Kind}[name]
	return name, known && strings.TrimSpace(value) == ""
}

// field is that of a place in the file; "" if it is none.
func (j *judge) field(place string) string {
	if strings.HasPrefix(place, "senders.") {
		return FieldSenders
	}
	rest, ok := strings.CutPrefix(place, "hosts")
	if !ok {
		return fieldOf[place]
	}
	number, name, _ := strings.Cut(strings.TrimPrefix(rest, "."), ".")
	host, _ := strconv.Atoi(number) // of the machines as such, the first
	row := 0
	if host < len(j.rows) {
		row = j.rows[host]
	}
	return RowField(row, cmp.Or(rowFieldOf[name], RowIP))
}

var fieldOf = map[string]string{ // read only
	"department": FieldDepartment, "contact": FieldContactName, "contact.name": FieldContactName, "contact.email": FieldContactEmail,
	"purpose": FieldPurpose, "whyNoAuth": FieldWhyNoAuth, "bounces": FieldBounces,
	"volume": FieldPerHour, "volume.perHour": FieldPerHour, "volume.perDay": FieldPerDay, "expires": FieldExpires,
	"accept": FieldAcceptPolicies, "accept.policies": FieldAcceptPolicies, "accept.notBulk": FieldAcceptNotBulk,
	"accept.notWorkstation": FieldAcceptNotDesktop, "accept.noMailServer": FieldAcceptNoServer,
	"senders": FieldSenders,
}

var rowFieldOf = map[string]string{ // read only
	"name": RowName, "kind": RowKind, "device": RowTLS, "device.bareLF": RowBareLF, "device.tls": RowTLS,
	"device.commands": RowCommands, "device.addHeaders": RowAddHeaders,
}

// inAForm is the hint for somebody who fills in a form, where the register's own
// tells how to edit a file.
func inAForm(f Finding) string {
	switch {
	case f.Rule == registration.RuleAccept && f.Field == FieldAcceptPolicies:
		return "the relay is only for those who accept the university's IT policies; read them, then tick the box"
	case f.Rule == registration.RuleAccept && f.Field == FieldAcceptNotBulk:
		return "the relay is not for bulk mail; ask the postmaster for the service that is"
	case f.Rule == registration.RuleAccept && f.Field == FieldAcceptNotDesktop:
		return "the relay is not for personal workstations; let the mail program there log in with SMTP AUTH"
	case f.Rule == registration.RuleAccept:
		return "switch the machine's own mail server off, or let it relay through the university's servers; then tick the box"
	case f.Field == FieldDepartment && (f.Rule == registration.RuleSchema || f.Rule == registration.RuleUnknownDepartment):
		return "choose your department from the list; if it is not there, write to the postmaster"
	case f.Rule == registration.RulePath:
		return "a registration stays with its department: remove it there, and register the machines anew"
	case f.Rule == registration.RuleIPDuplicate && strings.Contains(f.Message, "in this file already"):
		return "remove one of the two"
	}
	hint := strings.TrimPrefix(f.Hint, "take the quotes away: ")
	if plain, _, example := strings.Cut(hint, " For example: "); example && plain != "" { // of a line of a file
		hint = plain
	}
	return hint
}

// rest judges what can be judged although the file makes no sense as it is: the
// values with an error are replaced, and what is said of those is not told.
func (j *judge) rest(path string, sound bool) error {
	d, rows := j.mended(sound)
	text, places := registration.FormatDraft(d, "")
	change, err := j.base.Change([]review.Edit{{Path: path, Data: text}}, j.o.Now)
	if err != nil || change.File(path).Registration == nil { // the site's rules want something else
		return err
	}
	known, was := maps.Clone(j.amiss), j.rows
	j.rows = rows
	for _, p := range change.Blame(policy.Author{}) {
		place := places[registration.Pos{Line: int32(p.Line), Column: int32(p.Column)}]
		if number, below, ok := strings.Cut(strings.TrimPrefix(place, "hosts."), "."); ok && strings.HasPrefix(place, "hosts.") {
			host, _ := strconv.Atoi(number)
			if rows[host] < 0 {
				continue
			}
			place = fmt.Sprintf("hosts.%d.%s", slices.Index(was, rows[host]), below) // as it was called in the draft
		}
		noise := p.File == path && known[place] ||
			!sound && (p.Rule == registration.RuleIPNotOwned || p.Rule == registration.RuleUnknownDepartment)
		if !noise {
			j.tell(p, path, places)
		}
	}
	return nil
}

// mended is the draft with sound values where there is an error, and which of the
// form's rows its hosts are; -1 for none.
func (j *judge) mended(sound bool) (registration.Draft, []int) {
	d := j.draft
	amiss := func(places ...string) bool {
		return slices.ContainsFunc(places, func(p string) bool { return j.amiss[p] })
	}
	set := func(to *string, value string, places ...string) {
		if amiss(places...) {
			*to = value
		}
	}
	if !sound {
		d.Department = standIn
	}
	set(&d.ContactName, "Somebody", "contact.name")
	set(&d.ContactEmail, "somebody@example.edu", "contact.email")
	set(&d.Purpose, "Something that is still to be said.", "purpose")
	set(&d.WhyNoAuth, "Something that is still to be said.", "whyNoAuth")
	set(&d.Bounces, "", "bounces")
	set(&d.Expires, j.o.Now.UTC().AddDate(0, 0, 1).Format(time.DateOnly), "expires")
	if amiss("volume", "volume.perHour", "volume.perDay") {
		d.PerHour, d.PerDay = "1", "24"
	}
	for p := range j.amiss {
		if strings.HasPrefix(p, "senders") {
			d.Senders = nil
		}
	}
	d.Accept = registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true}
	var hosts []registration.DraftHost
	var rows []int
	for i, h := range d.Hosts[:min(len(d.Hosts), MaxHosts)] {
		at := fmt.Sprintf("hosts.%d", i)
		if amiss(at, at+".ip") {
			continue
		}
		set(&h.Name, "a.example.edu", at+".name")
		set(&h.Kind, "other", at+".kind")
		set(&h.BareLF, "", at+".device", at+".device.bareLF")
		set(&h.TLS, "", at+".device", at+".device.tls")
		set(&h.Commands, "", at+".device", at+".device.commands")
		set(&h.AddHeaders, "", at+".device", at+".device.addHeaders")
		hosts, rows = append(hosts, h), append(rows, j.rows[i])
	}
	if len(hosts) == 0 {
		hosts, rows = []registration.DraftHost{{IP: "192.0.2.1", Name: "a.example.edu", Kind: "other"}}, []int{-1}
	}
	d.Hosts = hosts
	return d, rows
}

// sort puts the findings into the order of the form.
func (j *judge) sort() {
	slices.SortStableFunc(j.Findings, func(a, b Finding) int { return cmp.Compare(rank(a.Field), rank(b.Field)) })
}

// rank numbers the fields in the order of the form.
func rank(name string) int {
	if name == "" {
		return -1
	}
	order := []string{FieldDepartment, FieldContactName, FieldContactEmail, FieldPurpose, FieldWhyNoAuth}
	var row int
	var of string
	if n, _ := fmt.Sscanf(name, "host-%d-%s", &row, &of); n == 2 {
		in := slices.Index([]string{RowIP, RowName, RowKind, RowBareLF, RowTLS, RowCommands, RowAddHeaders}, of)
		return 100 + 10*row + in
	}
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	last := []string{FieldPasted, FieldSenders, FieldBounces, FieldPerHour, FieldPerDay, FieldExpires, FieldAcceptPolicies, FieldAcceptNotBulk, FieldAcceptNotDesktop, FieldAcceptNoServer, FieldComment}
	return 100 + 10*(MaxHosts+2) + slices.Index(last, name)
}
