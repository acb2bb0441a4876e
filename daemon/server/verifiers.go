package server

import (
	"context"
	"errors"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/plugins"
)

// Introspect answers whoever accepts tokens. That one is not active is an
// answer, not an error.
func (s *Signer) Introspect(ctx context.Context, r *signetv1.IntrospectRequest) (*signetv1.IntrospectReply, error) {
	begun := s.Pipeline.Now()
	caller, err := callerOf(ctx)
	var g plugins.Grant
	if err == nil {
		g, err = s.Pipeline.Introspect(ctx, caller, Shown{Token: r.GetToken(), Profile: r.GetProfile(), Assertion: r.GetAssertion()})
	}
	reply := &signetv1.IntrospectReply{}
	if errors.Is(err, ErrInactive) {
		err = nil
	} else if err == nil {
		reply.Active, reply.Content = true, content(g)
	}
	if err := s.Pipeline.settle(opIntrospect, r.GetProfile(), begun, err); err != nil {
		return nil, err
	}
	return reply, nil
}

// Redeem uses a single-use token up.
func (s *Signer) Redeem(ctx context.Context, r *signetv1.RedeemRequest) (*signetv1.RedeemReply, error) {
	begun := s.Pipeline.Now()
	caller, err := callerOf(ctx)
	var g plugins.Grant
	if err == nil {
		g, err = s.Pipeline.Redeem(ctx, caller, Shown{
			Token: r.GetToken(), Profile: r.GetProfile(), Audience: r.GetAudience(), Assertion: r.GetAssertion(),
		})
	}
	if err := s.Pipeline.settle(opRedeem, r.GetProfile(), begun, err); err != nil {
		return nil, err
	}
	return &signetv1.RedeemReply{Content: content(g)}, nil
}

// content is a grant as those who accept tokens read it.
func content(g plugins.Grant) *signetv1.TokenContent {
	return &signetv1.TokenContent{
		Profile: g.Profile, Type: g.Type, Issuer: g.Issuer, TokenId: g.TokenID, Subject: g.Subject, Audience: g.Audience, Scope: g.Scope,
		IssuedAt: unix(g.IssuedAt), NotBefore: unix(g.NotBefore), Expires: unix(g.Expires),
		HolderKind: g.Holder.Kind, HolderValue: g.Holder.Value, Claims: g.Claims,
	}
}
