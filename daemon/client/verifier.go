package client

import (
	"context"
	"encoding/json"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

// A Content is what a token says, to whoever accepts it. Its JSON has the names
// of RFC 7662 section 2.2, and what is empty is left out.
type Content struct {
	Profile   string            `json:"profile"`
	Type      string            `json:"typ,omitempty"`
	Issuer    string            `json:"iss,omitempty"`
	ID        string            `json:"jti,omitempty"`
	Subject   string            `json:"sub,omitempty"`
	Audience  []string          `json:"aud,omitempty"`
	Scope     []string          `json:"scope,omitempty"`
	IssuedAt  int64             `json:"iat,omitempty"` // seconds since 1970, as the two below
	NotBefore int64             `json:"nbf,omitempty"`
	Expires   int64             `json:"exp,omitempty"`
	Holder    map[string]string `json:"cnf,omitempty"` // RFC 7800: verify that the bearer has this key
	Claims    json.RawMessage   `json:"claims,omitempty"`
}

// ExpiresAt is when the token ends.
func (c Content) ExpiresAt() time.Time { return time.Unix(c.Expires, 0).UTC() }

// A Shown is a token that somebody was given.
type Shown struct {
	Token     string
	Profile   string // of which it should be; Introspect takes "" for any that the caller may ask about
	Audience  string // Redeem: for whom it is accepted; never optional
	Assertion []byte // PASETO's implicit assertion
}

// Introspect asks what a token says (RFC 7662). It reports false for one that
// is not good here and now, whatever the reason; whoever accepts the token must
// still look at its audience, scope and holder.
func (c *Client) Introspect(ctx context.Context, s Shown) (Content, bool, error) {
	reply, err := c.api.Introspect(ctx, &signetv1.IntrospectRequest{Token: s.Token, Profile: s.Profile, Assertion: s.Assertion})
	if err != nil || !reply.GetActive() {
		return Content{}, false, err
	}
	return contentOf(reply.GetContent()), true, nil
}

// Redeem uses a single-use token up and returns what it says. Of all that ever
// redeem a token one succeeds; for the others it is FailedPrecondition. Do not
// retry after a lost answer: ask for a fresh token.
func (c *Client) Redeem(ctx context.Context, s Shown) (Content, error) {
	reply, err := c.api.Redeem(ctx, &signetv1.RedeemRequest{
		Token: s.Token, Profile: s.Profile, Audience: s.Audience, Assertion: s.Assertion,
	})
	if err != nil {
		return Content{}, err
	}
	return contentOf(reply.GetContent()), nil
}

func contentOf(t *signetv1.TokenContent) Content {
	c := Content{
		Profile: t.GetProfile(), Type: t.GetType(), Issuer: t.GetIssuer(), ID: t.GetTokenId(), Subject: t.GetSubject(),
		Audience: t.GetAudience(), Scope: t.GetScope(), IssuedAt: t.GetIssuedAt(), NotBefore: t.GetNotBefore(), Expires: t.GetExpires(),
		Claims: t.GetClaims(),
	}
	if t.GetHolderKind() != "" {
		c.Holder = map[string]string{t.GetHolderKind(): t.GetHolderValue()}
	}
	return c
}
