package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
)

// ErrTampered says that what an issuer drafted is not what policy granted, or
// that a finished token does not read back as what was signed.
var ErrTampered = errors.New("draft differs from the grant")

// ErrNoFormat says that no issuer serves the format of a profile's key.
var ErrNoFormat = errors.New("no issuer for the format")

// An Issued is a finished token with what its caller may want to know.
type Issued struct {
	Token     plugins.Token
	Grant     plugins.Grant
	Kid       string
	Shortened bool // a clamp made the lifetime shorter than asked
}

// Issue makes a token: policy first, then the issuer drafts, then the daemon
// reads the draft back, and only then a key is used.
func (p *Pipeline) Issue(ctx context.Context, req policy.Request) (Issued, error) {
	approval, err := p.Gate.Approve(ctx, req)
	if err != nil {
		return Issued{}, p.deny(ctx, eventOf(req), err)
	}
	if approval.Profile().Format == policy.FormatOpaque {
		return p.mint(ctx, req, approval)
	}
	key, err := p.Ring.Current(approval.Profile().Key)
	if err != nil {
		return Issued{}, p.deny(ctx, eventOf(req), err)
	}
	grant, draft, err := p.prepare(ctx, approval, key)
	if err != nil {
		return Issued{}, p.deny(ctx, eventOf(req), err)
	}
	made, err := p.finish(ctx, ticket{opIssue, req.Caller, approval, grant, key, draft})
	if err != nil {
		return Issued{}, err
	}
	return Issued{made.token, grant, key.Kid(), approval.Shortened()}, nil
}

// prepare has the issuer draft the grant and reads the draft back: it must say
// exactly the grant, in exactly the frame that its bytes call for.
func (p *Pipeline) prepare(ctx context.Context, a *policy.Approval, key *keyring.Key) (plugins.Grant, plugins.Draft, error) {
	var none plugins.Draft
	f, ok := p.Formats[a.Profile().Format]
	if !ok {
		return plugins.Grant{}, none, fmt.Errorf("format %q: %w", a.Profile().Format, ErrNoFormat)
	}
	grant, err := a.Use()
	if err != nil {
		return plugins.Grant{}, none, err
	}
	vk := verifying(key)
	draft, err := f.Issuer.Prepare(ctx, grant, vk)
	if err != nil {
		return plugins.Grant{}, none, err
	}
	if err := f.Reader.Draft(ctx, draft, grant, vk); err != nil {
		return plugins.Grant{}, none, err
	}
	if err := draft.Frame.Check(vk.Algorithm); err != nil {
		return plugins.Grant{}, none, err
	}
	return grant, draft, nil
}

// unread is an inspector's error as the pipeline's: that it is down is no
// fault of the draft.
func unread(err error) error {
	if errors.Is(err, plugins.ErrRefused) {
		return fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return fmt.Errorf("read back: %w", err)
}

// eventOf describes a request for the ledger before a key is known.
func eventOf(r policy.Request) audit.Event {
	return audit.Event{Op: opIssue, Caller: r.Caller.String(), Profile: r.Profile, Subject: r.Subject, Audience: r.Audience}
}

// deny records a refusal, within the caller's budget, and returns it. A refusal that can't be recorded is
// answered as the ledger's failure.
func (p *Pipeline) deny(ctx context.Context, e audit.Event, cause error) error {
	e.Reason = reasonFor(cause)
	var d *policy.Denial
	if errors.As(cause, &d) {
		e.Rule = d.Rule
		p.Metrics.Denied(d.Rule)
	}
	caller, _ := peer.FromContext(ctx)
	record, note := p.denials.admit(caller.UID(), p.Now())
	if !record {
		return cause
	}
	e.Reason += note
	if err := p.Ledger.Deny(detach(ctx), e); err != nil {
		return err
	}
	return cause
}

// hashOf is the SHA-256 of b, as the ledger records it.
func hashOf(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}
