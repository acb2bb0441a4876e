package policy

import (
	"fmt"

	"github.com/signetd/signet/daemon/peer"
)

// introspectChecks are the rules for whoever asks what a token says, and
// redeemChecks for whoever uses a single-use one up.
func introspectChecks() []check {
	return []check{
		{RuleProfile, (*judgement).judgeProfile, nil},
		{RuleVerifier, (*judgement).judgeVerifier, nil},
	}
}

func redeemChecks() []check {
	return append(introspectChecks(), check{RuleSingleUse, (*judgement).judgeSingleUse, nil})
}

// MayIntrospect returns a [*Denial] unless caller may know what tokens of a
// profile say, and whether they are good.
func (g *Gate) MayIntrospect(caller peer.Caller, profile string) error {
	return g.may(caller, profile, g.introspect)
}

// MayRedeem returns a [*Denial] unless caller may use up tokens of a profile,
// which must be one of single-use tokens.
func (g *Gate) MayRedeem(caller peer.Caller, profile string) error {
	return g.may(caller, profile, g.redeem)
}

func (g *Gate) may(caller peer.Caller, profile string, checks []check) error {
	if d := g.judge(Request{Caller: caller, Profile: profile}).first(checks); d != nil {
		return d
	}
	return nil
}

// VerifiedBy names the profiles whose tokens caller may introspect, sorted.
func (g *Gate) VerifiedBy(caller peer.Caller) (names []string) {
	for _, name := range g.names {
		if g.MayIntrospect(caller, name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// judgeVerifier is judgeCaller for the other side: who has a token accepts it
// from somebody.
func (j *judgement) judgeVerifier() *Denial {
	if j.Caller.Hypothetical() {
		return deny("connect as the verifier itself", "a hypothetical caller learns nothing")
	}
	for i := range j.profile.verifiers {
		if j.profile.verifiers[i].mismatch(j.Caller) == "" {
			return nil
		}
	}
	who := "nobody"
	if j.Caller.Known() {
		who = fmt.Sprintf("uid %d", j.Caller.UID())
	}
	return deny("an operator adds it under verifiers: of the profile", "%s is not a verifier of profile %s", who, quote(j.profile.Name))
}

// judgeSingleUse keeps a token that is good many times from being used up by
// one of those who accept it.
func (j *judgement) judgeSingleUse() *Denial {
	if j.profile.SingleUse {
		return nil
	}
	return deny("introspect or verify it; single_use: true in the profile makes tokens that are redeemed",
		"tokens of profile %s are not for a single use", quote(j.profile.Name))
}

// verification checks who may verify a profile's tokens and how.
func (c *compiler) verification(p Profile) {
	c.callerRules("verifiers", p.Verifiers)
	if p.Format == formatSSH && (p.SingleUse || len(p.Verifiers) > 0) {
		c.bad("verifiers", "leave out verifiers and single_use: sshd verifies certificates by itself", "an SSH certificate is neither redeemed nor introspected")
	}
	if (p.SingleUse || p.Format == FormatOpaque) && len(p.Verifiers) == 0 {
		c.bad("verifiers", "name who accepts the tokens by uid, gid, unit or cgroup", "the list is empty, so the tokens would be good for nothing")
	}
	if p.Format == FormatOpaque && p.Key != "" {
		c.bad("key", "leave it out", "an opaque token is not signed")
	}
}
