package policy

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
)

// ErrSpent says that an Approval was used already.
var ErrSpent = errors.New("approval is spent")

// ErrNotApproved says that an Approval was not made by a Gate.
var ErrNotApproved = errors.New("nothing was approved")

// A Gate judges requests by its profiles. It never changes after [New] and may
// be used by many goroutines at once.
type Gate struct {
	profiles map[string]*profile
	now      func() time.Time
	rand     io.Reader
	skew     time.Duration
	serial   func() (uint64, error)
	names    []string // of the profiles, sorted
	issue    []check
	sign     []check

	introspect, redeem []check

	nothing *profile // stands in for a profile that is not there, and allows nothing
}

// New checks every profile and returns a Gate, or all that is wrong: a joined
// error of [*FieldError].
func New(profiles []Profile, o Options) (*Gate, error) {
	g := &Gate{
		profiles: make(map[string]*profile, len(profiles)),
		now:      o.Now, rand: o.Rand, skew: cmp.Or(o.Skew, DefaultSkew), serial: o.Serial,
		issue: issueChecks(), sign: signChecks(), introspect: introspectChecks(), redeem: redeemChecks(), nothing: &profile{},
	}
	errs := append(sameKind(profiles), o.check())
	for i, p := range profiles {
		c, err := compile(p, i)
		if _, twice := g.profiles[p.Name]; twice {
			err = errors.Join(err, &FieldError{fmt.Sprintf("profiles[%d].name", i), p.Name, "used by two profiles", "give each its own name"})
		}
		g.profiles[p.Name] = c
		errs = append(errs, err)
		if p.Format == formatSSH && o.Serial == nil {
			errs = append(errs, errors.New("policy: no source of serial numbers was given"))
		}
	}
	g.names = slices.Sorted(maps.Keys(g.profiles))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

// check refuses to do without clock or randomness: a default would hide that a
// test, or a daemon, forgot to say which.
func (o Options) check() error {
	switch {
	case o.Now == nil:
		return errors.New("policy: no clock was given")
	case o.Rand == nil:
		return errors.New("policy: no source of randomness was given")
	case o.Skew < 0 || o.Skew > MaxSkew:
		return &FieldError{"skew", "", fmt.Sprintf("%v is not between 0s and %v", o.Skew, MaxSkew), "5s is plenty where clocks are kept by NTP"}
	}
	return nil
}

// Profile returns the profile called name. What it points to is shared and
// must not be changed, though the Gate's verdicts would not change with it.
func (g *Gate) Profile(name string) (Profile, bool) {
	p, ok := g.profiles[name]
	if !ok {
		return Profile{}, false
	}
	return p.Profile, true
}

// Approve judges a request in the Issue lane. It returns an Approval of a
// complete grant, or a [*Denial]; any other error is a fault of ours.
func (g *Gate) Approve(_ context.Context, r Request) (*Approval, error) {
	j := g.judge(r)
	if d := j.first(g.issue); d != nil {
		return nil, d
	}
	id, err := g.tokenID(j.profile.idBytes())
	if err != nil {
		return nil, err
	}
	a := j.approval()
	j.complete(&a.grant, id)
	if j.profile.ssh() {
		if a.grant.Serial, err = g.nextSerial(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// ApproveWritten judges a token body that its caller wrote, by what an
// inspector read in it. It refuses or approves, and changes nothing.
func (g *Gate) ApproveWritten(_ context.Context, caller peer.Caller, profile string, written plugins.Grant) (*Approval, error) {
	written = cloned(written)
	j := g.judge(Request{
		Caller: caller, Profile: profile, Subject: written.Subject, Audience: written.Audience, Scope: written.Scope,
		Claims: written.Claims, Holder: written.Holder, Principals: written.Principals,
		Options: written.Options, Extensions: written.Extensions, Assertion: written.Assertion,
	})
	j.written = &written
	j.TTL = written.Expires.Sub(j.begins())
	if d := j.first(g.sign); d != nil {
		return nil, d
	}
	a := j.approval()
	a.grant = written
	a.grant.Profile = j.profile.Name
	return a, nil
}

// Explain runs the checks of [Gate.Approve], all of them, and says how each
// went. The caller may be hypothetical; nothing is approved.
func (g *Gate) Explain(_ context.Context, r Request) Explanation {
	j := g.judge(r)
	j.explaining = true
	return j.explain(g.issue)
}

// judge begins a judgement. The clock is read here and nowhere else, so that
// all checks of a request agree on what time it is.
func (g *Gate) judge(r Request) *judgement {
	j := &judgement{Request: r, profile: g.nothing, now: g.now(), skew: g.skew}
	if p, ok := g.profiles[r.Profile]; ok {
		j.profile, j.found = p, true
	}
	return j
}

// tokenID draws at least 128 bits, which nobody can guess or meet twice.
func (g *Gate) tokenID(bytes int) (string, error) {
	var id [nonceBytes]byte
	if _, err := io.ReadFull(g.rand, id[:bytes]); err != nil {
		return "", fmt.Errorf("policy: token id: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(id[:bytes]), nil
}

// nextSerial refuses zero, which no KRL can revoke by itself.
func (g *Gate) nextSerial() (uint64, error) {
	n, err := g.serial()
	if err == nil && n == 0 {
		err = errors.New("it is zero")
	}
	if err != nil {
		return 0, fmt.Errorf("policy: serial number: %w", err)
	}
	return n, nil
}

// complete writes down what was approved: from here on nothing is added to it.
// It is filled in where it stays, since a Grant is large to copy.
func (j *judgement) complete(to *plugins.Grant, id string) {
	now := j.now.UTC().Truncate(time.Second)
	to.Profile, to.Type, to.Issuer = j.profile.Name, j.profile.Type, j.profile.Issuer
	to.TokenID, to.Subject = id, j.Subject
	to.Audience, to.Scope = slices.Clone(j.Audience), slices.Clone(j.Scope)
	to.IssuedAt, to.NotBefore, to.Expires = now, now, now.Add(j.TTL)
	to.Holder, to.Claims = j.Holder, j.merged
	to.Principals, to.Options, to.Extensions = slices.Clone(j.Principals), j.options, j.extensions
	to.Assertion = slices.Clone(j.Assertion)
	if fixed := j.profile.assertion; fixed != nil {
		to.Assertion = slices.Clone(fixed)
	}
}

// cloned keeps what is judged from changing between judgement and use.
func cloned(g plugins.Grant) plugins.Grant {
	g.Audience, g.Scope, g.Claims = slices.Clone(g.Audience), slices.Clone(g.Scope), slices.Clone(g.Claims)
	g.Principals, g.Options, g.Extensions = slices.Clone(g.Principals), maps.Clone(g.Options), maps.Clone(g.Extensions)
	g.Assertion = slices.Clone(g.Assertion)
	return g
}

// An Approval is the right to one signature over one grant. Only a Gate makes
// one; the zero Approval approves nothing.
type Approval struct {
	profile *profile
	rule    string
	grant   plugins.Grant
	spent   atomic.Bool
}

// approval is the only place that makes one.
func (j *judgement) approval() *Approval {
	return &Approval{profile: j.profile, rule: j.allowedBy()}
}

// Use returns the grant the first time, and ErrSpent ever after.
func (a *Approval) Use() (plugins.Grant, error) {
	if a == nil || a.profile == nil {
		return plugins.Grant{}, ErrNotApproved
	}
	if a.spent.Swap(true) {
		return plugins.Grant{}, ErrSpent
	}
	return a.grant, nil
}

// Profile returns the profile that allowed the grant.
func (a *Approval) Profile() Profile {
	if a == nil || a.profile == nil {
		return Profile{}
	}
	return a.profile.Profile
}

// Rule names what allowed the grant, "pay.callers[0]", for the ledger.
func (a *Approval) Rule() string {
	if a == nil {
		return ""
	}
	return a.rule
}

// Shortened reports whether a clamp made the lifetime shorter than asked.
// There are no clamps yet, and nothing else shortens: it is always false.
func (a *Approval) Shortened() bool { return false }
