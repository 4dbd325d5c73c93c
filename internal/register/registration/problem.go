package registration

import "fmt"

// A Rule is the stable name of what a Problem breaks. Each has an anchor in
// registrations/README.md.
type Rule string

// The rules. What one file can break alone is checked here, the rest in
// package policy.
const (
	RuleSyntax            Rule = "syntax"
	RuleNotData           Rule = "not-data"
	RuleTooLarge          Rule = "too-large"
	RuleNotRegular        Rule = "not-regular"
	RulePath              Rule = "path"
	RuleSchema            Rule = "schema"
	RuleMissingField      Rule = "missing-field"
	RuleUnknownField      Rule = "unknown-field"
	RuleBadIP             Rule = "bad-ip"
	RuleIPNotCampus       Rule = "ip-not-campus"
	RuleIPNotOwned        Rule = "ip-not-owned"
	RuleIPPool            Rule = "ip-pool"
	RuleIPDuplicate       Rule = "ip-duplicate"
	RuleIPBlocked         Rule = "ip-blocked"
	RuleUnknownDepartment Rule = "unknown-department"
	RuleContactDomain     Rule = "contact-domain"
	RuleExpired           Rule = "expired"
	RuleExpiryTooFar      Rule = "expiry-too-far"
	RuleAccept            Rule = "accept"
	RuleVolume            Rule = "volume"
	RuleAuthorNotSpeaker  Rule = "author-not-speaker"
)

// Rules lists every rule, in the order in which registrations/README.md
// explains them.
func Rules() []Rule {
	return []Rule{
		RuleSyntax, RuleNotData, RuleTooLarge, RuleNotRegular, RulePath, RuleSchema, RuleMissingField, RuleUnknownField,
		RuleBadIP, RuleIPNotCampus, RuleIPNotOwned, RuleIPPool, RuleIPDuplicate, RuleIPBlocked,
		RuleUnknownDepartment, RuleContactDomain, RuleExpired, RuleExpiryTooFar, RuleAccept, RuleVolume, RuleAuthorNotSpeaker,
	}
}

// A Severity says whether a Problem stops a request.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Problem is one finding, on the user's own line. The JSON form is the
// contract of "gatepost check --format json".
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1; 0 when the file as a whole is meant
	Column   int      `json:"column"` // in bytes, from 1
	Rule     Rule     `json:"rule"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"` // what is wrong, in plain words, without a full stop
	Hint     string   `json:"hint"`    // what to do next; never empty
}

// String is the first line of the text form, FILE:LINE:COL: RULE: MESSAGE.
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Rule, p.Message)
}
