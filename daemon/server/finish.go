package server

import (
	"context"
	"fmt"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
)

// The lanes, as the ledger and the metrics name them.
const (
	opIssue = "issue"
	opSign  = "sign"
)

// A ticket is what finish needs: each part was made by the step before, so no
// step can have been left out.
type ticket struct {
	op       string
	caller   peer.Caller
	approval *policy.Approval
	grant    plugins.Grant
	key      *keyring.Key
	draft    plugins.Draft
}

// made is a finished token and the signature inside it, as its format writes it.
type made struct {
	token     plugins.Token
	signature []byte
}

// finish records the intent, signs, joins, reads the finished token back and
// records the outcome. It is the only caller of Key.Sign: both lanes end here.
func (p *Pipeline) finish(ctx context.Context, t ticket) (made, error) {
	entry, err := p.Ledger.Intend(ctx, t.event())
	if err != nil {
		return made{}, err
	}
	sig, err := t.key.Sign(ctx, t.draft.ToBeSigned)
	if err != nil {
		return made{}, p.failed(ctx, entry, err)
	}
	m, err := t.join(ctx, p.Formats[t.approval.Profile().Format].Reader, sig)
	if err != nil {
		return made{}, p.failed(ctx, entry, err)
	}
	// The caller may be gone by now; the signature exists all the same.
	if err := entry.Done(detach(ctx), hashOf(m.token)); err != nil {
		return made{}, err
	}
	return m, nil
}

// failed records that no token came of an intent. The cause goes to the
// caller even if that can't be recorded, since nothing was released.
func (p *Pipeline) failed(ctx context.Context, e *audit.Entry, cause error) error {
	if err := e.Failed(detach(ctx), cause); err != nil {
		return fmt.Errorf("%w (and the ledger: %w)", cause, err)
	}
	return cause
}

// join puts the signature into the token and has the token read back.
func (t ticket) join(ctx context.Context, r Reader, sig []byte) (made, error) {
	written, err := t.draft.Frame.Form.Write(t.key.Algorithm(), sig)
	if err != nil {
		return made{}, err
	}
	token, err := t.draft.Frame.JoinWritten(written)
	if err != nil {
		return made{}, err
	}
	if err := r.Token(ctx, token, Joined{t.draft, t.grant, verifying(t.key), sig}); err != nil {
		return made{}, err
	}
	return made{token, written}, nil
}

// event is the intent: hashes and ids, never the token or a claim.
func (t ticket) event() audit.Event {
	return audit.Event{
		Op: t.op, Caller: t.caller.String(), Profile: t.grant.Profile,
		Key: t.key.Name(), Version: t.key.Version(), Kid: t.key.Kid(),
		TokenID: t.grant.TokenID, Rule: t.approval.Rule(), Subject: t.grant.Subject,
		Audience: t.grant.Audience, Expires: t.grant.Expires.Unix(), Hash: hashOf(t.draft.ToBeSigned),
	}
}
