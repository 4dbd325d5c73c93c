package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"example.edu/gatepost/internal/register/policy"
)

// questions asks somebody at a terminal, one line a question.
type questions struct {
	ctx   context.Context
	out   io.Writer
	lines chan line // read by one goroutine, which ends with the input or the process
}

type line struct {
	text string
	err  error
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 4 << 10

// newQuestions is nil where nobody can be asked.
func newQuestions(ctx context.Context, o Options) *questions {
	in, ok := o.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	q := &questions{ctx: ctx, out: o.Stderr, lines: make(chan line)}
	// Reading a terminal cannot be cancelled: an interrupt has to get past it, so
	// this is the one goroutine that nobody waits for.
	go func() {
		in := bufio.NewScanner(in)
		in.Buffer(make([]byte, 0, 256), maxAnswer)
		for in.Scan() {
			select {
			case q.lines <- line{text: in.Text()}:
			case <-ctx.Done():
				return
			}
		}
		err := in.Err()
		if err == nil {
			err = io.EOF
		}
		select {
		case q.lines <- line{err: err}:
		case <-ctx.Done():
		}
	}()
	return q
}

// ask asks until check is content. An empty answer is the default.
func (q *questions) ask(question, standard string, check func(string) error) (string, error) {
	for {
		fmt.Fprint(q.out, question)
		if standard != "" {
			fmt.Fprintf(q.out, " [%s]", printable(standard))
		}
		fmt.Fprint(q.out, ": ")
		var got line
		select {
		case got = <-q.lines:
		case <-q.ctx.Done():
			fmt.Fprintln(q.out)
			return "", q.ctx.Err()
		}
		if errors.Is(got.err, io.EOF) {
			fmt.Fprintln(q.out)
			return "", fail("the questions were not answered to their end; nothing was written")
		}
		if got.err != nil {
			return "", fmt.Errorf("reading the answer: %w", got.err)
		}
		answer := strings.TrimSpace(got.text)
		if answer == "" {
			answer = standard
		}
		err := check(answer)
		if err == nil {
			return answer, nil
		}
		fmt.Fprintf(q.out, "  %s\n", printable(err.Error()))
	}
}

// The checks of single answers.
func something(s string) error {
	if s == "" {
		return errors.New("this cannot be left out")
	}
	return nil
}

func oneOf(words []string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return errors.New("one of " + strings.Join(words, ", "))
	}
}

func positive(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 {
		return errors.New("a number, 1 or more")
	}
	return nil
}

func aDay(s string) error {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return errors.New("a day, as year-month-day")
	}
	return nil
}

// yesOrNo asks for one of the two.
func (q *questions) yesOrNo(question, standard string) (bool, error) {
	answer, err := q.ask(question+" (yes or no)", standard, oneOf([]string{"yes", "no", "y", "n"}))
	return strings.HasPrefix(answer, "y"), err
}

// ask asks for what no flag has said, in the order of the file. known is the
// register as it is on disk.
func (d *draft) ask(q *questions, known *policy.Snapshot, now time.Time) error {
	var err error
	checked := func(to *string, question string, check func(string) error) {
		if err == nil && *to == "" {
			*to, err = q.ask(question, "", check)
		}
	}
	text := func(to *string, question string) { checked(to, question, something) }
	number := func(to *int, question string) {
		var answer string
		if err == nil && *to < 1 {
			if answer, err = q.ask(question, "", positive); err == nil {
				*to, err = strconv.Atoi(answer)
			}
		}
	}
	checked(&d.department, "Department (the short name, such as lsa-physics)", knownDepartment(known))
	text(&d.contact.Name, "Contact: who gets the confirmation (such as Physics IT)")
	checked(&d.contact.Email, "Contact: mailbox, better a shared one", reachable(known, d.department))
	text(&d.purpose, "What is the mail for")
	text(&d.whyNoAuth, "Why can the machines not log in to send mail")
	if err == nil && len(d.hosts) == 0 {
		d.hosts, err = askHosts(q, registrable(known, d.department))
	}
	number(&d.volume.PerHour, "The most messages in an hour, all machines together")
	number(&d.volume.PerDay, "The most messages in a day")
	if err == nil && d.expires == "" {
		d.expires, err = q.ask("The last day on which it holds", now.UTC().AddDate(1, 0, 0).Format(time.DateOnly), aDay)
	}
	if err != nil || d.accept {
		return err
	}
	for _, condition := range []string{
		"Do you accept the university's IT policies", "Is it true that this is no bulk mail, such as newsletters",
		"Is it true that no machine is a personal workstation", "Is it true that no machine runs a mail server of its own",
	} {
		yes, err := q.yesOrNo(condition, "")
		if err != nil {
			return err
		}
		if !yes {
			return fail("the relay is not for this; nothing was written", "what is accepted and why: registrations/README.md#accept")
		}
	}
	d.accept = true
	return nil
}

// askHosts asks for machines until an empty answer.
func askHosts(q *questions, address func(string) error) ([]string, error) {
	var hosts []string
	for {
		question, check := "Machine: its fixed IP address", address
		if len(hosts) > 0 {
			question = "Another machine: its IP address, or nothing if that is all"
			check = func(s string) error {
				if s == "" {
					return nil
				}
				if slices.ContainsFunc(hosts, func(h string) bool { return strings.HasPrefix(h, s+",") }) {
					return errors.New("it is entered already")
				}
				return address(s)
			}
		}
		ip, err := q.ask(question, "", check)
		if err != nil || ip == "" {
			return hosts, err
		}
		name, err := q.ask("  its full name in the DNS", "", func(s string) error {
			if s == "" || strings.ContainsAny(s, ", ") || !strings.Contains(s, ".") {
				return errors.New("a full name, such as mfp1.example.edu")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		kind, err := q.ask("  what it is: "+strings.Join(kinds, ", "), "printer", oneOf(kinds))
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, ip+","+name+","+kind)
	}
}

func anAddress(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return errors.New("one address, such as 192.0.2.21; no range")
	}
	return nil
}
