package server

import (
	"cmp"
	"context"
	"fmt"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
)

// A Signature is what the Sign lane gives out: the caller has the rest of its
// token already.
type Signature struct {
	Bytes     []byte // in the form that the format writes
	Kid       string
	Algorithm string
}

// Sign signs a token body that the caller wrote, after reading it: policy
// judges what the bytes really say, and the version they name must be one that
// may sign.
func (p *Pipeline) Sign(ctx context.Context, caller peer.Caller, profile string, tbs []byte) (Signature, error) {
	t, err := p.read(ctx, caller, profile, tbs)
	if err != nil {
		return Signature{}, p.deny(ctx, audit.Event{Op: opSign, Caller: caller.String(), Profile: profile, Hash: hashOf(tbs)}, err)
	}
	m, err := p.finish(ctx, t)
	if err != nil {
		return Signature{}, err
	}
	return Signature{m.signature, t.key.Kid(), string(t.key.Algorithm())}, nil
}

// read turns bytes into a ticket, or refuses them.
func (p *Pipeline) read(ctx context.Context, caller peer.Caller, name string, tbs []byte) (ticket, error) {
	in, key, err := p.named(ctx, caller, name, tbs)
	if err != nil {
		return ticket{}, err
	}
	written, err := in.Inspect(tbs, verifying(key))
	if err != nil {
		return ticket{}, err
	}
	approval, err := p.Gate.ApproveWritten(ctx, caller, name, written)
	if err != nil {
		return ticket{}, err
	}
	grant, err := approval.Use()
	if err != nil {
		return ticket{}, err
	}
	frame, err := in.Frame(tbs)
	if err != nil {
		return ticket{}, err
	}
	if err := frame.Check(key.Algorithm()); err != nil {
		return ticket{}, err
	}
	return ticket{opSign, caller, approval, grant, key, plugins.Draft{ToBeSigned: tbs, Frame: frame}}, nil
}

// named finds the key version that the bytes name, among those of the
// profile's own key only.
func (p *Pipeline) named(ctx context.Context, caller peer.Caller, name string, tbs []byte) (BuiltIn, *keyring.Key, error) {
	profile, ok := p.Gate.Profile(name)
	if !ok {
		// The gate has the words for this; it approves nothing without a profile.
		_, err := p.Gate.ApproveWritten(ctx, caller, name, plugins.Grant{})
		return BuiltIn{}, nil, cmp.Or(err, keyring.ErrUnknownKey)
	}
	format, ok := p.Formats[profile.Format]
	if !ok {
		return BuiltIn{}, nil, fmt.Errorf("format %q: %w", profile.Format, ErrNoFormat)
	}
	in, ok := format.Reader.(BuiltIn)
	if !ok {
		return BuiltIn{}, nil, fmt.Errorf("%w: tokens of the format %q are issued, never signed as their caller wrote them\nhint: ask for one with Issue: only its plug-in can read the format", errBadRequest, profile.Format)
	}
	kid, err := in.KeyID(tbs)
	if err != nil {
		return BuiltIn{}, nil, err
	}
	key, err := p.Ring.Named(profile.Key, kid)
	return in, key, err
}
