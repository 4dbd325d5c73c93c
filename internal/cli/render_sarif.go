package cli

import (
	"bytes"
	"io"
	"net/url"
	"unicode/utf8"

	"example.edu/gatepost/internal/register/registration"
)

// The parts of SARIF 2.1.0 (OASIS) that code scanning reads. The section
// numbers are those of the standard.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct { // §3.14
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct { // §3.19
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct { // §3.49
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct { // §3.27
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct { // §3.29
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI       string `json:"uri"`
		URIBaseID string `json:"uriBaseId"`
	}
	sarifRegion struct { // §3.30
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
)

// problemsSARIF writes one run. Columns are counted in code points, which the
// standard has a name for; source gives the bytes of a file to count in.
func problemsSARIF(w io.Writer, problems []registration.Problem, source func(path string) []byte) error {
	run := sarifRun{
		Tool:       sarifTool{Driver: sarifDriver{Name: "gatepost", Version: buildVersion(), Rules: []sarifRule{}}},
		ColumnKind: "unicodeCodePoints",
		Results:    []sarifResult{},
	}
	index := map[registration.Rule]int{}
	for _, p := range problems {
		i, known := index[p.Rule]
		if !known {
			i = len(index)
			index[p.Rule] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: string(p.Rule), ShortDescription: sarifText{ruleTitle(p.Rule)}})
		}
		run.Results = append(run.Results, sarifResult{
			RuleID:    string(p.Rule),
			RuleIndex: i,
			Level:     string(p.Severity), // "error" and "warning" are levels of §3.27.10
			Message:   sarifText{p.Message + ". " + p.Hint},
			Locations: []sarifLocation{{sarifPhysical{
				Artifact: sarifArtifact{URI: (&url.URL{Path: p.File}).String(), URIBaseID: "%SRCROOT%"},
				// Code scanning refuses a result without a line.
				Region: sarifRegion{StartLine: max(p.Line, 1), StartColumn: codePoints(source(p.File), p.Line, p.Column)},
			}}},
		})
	}
	return writeJSON(w, sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}

// codePoints turns a column in bytes into one in code points, both from one.
func codePoints(data []byte, line, column int) int {
	if line < 1 || column < 1 {
		return 1
	}
	for range line - 1 {
		_, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			return column
		}
		data = rest
	}
	return utf8.RuneCount(data[:min(column-1, len(data))]) + max(0, column-1-len(data)) + 1
}

// ruleTitle says in a few words what a rule is about.
func ruleTitle(rule registration.Rule) string {
	if title, ok := map[registration.Rule]string{
		registration.RuleSyntax:            "The file is not CUE",
		registration.RuleNotData:           "The file is more than plain data",
		registration.RuleTooLarge:          "The file is too large",
		registration.RuleNotRegular:        "The entry is not a regular file",
		registration.RulePath:              "The file is not where its department says",
		registration.RuleSchema:            "A value has the wrong type or is not allowed",
		registration.RuleMissingField:      "A field is missing",
		registration.RuleUnknownField:      "A field is not known",
		registration.RuleBadIP:             "Not one canonical unicast address",
		registration.RuleIPNotCampus:       "The address is not the university's",
		registration.RuleIPNotOwned:        "Another department holds the address",
		registration.RuleIPPool:            "The address is in a pool where nothing registers",
		registration.RuleIPDuplicate:       "The address is registered twice",
		registration.RuleIPBlocked:         "The address is blocked",
		registration.RuleUnknownDepartment: "The department is not known",
		registration.RuleContactDomain:     "The contact is not in a domain of the department",
		registration.RuleExpired:           "The registration has expired",
		registration.RuleExpiryTooFar:      "The registration lasts too long",
		registration.RuleAccept:            "A condition is not accepted",
		registration.RuleVolume:            "The volume is over the site's cap",
		registration.RuleAuthorNotSpeaker:  "The author does not speak for the department",
	}[rule]; ok {
		return title
	}
	return string(rule)
}
