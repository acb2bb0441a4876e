package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/daemon/peer"
)

// once is a profile of single-use reference tokens, which we verify ourselves.
func once(edits ...func(*Profile)) Profile {
	p := pay()
	p.Name, p.Format, p.Key, p.SingleUse = "once", FormatOpaque, "", true
	p.Verifiers = []CallerRule{{UID: myUID()}}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func TestWhoMayVerify(t *testing.T) {
	many := once(func(p *Profile) { p.Name, p.SingleUse = "many", false })
	others := once(func(p *Profile) { p.Name, p.Verifiers = "others", []CallerRule{{UID: ptr(*myUID() + 1)}} })
	none := pay()
	g, err := New([]Profile{once(), many, others, none}, options())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		caller  peer.Caller
		profile string
		ask     func(peer.Caller, string) error
		rule    string // "" is allowed
	}{
		{"introspect", self(t), "once", g.MayIntrospect, ""},
		{"redeem", self(t), "once", g.MayRedeem, ""},
		{"introspect what is good many times", self(t), "many", g.MayIntrospect, ""},
		{"redeem what is good many times", self(t), "many", g.MayRedeem, RuleSingleUse},
		{"introspect another's", self(t), "others", g.MayIntrospect, RuleVerifier},
		{"redeem another's", self(t), "others", g.MayRedeem, RuleVerifier},
		{"introspect nobody's", self(t), "pay", g.MayIntrospect, RuleVerifier},
		{"nobody", peer.Caller{}, "once", g.MayRedeem, RuleVerifier},
		{"hypothetical", peer.Hypothetical(*myUID(), 0, "", ""), "once", g.MayRedeem, RuleVerifier},
		{"no such profile", self(t), "nope", g.MayRedeem, RuleProfile},
	} {
		var d *Denial
		switch err := c.ask(c.caller, c.profile); {
		case c.rule == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.rule != "" && (!errors.As(err, &d) || d.Rule != c.rule || d.Hint == ""):
			t.Errorf("%s: got %v, want a denial by %s with a hint", c.what, err, c.rule)
		}
	}
	if got := g.VerifiedBy(self(t)); !slices.Equal(got, []string{"many", "once"}) {
		t.Errorf("VerifiedBy: got %v", got)
	}
	// The planted fault: without the check, anybody may.
	if err := g.Without(RuleVerifier).MayRedeem(peer.Caller{}, "once"); err != nil {
		t.Errorf("without the check: got %v; want the fault to show", err)
	}
}

func TestNewNamesEachMistakeOfVerification(t *testing.T) {
	for _, c := range []struct {
		path, says string
		profile    Profile
	}{
		{"verifiers", "good for nothing", once(func(p *Profile) { p.Verifiers = nil })},
		{"verifiers", "good for nothing", once(func(p *Profile) { p.Verifiers, p.SingleUse = nil, false })},
		{"verifiers", "good for nothing", once(func(p *Profile) { p.Verifiers, p.Format, p.Key = nil, "jwt", "k" })},
		{"verifiers[0]", "", once(func(p *Profile) { p.Verifiers = []CallerRule{{}} })},
		{"key", "is not signed", once(func(p *Profile) { p.Key = "k" })},
		{"key", "missing", once(func(p *Profile) { p.Format = "jwt" })},
		{"verifiers", "neither redeemed", func() Profile { p := login(); p.SingleUse = true; return p }()},
	} {
		o := options()
		o.Serial = func() (uint64, error) { return 1, nil }
		_, err := New([]Profile{c.profile}, o)
		if !slices.ContainsFunc(strings.Split(errorText(err), "\n"), func(line string) bool {
			return strings.HasPrefix(line, "profiles[0]."+c.path+" ") && strings.Contains(line, c.says)
		}) {
			t.Errorf("got %v; want %s saying %q", err, c.path, c.says)
		}
	}
}
