package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/cli/scaffold"
)

// text is the value of a flag of one word, or of some.
type text string

func (t *text) String() string     { return string(*t) }
func (t *text) Set(s string) error { *t = text(strings.TrimSpace(s)); return nil }
func (t *text) Type() string       { return "string" }

// words is the value of a flag that may have several, with commas or blanks
// between them, and may come several times.
type words []string

func (w *words) String() string { return strings.Join(*w, " ") }
func (w *words) Type() string   { return "strings" }

// Set adds what is in s.
func (w *words) Set(s string) error {
	*w = append(*w, strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })...)
	return nil
}

// A field is one thing to be said: by its flag, by an answer, or else it is
// the standard.
type field struct {
	flag, usage string
	value       interface {
		String() string
		Set(string) error
		Type() string
	}
	question string
	standard func() string // nil: there is none
	check    func(string) error
	example  string // of the flag's value
	forge    bool   // asked only where there is one
	optional bool
}

// fields are all, in the order of the questions.
func (f *founding) fields() []field {
	always := func(s string) func() string { return func() string { return s } }
	speakers := "  who speaks for it, as LOGIN:ID (https://api.github.com/users/LOGIN shows the number), or by the mail address used in the portal"
	if f.plain { // no account is looked at
		speakers = "  who speaks for it: mail addresses that sign in to the portal, or short names such as ann to read, with blanks between"
	}
	return []field{
		{flag: "repo", usage: "the repository at GitHub, `OWNER/NAME`", value: &f.repository, forge: true,
			question: "Repository at GitHub, as OWNER/NAME", check: aRepository, example: "umich/mail-register"},
		{flag: "postmasters", usage: "the `TEAM` that approves registrations (default: postmasters)", value: &f.postmasters, forge: true,
			question: "Team that approves registrations", standard: always("postmasters"), check: aTeam, example: "postmasters"},
		{flag: "network-team", usage: "the `TEAM` that says who holds which addresses (default: network)", value: &f.network, forge: true,
			question: "Team that says which department holds which addresses", standard: always("network"), check: aTeam, example: "network"},
		{flag: "maintainers", usage: "the `TEAM` that keeps workflows and owners (default: that of --postmasters)", value: &f.maintainers, forge: true,
			question: "Team that keeps the workflows", standard: f.postmasters.String, check: aTeam, example: "mail-operators"},
		{flag: "campus", usage: "the address space: `PREFIX`,...", value: &f.campus,
			question: "The university's address space, as prefixes with blanks between", check: somePrefixes, example: "141.211.0.0/16,2607:f018::/32"},
		{flag: "department", usage: "the first department's short `NAME`", value: &f.department,
			question: "First department: its short name (such as lsa-physics)", check: aDepartment, example: "lsa-physics"},
		{flag: "department-name", usage: "its full `NAME` (default: the short one)", value: &f.departmentName,
			question: "  its full name", standard: f.department.String, optional: true, check: aName, example: "'Physics, College of LSA'"},
		{flag: "holds", usage: "the networks that it holds: `PREFIX`,... (default: to be written later)", value: &f.holds,
			question: "  the networks that it holds, or nothing for later", optional: true, check: f.heldPrefixes, example: "141.211.13.0/24"},
		{flag: "speaker", usage: "who speaks for it: `LOGIN:ID` or a mail address,...", value: &f.speakers,
			question: speakers, check: f.someSpeakers, example: "octocat:583231"},
		{flag: "mail-domain", usage: "the `DOMAIN` of its mailboxes", value: &f.domain,
			question: "  the domain of its mailboxes", check: aDomain, example: "umich.edu"},
		{flag: "gatepost", usage: "what judges requests: a `VERSION` of gatepost, or URL#sha256=HEX of a binary for Linux (default: this version)",
			value: &f.judge, forge: true, question: "What judges requests: a released version of gatepost, or the URL#sha256=HEX of a binary for Linux",
			standard: releasedVersion, check: aJudge, example: "v1.2.3"},
		{flag: "branch", usage: "the `BRANCH` that the relay reads (default: main)", value: &f.branch,
			question: "Branch that the relay reads", standard: always("main"), check: aBranch, example: "main"},
	}
}

// complete takes what the flags say, asks for the rest if there is somebody to
// ask, and holds each answer to its check.
func (f *founding) complete(ctx context.Context) error {
	q := newQuestions(ctx, f.o)
	if q != nil && !f.plain && f.repository == "" {
		atGitHub, err := q.yesOrNo("Is the register going to be at GitHub", "yes")
		if err != nil {
			return err
		}
		f.plain = !atGitHub
	}
	var missing []string
	for _, q1 := range f.fields() {
		said, standard := q1.value.String(), ""
		if q1.standard != nil {
			standard = q1.standard()
		}
		switch {
		case q1.forge && f.plain:
			if said != "" {
				return fail("--"+q1.flag+" is for a forge, and --plain is for a site without one", "leave one of the two out")
			}
			continue
		case said != "":
			if err := q1.check(said); err != nil {
				return hinted(fmt.Errorf("--%s %s: %w", q1.flag, quote(said), err), "for example: --"+q1.flag+" "+q1.example)
			}
			continue
		case q != nil:
			answer, err := q.ask(q1.question, standard, func(s string) error {
				if s == "" && q1.optional {
					return nil
				}
				return q1.check(s)
			})
			if err != nil {
				return err
			}
			standard = answer
		case standard == "" && !q1.optional:
			missing = append(missing, "--"+q1.flag)
			continue
		}
		if err := q1.value.Set(standard); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := fail("not said: "+strings.Join(missing, ", "), "at a terminal gatepost init asks for what is missing", "an example of all flags: gatepost init -h")
	if slices.Contains(missing, "--gatepost") {
		err = hinted(err, judgeHints()...)
	}
	return err
}

var (
	repositoryForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9_.-]{1,100}$`)
	teamForm       = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,99}$`)
	departmentForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	domainForm     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	branchForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_./-]{0,98}[A-Za-z0-9])?$`)
	versionForm    = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]{1,80})?$`)
	binaryForm     = regexp.MustCompile(`^https://[A-Za-z0-9._~:/?&=%+-]{1,1000}#sha256=[0-9a-f]{64}$`)
	pseudoVersion  = regexp.MustCompile(`[-.][0-9]{14}-[0-9a-f]{12}$`)
)

func aRepository(s string) error {
	if repositoryForm.MatchString(s) && !strings.HasSuffix(s, "/.") && !strings.HasSuffix(s, "/..") {
		return nil
	}
	at := strings.TrimSuffix(strings.TrimSuffix(s, "/"), ".git")
	if i := strings.LastIndex(at, "/"); i >= 0 {
		at = at[strings.LastIndexAny(at[:i], "/:")+1:]
	}
	if repositoryForm.MatchString(at) && at != s {
		return errors.New("the owner and the name alone: " + at)
	}
	return errors.New("the organisation and the repository's name, with a slash between, such as umich/mail-register")
}

func aTeam(s string) error {
	if teamForm.MatchString(s) {
		return nil
	}
	name := strings.ToLower(s[strings.LastIndex(s, "/")+1:])
	if name = strings.Trim(strings.ReplaceAll(name, " ", "-"), "@-"); teamForm.MatchString(name) {
		return errors.New("the team's short name, as at the end of its address: " + name)
	}
	return errors.New("the team's short name, as at the end of its address, such as postmasters")
}

func somePrefixes(s string) error {
	_, err := parsePrefixes(s)
	return err
}

// parsePrefixes reads prefixes that are written as the register wants them.
func parsePrefixes(s string) ([]netip.Prefix, error) {
	var list words
	if err := list.Set(s); err != nil || len(list) == 0 {
		return nil, errors.New("prefixes, such as 141.211.0.0/16")
	}
	var all []netip.Prefix
	for _, word := range list {
		p, err := netip.ParsePrefix(word)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s is no prefix, such as 141.211.0.0/16", quote(word))
		case p.Bits() == 0:
			return nil, fmt.Errorf("%s is the whole of the internet", word)
		case p.Masked().String() != word:
			return nil, fmt.Errorf("%s is written %s", word, p.Masked())
		case slices.ContainsFunc(all, p.Overlaps):
			return nil, fmt.Errorf("%s is there twice, or in another one", word)
		}
		all = append(all, p)
	}
	return all, nil
}

// heldPrefixes are those of the first department, in the campus.
func (f *founding) heldPrefixes(s string) error {
	held, err := parsePrefixes(s)
	if err != nil {
		return err
	}
	campus, err := parsePrefixes(f.campus.String())
	if err != nil {
		return nil // said of the campus already
	}
	for _, p := range held {
		if !slices.ContainsFunc(campus, func(c netip.Prefix) bool { return c.Bits() <= p.Bits() && c.Contains(p.Addr()) }) {
			return fmt.Errorf("%s is not in the campus, %s", p, f.campus.String())
		}
	}
	return nil
}

func aName(s string) error {
	if s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil
	}
	return errors.New("plain text of one line")
}

func aDepartment(s string) error {
	if departmentForm.MatchString(s) && s != "campus" && s != "blocks" {
		return nil
	}
	return errors.New("small letters, digits and inner hyphens, such as lsa-physics; neither campus nor blocks")
}

func (f *founding) someSpeakers(s string) error {
	var list words
	if err := list.Set(s); err != nil || len(list) == 0 {
		return errors.New("one account at least")
	}
	for _, word := range list {
		who, err := parseAuthor(word)
		switch {
		case err != nil || who.Login == "" && who.Email == "":
			return fmt.Errorf("%s is neither LOGIN:ID, such as octocat:583231, nor a mail address", quote(word))
		case who.Email != "":
		case who.ID == 0 && !f.plain:
			return fmt.Errorf("%s has no number, and the number decides: curl -s https://api.github.com/users/%s shows it as id", quote(word), who.Login)
		}
	}
	return nil
}

func aDomain(s string) error {
	if domainForm.MatchString(strings.ToLower(s)) {
		return nil
	}
	return errors.New("a domain, such as umich.edu")
}

func aBranch(s string) error {
	if branchForm.MatchString(s) && !strings.Contains(s, "..") && !strings.Contains(s, "//") && !strings.Contains(s, "/.") && !strings.HasSuffix(s, ".lock") {
		return nil
	}
	return errors.New("the name of a branch, such as main")
}

func aJudge(s string) error {
	switch {
	case versionForm.MatchString(s) && !strings.Contains(s, "dirty"), binaryForm.MatchString(s):
		return nil
	case s == "":
		return errors.New("this build has no version of its own; " + strings.Join(judgeHints(), "; "))
	case strings.HasPrefix(s, "http://"):
		return errors.New("over https only")
	case strings.HasPrefix(s, "https://"):
		return errors.New("the SHA-256 goes with it: URL#sha256=HEX; sha256sum FILE shows it")
	case versionForm.MatchString("v" + s):
		return errors.New("versions are written v" + s)
	}
	return errors.New("a released version, such as v1.2.3, or URL#sha256=HEX")
}

// releasedVersion is this build's, if others can get it by its name.
func releasedVersion() string {
	v := buildVersion()
	if !versionForm.MatchString(v) || strings.Contains(v, "dirty") || pseudoVersion.MatchString(v) {
		return ""
	}
	return v
}

// judgeHints say what to do where this build has no version.
func judgeHints() []string {
	program := "a build for Linux"
	digest := "HEX, of sha256sum"
	if sum := thisProgram(); sum != "" {
		program, digest = "this program", sum
	}
	return []string{
		"if there is a released version: --gatepost v1.2.3",
		"if not, put " + program + " where GitHub's runners can download it: --gatepost https://HOST/gatepost#sha256=" + digest,
	}
}

// thisProgram is the SHA-256 of this very file, if a runner of GitHub's can run
// it; else "".
func thisProgram() string {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return ""
	}
	name, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// programPackage is this command, as the go command installs it.
func programPackage() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path != "" {
		return info.Main.Path + "/cmd/gatepost"
	}
	return "example.edu/gatepost/cmd/gatepost"
}

// exampleOutside is an address for examples that is nobody's, and not of the
// campus either.
func exampleOutside(campus []string) (scaffold.Example, error) {
	for _, e := range []scaffold.Example{
		{Network: "192.0.2.0/24", Address: "192.0.2.21"},
		{Network: "198.51.100.0/24", Address: "198.51.100.21"},
		{Network: "203.0.113.0/24", Address: "203.0.113.21"},
		{Network: "2001:db8::/32", Address: "2001:db8::15"},
	} {
		network := netip.MustParsePrefix(e.Network)
		if !slices.ContainsFunc(campus, func(s string) bool {
			p, err := netip.ParsePrefix(s)
			return err == nil && p.Overlaps(network)
		}) {
			return e, nil
		}
	}
	return scaffold.Example{}, fail("the campus holds every network that is set aside for examples", "is that the university's address space?")
}
