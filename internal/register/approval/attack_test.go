package approval

import "example.edu/gatepost/internal/register/gitsync"

// attacks are ways for a commit to come into the branch; each gives the commit
// and what is to be said of it.
var attacks = map[string]func(*scene) (commit gitsync.Hash, standing Standing, why string){
	"a merge, approved": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", bob, "-")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Vouched, "pull request 1, approved by postmaster (2)"
	},
	"a comment takes nothing back": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "CHANGES_REQUESTED")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Review(n, s.postmaster, "COMMENTED")
		return s.merged(n, "r", nil), Vouched, ""
	},
	"a squash": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", bob, "-")
		s.git("checkout", "-q", "r")
		s.commit(nil, ann, "ann 3\n")
		s.git("checkout", "-q", "main")
		s.show("r")
		s.hub.Review(n, s.second, "APPROVED")
		return s.squashed(n, "r"), Vouched, "second (3)"
	},
	"a squash of a branch that is behind": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.commit(nil, bob, "bob 2\n")
		s.hub.Review(n, s.second, "APPROVED")
		return s.squashed(n, "r"), Vouched, ""
	},
	"a rebase of one commit": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		base := s.commit(nil, bob, "bob 2\n")
		s.hub.Review(n, s.second, "APPROVED")
		s.git("cherry-pick", "r")
		return s.landed(n, base), Vouched, ""
	},
	"the head itself pushed": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		base := s.head()
		s.hub.Review(n, s.second, "APPROVED")
		s.git("merge", "-q", "--ff-only", "r")
		return s.landed(n, base), Vouched, ""
	},
	"a merge of a branch that took main in": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.commit(nil, bob, "bob 2\n")
		s.git("checkout", "-q", "r")
		s.git("merge", "-q", "-m", "Update branch", "main")
		s.git("checkout", "-q", "main")
		s.show("main")
		s.show("r")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Vouched, ""
	},
	"both sides changed one file, plainly merged": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", nets, "1\nX\n3\n4\n5\n6\n7\n8\n9\n")
		s.commit(nil, nets, "1\n2\n3\n4\n5\n6\n7\nY\n9\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Vouched, ""
	},
	"both sides did the same": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", bob, "-", "registrations/lsa-physics/new.cue", "new\n")
		s.commit(nil, ann, "ann 2\n", bob, "-")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Vouched, ""
	},
	"what the register does not read": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write("README.md", "changed in the merge\n") }), Vouched, ""
	},
	"two requests of one commit, one approved": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		other := s.hub.OpenPull(s.eve, "r", "Me too")
		s.hub.Review(n, s.postmaster, "APPROVED")
		base := s.head()
		commit := s.merged(n, "r", nil)
		s.hub.MergedWith(other, commit.String(), base.String())
		return commit, Vouched, "pull request 1"
	},

	"pushed": func(s *scene) (gitsync.Hash, Standing, string) {
		commit := s.commit(nil, ann, "evil\n")
		s.show("main")
		return commit, Refused, "no pull request was merged as it"
	},
	"nobody reviewed": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"approved by somebody else": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.eve, "APPROVED")
		return s.merged(n, "r", nil), Refused, "eve, who is not in team postmasters"
	},
	"approved by its author": func(s *scene) (gitsync.Hash, Standing, string) {
		s.request("r", ann, "ann 2\n")
		n := s.hub.OpenPull(s.postmaster, "r", "Mine")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"approved by who wrote a commit of it": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Wrote(s.hash("r").String(), s.dept, s.postmaster)
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Refused, "postmaster, who wrote some of it"
	},
	"approved by who wrote some, and by another": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Wrote(s.hash("r").String(), s.postmaster, s.postmaster)
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Review(n, s.second, "APPROVED")
		return s.merged(n, "r", nil), Vouched, "second (3)"
	},
	"a postmaster's request, opened once more by a friend": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		mine := s.hub.OpenPull(s.postmaster, "r", "Mine")
		s.hub.Review(n, s.postmaster, "APPROVED")
		base := s.head()
		commit := s.merged(n, "r", nil)
		s.hub.MergedWith(mine, commit.String(), base.String())
		return commit, Refused, "postmaster, who wrote some of it"
	},
	"approved before the last push": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.git("checkout", "-q", "r")
		s.commit(nil, ann, "evil\n")
		s.git("checkout", "-q", "main")
		s.show("r")
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"approved, then changes requested": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Review(n, s.postmaster, "CHANGES_REQUESTED")
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"approved, then dismissed": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Dismiss(n, s.postmaster)
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"closed, not merged": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Close(n)
		s.git("merge", "-q", "--no-ff", "-m", "Merge", "r")
		s.show("main")
		return s.head(), Refused, "no pull request"
	},
	"merged into another branch": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Retarget(n, "dev")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Refused, "into the branch dev"
	},
	"approved as a request into another branch": func(s *scene) (gitsync.Hash, Standing, string) {
		// The review showed what the head brings to dev, which has the evil already.
		s.git("checkout", "-q", "-b", "dev")
		s.commit(nil, bob, "evil\n")
		s.git("checkout", "-q", "-b", "r")
		s.commit(nil, ann, "ann 2\n")
		s.git("checkout", "-q", "main")
		s.show("dev")
		s.show("r")
		n := s.hub.OpenPull(s.dept, "r", "Please")
		s.hub.Retarget(n, "dev")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.hub.Retarget(n, "main")
		return s.merged(n, "r", nil), Refused, "nobody approves"
	},
	"approved after it was made to go here": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Retarget(n, "dev")
		s.hub.Retarget(n, "main")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Vouched, ""
	},
	"an evil merge: a file of its own": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write("registrations/lsa-physics/evil.cue", "evil\n") }), Refused, "it changes registrations/lsa-physics/evil.cue, and the request does not"
	},
	"an evil merge: site rules": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write("schema/site.cue", "") }), Refused, "it changes schema/site.cue"
	},
	"an evil merge: a line more": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write(ann, "ann 2\nevil\n") }), Refused, "ann.cue is neither as the request leaves it"
	},
	"an evil merge: what main did is undone": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.commit(nil, bob, "-")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write(bob, "bob\n") }), Refused, "it changes " + bob
	},
	"an evil merge: theirs, whole, over what main did": func(s *scene) (gitsync.Hash, Standing, string) {
		const theirs = "1\nX\n3\n4\n5\n6\n7\n8\n9\n"
		n := s.request("r", nets, theirs)
		s.commit(nil, nets, "1\n2\n3\n4\n5\n6\n7\n8\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write(nets, theirs) }), Refused, "networks.cue is neither"
	},
	"an evil merge: a removal left out": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", bob, "-")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write(bob, "bob\n") }), Refused, "bob.cue is neither"
	},
	"an evil merge: a file left out": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", "registrations/lsa-physics/new.cue", "new\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() { s.write("registrations/lsa-physics/new.cue", "-") }), Refused, "new.cue is neither"
	},
	"an evil merge: another mode": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", func() {
			s.write(ann, "-")
			s.git("-c", "core.symlinks=true", "update-index", "--add", "--cacheinfo", "120000,"+s.git("rev-parse", "r:"+ann)+","+ann)
			s.git("checkout-index", "-f", ann)
		}), Refused, "ann.cue is neither"
	},
	"a merge of another head": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.git("checkout", "-q", "-b", "evil", "r")
		s.commit(nil, ann, "evil\n")
		s.git("checkout", "-q", "main")
		return s.merged(n, "evil", nil), Refused, "and not the request's head"
	},
	"two branches at once": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.request("q", bob, "bob 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		base := s.commit(nil)
		s.git("merge", "-q", "-m", "Octopus", "r", "q")
		return s.landed(n, base), Refused, "more than one branch"
	},
	"a squash with more": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.hub.Review(n, s.postmaster, "APPROVED")
		base := s.head()
		return func() gitsync.Hash { s.commit(nil, ann, "ann 2\n", bob, "evil\n"); return s.landed(n, base) }(), Refused, "it changes " + bob
	},
	"a squash with less": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n", bob, "-")
		s.hub.Review(n, s.postmaster, "APPROVED")
		base := s.head()
		return func() gitsync.Hash { s.commit(nil, ann, "ann 2\n"); return s.landed(n, base) }(), Refused, "bob.cue is neither"
	},
	"the last of two rebased commits": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		s.git("checkout", "-q", "r")
		s.commit(nil, ann, "ann 3\n")
		s.git("checkout", "-q", "main")
		s.show("r")
		s.hub.Review(n, s.postmaster, "APPROVED")
		s.commit(nil, bob, "bob 2\n")
		s.git("cherry-pick", "r~1")
		base := s.head()
		s.git("cherry-pick", "r")
		return s.landed(n, base), Refused, "ann.cue is neither"
	},
	"a history that crosses": func(s *scene) (gitsync.Hash, Standing, string) {
		n := s.request("r", ann, "ann 2\n")
		before := s.commit(nil, bob, "bob 2\n")
		s.git("merge", "-q", "--no-ff", "-m", "Merge", "r")
		s.git("checkout", "-q", "r")
		s.git("merge", "-q", "--no-ff", "-m", "Merge", before.String())
		s.commit(nil, ann, "ann 3\n")
		s.git("checkout", "-q", "main")
		s.show("main")
		s.show("r")
		s.hub.Review(n, s.postmaster, "APPROVED")
		return s.merged(n, "r", nil), Refused, "do not meet in one commit"
	},
}
