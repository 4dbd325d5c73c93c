package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/reconcile"
)

// reviewPatience is how long one question to the forge waits for its limits. A
// commit that could not be judged is judged again by a later round.
const reviewPatience = 5 * time.Second

// openVerify makes what judges the commits of the branch; nil if nothing does.
func (r *relay) openVerify(c *config.Relay, git *gitsync.Mirror) (reconcile.Approver, error) {
	v := c.Register.Verify
	if v == nil {
		return nil, nil
	}
	keys, err := openKeys(v)
	if err != nil {
		return nil, err
	}
	var reviews *approval.Reviews
	if v.Postmasters != "" {
		if reviews, err = r.openReviews(c, git); err != nil {
			return nil, err
		}
	}
	judge, err := approval.NewJudge(git, keys, reviews)
	if err != nil || keys == nil {
		return judge, err
	}
	r.keys = keys
	return &keyWatch{Judge: judge, keys: keys, log: r.log}, nil
}

// A keyWatch tells in the log what is wrong with the files of keys, at the start
// and whenever that changes. No problem of theirs stops a relay: what was
// approved goes on.
type keyWatch struct {
	*approval.Judge
	keys *approval.Keyring
	log  *slog.Logger
	told string // by Policy, which one goroutine calls
}

var _ reconcile.Approver = (*keyWatch)(nil)

// Policy is that of the Judge, which reads the files each round.
func (w *keyWatch) Policy() string {
	policy := w.Judge.Policy()
	trouble := strings.Join(w.keys.Trouble(), "; ")
	switch {
	case trouble == w.told:
	case trouble == "":
		w.log.Info("the files of keys are as they should be", "event", "register.keys_mended")
	default:
		w.log.Warn("something is wrong with the files of keys", "event", "register.keys_faulty", "err", trouble, "hint", keysHint)
	}
	w.told = trouble
	return policy
}

const keysHint = "mend the files that register.verify.keys names; they are read again when they change"

// openKeys names the files of keys; nil if signatures do not matter.
func openKeys(v *config.Verify) (*approval.Keyring, error) {
	if len(v.Keys) == 0 {
		return nil, nil
	}
	return approval.NewKeyring(v.Keys, v.Postmasters == "")
}

func (r *relay) openReviews(c *config.Relay, git *gitsync.Mirror) (*approval.Reviews, error) {
	host, repository, err := forge.ParseURL(c.Register.Repository)
	if err != nil {
		return nil, err
	}
	client, err := forge.NewGitHub(forge.GitHubOptions{Repository: repository, Host: host, Token: r.conf.reviewToken, Wait: reviewPatience})
	if err != nil {
		return nil, err
	}
	return approval.NewReviews(approval.ReviewOptions{
		Repository: c.Register.Repository,
		Branch:     c.Register.Branch,
		Team:       c.Register.Verify.Postmasters,
		Requests:   requests{client, r.conf.reviews.Forget},
		Approvers:  client,
		Contents:   git,
		Files:      git,
	})
}

// reviewToken is the token for one question about reviews. An App has one for
// these by itself, so that a permission that it lacks for them does not stop the
// register from being fetched.
func (s *settings) reviewToken(ctx context.Context) (string, error) {
	return s.reviews.Token(ctx, comesAs(s.current.Load().Register))
}

// requests begins each judgement. A token that the forge ended before its time
// is replaced at once.
type requests struct {
	*forge.GitHub
	forget func(context.Context) bool
}

var _ approval.Requests = requests{}

func (r requests) ForCommit(ctx context.Context, commit string) ([]forge.Request, error) {
	list, err := r.GitHub.ForCommit(ctx, commit)
	if errors.Is(err, forge.ErrRefused) && r.forget(ctx) {
		return r.GitHub.ForCommit(ctx, commit)
	}
	return list, err
}

// checkVerify tells on stdout what a new commit takes to count, and on stderr
// what is wrong with the files of keys. It returns the exit code.
func checkVerify(v *config.Verify, g config.Register, stdout, stderr io.Writer) (code int) {
	if v == nil {
		return 0
	}
	var rules []string
	keys, err := openKeys(v)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if keys != nil {
		usable, problems := keys.Problems()
		broken := keys.Broken()
		for _, p := range problems {
			mark := " (warning)"
			if slices.Contains(broken, p) {
				mark, code = "", 1
			}
			fmt.Fprintf(stderr, "register.verify.keys: %s%s\n  hint: %s\n", p, mark, keysHint)
		}
		if usable == 0 {
			fmt.Fprintf(stderr, "register.verify.keys: there is no key that a commit could be signed with\n  hint: the relay would start, and nothing new would come into force\n")
			code = 1
		}
		rules = append(rules, "it is signed with "+map[bool]string{true: "the one key listed", false: fmt.Sprintf("one of %d keys", usable)}[usable == 1])
	}
	if v.Postmasters != "" {
		rules = append(rules, fmt.Sprintf("it is what a pull request into %s was merged as, approved by somebody of team %s who wrote none of it", g.Branch, v.Postmasters))
	}
	fmt.Fprintf(stdout, "%*s %s\n", -checkColumn, "a new commit counts if", strings.Join(rules, "; and "))
	return code
}

// writable says who else may write a file that the relay believes; "" if nobody
// may, or there is none.
func writable(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return "everybody on this machine may write it"
	case mode&0o020 != 0:
		return "its group may write it"
	}
	return ""
}
