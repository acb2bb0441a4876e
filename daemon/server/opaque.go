package server

import (
	"context"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/plugins"
)

// Tokens is what the pipeline must remember of tokens; *tokens.Store is one.
type Tokens interface {
	// Keep remembers an opaque token until its end.
	Keep(token string, g plugins.Grant) error
	// Find returns what an opaque token says, or tokens.ErrUnknown.
	Find(token string) (plugins.Grant, error)
	// Spend uses a single-use token up: nil once, then tokens.ErrSpent.
	Spend(g plugins.Grant) error
	// Spent reports whether a single-use token was used.
	Spent(g plugins.Grant) (bool, error)
}

// mint makes an opaque token: random text, whose grant the daemon remembers.
// Nothing is signed, so no issuer drafts it and nobody can verify it without
// us. The way is the same: intent, deed, outcome, reply.
func (p *Pipeline) mint(ctx context.Context, req policy.Request, a *policy.Approval) (Issued, error) {
	token, err := tokens.NewOpaque(p.Rand)
	if err != nil {
		return Issued{}, p.deny(ctx, eventOf(req), err)
	}
	grant, err := a.Use()
	if err != nil {
		return Issued{}, p.deny(ctx, eventOf(req), err)
	}
	entry, err := p.Ledger.Intend(ctx, audit.Event{
		Op: opIssue, Caller: req.Caller.String(), Profile: grant.Profile, TokenID: grant.TokenID, Rule: a.Rule(),
		Subject: grant.Subject, Audience: grant.Audience, Expires: grant.Expires.Unix(),
	})
	if err != nil {
		return Issued{}, err
	}
	// A crash from here on leaves a token that nobody was given or can guess.
	if err := p.Tokens.Keep(token, grant); err != nil {
		return Issued{}, p.failed(ctx, entry, err)
	}
	if err := entry.Done(detach(ctx), hashOf([]byte(token))); err != nil {
		return Issued{}, err
	}
	return Issued{Token: plugins.Token(token), Grant: grant, Shortened: a.Shortened()}, nil
}
