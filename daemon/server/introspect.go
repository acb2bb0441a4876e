package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/plugins"
)

// ErrInactive says that a token is not good here and now: whether it was
// forged, ended, used up or made for another profile is not told apart (RFC
// 7662 section 2.2).
var ErrInactive = errors.New("token is not active")

// The lanes of those who accept tokens, as the ledger and the metrics name them.
const (
	opIntrospect = "introspect"
	opRedeem     = "redeem"
)

// A Shown is a token as somebody was given it.
type Shown struct {
	Token     string
	Profile   string // "" for any whose tokens the caller may introspect
	Audience  string // who accepts it; "" skips that check, which only Introspect may
	Assertion []byte // PASETO's implicit assertion
}

// Introspect returns what a live token says, or ErrInactive. Nothing is used up
// and nothing recorded: it is a question (RFC 7662).
func (p *Pipeline) Introspect(_ context.Context, caller peer.Caller, s Shown) (plugins.Grant, error) {
	names := []string{s.Profile}
	if s.Profile == "" {
		names = p.Gate.VerifiedBy(caller)
	} else if err := p.Gate.MayIntrospect(caller, s.Profile); err != nil {
		return plugins.Grant{}, err
	}
	for _, name := range names {
		g, err := p.live(name, s)
		if err == nil {
			err = p.unspent(g)
		}
		if !errors.Is(err, ErrInactive) {
			return g, err
		}
	}
	return plugins.Grant{}, ErrInactive
}

// unspent is ErrInactive for a single-use token that was used.
func (p *Pipeline) unspent(g plugins.Grant) error {
	if profile, _ := p.Gate.Profile(g.Profile); !profile.SingleUse {
		return nil
	}
	used, err := p.Tokens.Spent(g)
	if err == nil && used {
		err = ErrInactive
	}
	return err
}

// Redeem uses a single-use token up and returns what it says: once, whoever
// asks and whatever is restarted in between. That it was used is on disk and in
// the ledger before anybody is told what it says.
func (p *Pipeline) Redeem(ctx context.Context, caller peer.Caller, s Shown) (plugins.Grant, error) {
	e := audit.Event{Op: opRedeem, Caller: caller.String(), Profile: s.Profile, Hash: hashOf([]byte(s.Token))}
	g, err := p.spend(caller, s)
	e.TokenID, e.Subject, e.Audience = g.TokenID, g.Subject, g.Audience
	if err != nil {
		return plugins.Grant{}, p.deny(ctx, e, err)
	}
	if err := p.Ledger.Record(detach(ctx), e); err != nil {
		return plugins.Grant{}, err
	}
	return g, nil
}

func (p *Pipeline) spend(caller peer.Caller, s Shown) (plugins.Grant, error) {
	if s.Audience == "" {
		return plugins.Grant{}, fmt.Errorf("%w: audience is missing\nhint: say for whom you accept the token: a token for another is not good here", errBadRequest)
	}
	if err := p.Gate.MayRedeem(caller, s.Profile); err != nil {
		return plugins.Grant{}, err
	}
	g, err := p.live(s.Profile, s)
	if err != nil {
		return plugins.Grant{}, err
	}
	return g, p.Tokens.Spend(g)
}

// live reads a token of a profile: known or signed by us, of this profile, for
// this audience, and in its time.
func (p *Pipeline) live(profile string, s Shown) (plugins.Grant, error) {
	g, err := p.shown(profile, s)
	if err != nil {
		return plugins.Grant{}, err
	}
	want, _ := p.Gate.Profile(profile)
	now := p.Now()
	if g.Type != want.Type || g.Issuer != want.Issuer || !now.Before(g.Expires) || now.Before(g.NotBefore) {
		return plugins.Grant{}, ErrInactive
	}
	if s.Audience != "" && !slices.Contains(g.Audience, s.Audience) {
		return plugins.Grant{}, ErrInactive
	}
	g.Profile = profile
	return g, nil
}

// shown reads a token by whatever vouches for it.
func (p *Pipeline) shown(name string, s Shown) (plugins.Grant, error) {
	if !tokens.IsOpaque(s.Token) {
		return p.signed(name, s)
	}
	g, err := p.Tokens.Find(s.Token)
	if errors.Is(err, tokens.ErrUnknown) || err == nil && g.Profile != name {
		err = ErrInactive
	}
	return g, err
}

// signed reads a token that one of the profile's published versions signed.
func (p *Pipeline) signed(name string, s Shown) (plugins.Grant, error) {
	profile, _ := p.Gate.Profile(name)
	in, ok := p.Formats[profile.Format].Reader.(BuiltIn)
	if !ok || len(s.Token) > plugins.MaxToken {
		return plugins.Grant{}, ErrInactive
	}
	versions, err := p.Ring.Verifiers(profile.Key)
	if err != nil {
		return plugins.Grant{}, ErrInactive
	}
	for _, v := range versions {
		k := plugins.VerifyingKey{ID: v.Kid, Algorithm: v.Algorithm, Public: v.Public}
		if g, err := verified(in, s, k); err == nil {
			return g, nil
		}
	}
	return plugins.Grant{}, ErrInactive
}

// verified reads a token of key k. Its kid is looked at before its signature: a
// ring with many versions costs one verification.
func verified(in BuiltIn, s Shown, k plugins.VerifyingKey) (plugins.Grant, error) {
	tbs, sig, err := in.Parse(plugins.Token(s.Token), k, s.Assertion)
	if err != nil {
		return plugins.Grant{}, err
	}
	g, err := in.Inspect(tbs, k)
	if err != nil {
		return plugins.Grant{}, err
	}
	return g, k.Algorithm.Verify(k.Public, tbs, sig)
}
