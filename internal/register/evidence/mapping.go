package evidence

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Mapping says what an IPAM's words mean here: which tenant is which
// department, and what the networks of a role are used for. What no row names
// stands for itself if it is a department or a use. Case does not matter.
type Mapping struct {
	departments []string
	tenants     map[string]string
	roles       map[string]string
}

// What the words of a mapping mean besides names.
const (
	LeaveOut = "-"    // in place of a department or a use: these networks are no business of the register
	anyOther = "*"    // in place of a tenant or a role: all that no other row names
	noneSet  = "none" // in place of a tenant or a role: a network that has none
)

// useStatic is the one use from which machines may register.
const useStatic = "static"

// uses are those of #Network.
var uses = []string{useStatic, "dhcp", "wireless", "vpn", "residence", "nat"}

// Bounds on a mapping and on a table.
const (
	MaxMapping = 1 << 20
	MaxTable   = 32 << 20
)

// ParseMapping reads rows of three columns without a heading:
//
//	tenant,TENANT,DEPARTMENT
//	role,ROLE,USE
//
// Empty data is a mapping in which everything stands for itself. All mistakes
// are in the error, each with its line.
func ParseMapping(data []byte, departments []string) (*Mapping, error) {
	m := &Mapping{departments: departments, tenants: map[string]string{}, roles: map[string]string{}}
	r := newCSV(data)
	r.FieldsPerRecord = 3
	var wrong []error
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(append(wrong, err)...)
		}
		line, _ := r.FieldPos(0)
		if err := m.add(row); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return m, nil
}

func (m *Mapping) add(row []string) error {
	kind, from, to := strings.ToLower(row[0]), fold(row[1]), row[2]
	table, allowed, what := m.tenants, m.departments, "department"
	switch kind {
	case "tenant":
	case "role":
		table, allowed, what = m.roles, uses, "use"
	default:
		return fmt.Errorf("%q is neither tenant nor role", word(row[0]))
	}
	if from == "" {
		return fmt.Errorf("the %s is empty; what has none is called %s", kind, noneSet)
	}
	if to != LeaveOut && !slices.Contains(allowed, to) {
		return fmt.Errorf("%q is no %s; write one, or %s to leave such networks out", word(to), what, LeaveOut)
	}
	if before, twice := table[from]; twice && before != to {
		return fmt.Errorf("%s %q stands here twice", kind, word(row[1]))
	}
	table[from] = to
	return nil
}

// Department is what a tenant is here: a department or LeaveOut.
func (m *Mapping) Department(tenant string) (string, bool) {
	return look(m.tenants, m.departments, tenant)
}

// Use is what the networks of a role are used for, or LeaveOut.
func (m *Mapping) Use(role string) (string, bool) { return look(m.roles, uses, role) }

func look(table map[string]string, itself []string, from string) (string, bool) {
	from = fold(from)
	if from == "" {
		from = noneSet
	}
	if to, ok := table[from]; ok {
		return to, true
	}
	if slices.Contains(itself, from) {
		return from, true
	}
	to, ok := table[anyOther]
	return to, ok
}

func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// newCSV reads comma-separated values as spreadsheets write them; lines with a
// # are remarks.
func newCSV(data []byte) *csv.Reader {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	return r
}
