package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/plugins/jwt"
)

// audience is who the demo's tokens are for.
const audience = "https://api.example"

// wanted is a request that the demo's policy allows.
func wanted() client.Request {
	return client.Request{
		Profile: "demo", Subject: "demo/you", Audience: []string{audience},
		Scope: []string{"read"}, TTL: 5 * time.Minute,
	}
}

func (w *walk) makeKey(ctx context.Context) (figures, error) {
	reply, err := w.admin.CreateKey(ctx, &signetv1.CreateKeyRequest{Name: "demo", Reason: "signet demo"})
	if err != nil {
		return nil, err
	}
	v := reply.GetKey().GetVersions()[0]
	w.show("key %q version %d is %s; kid %s", "demo", v.GetNumber(), v.GetState(), v.GetKid())
	return figures{"kid": v.GetKid(), "algorithm": reply.GetKey().GetAlgorithm()}, nil
}

func (w *walk) issue(ctx context.Context) (figures, error) {
	t, err := w.issuer.Issue(ctx, wanted())
	if err != nil {
		return nil, err
	}
	w.first = t
	ms := w.Now().Sub(w.begun).Milliseconds()
	w.show("%s…%s (%d bytes), good until %s", t.Value[:24], t.Value[len(t.Value)-8:], len(t.Value), t.Expires.Format(time.TimeOnly))
	return figures{"bytes": len(t.Value), "jti": t.ID, "first_token_ms": ms}, nil
}

func (w *walk) verify(ctx context.Context) (figures, error) {
	claims, err := w.check(ctx, w.first.Value)
	if err != nil {
		return nil, err
	}
	if _, err := w.check(ctx, spoil(w.first.Value)); err == nil {
		return nil, errors.New("a token with one changed character still verifies")
	}
	w.show("verified: sub %s, aud %s; one changed character, and it does not", claims.Subject, audience)
	return figures{"sub": claims.Subject}, nil
}

// check verifies a token as a relying party would: from the JWKS alone.
func (w *walk) check(ctx context.Context, token string) (jwt.Verified, error) {
	_, set, err := w.issuer.PublicKeys(ctx, "demo")
	if err != nil {
		return jwt.Verified{}, err
	}
	return jwt.Verify(token, set, jwt.VerifyOptions{
		Audience: audience, Issuer: "https://signet.example", Type: "at+jwt", Now: w.Now(),
	})
}

// spoil changes one character of a token's payload.
func spoil(token string) string {
	i := strings.IndexByte(token, '.') + 10
	other := byte('A')
	if token[i] == other {
		other = 'B'
	}
	return token[:i] + string(other) + token[i+1:]
}

func (w *walk) refuseAudience(ctx context.Context) (figures, error) {
	r := wanted()
	r.Audience = []string{"https://bank.example"}
	return w.refused(ctx, r)
}

func (w *walk) refuseLifetime(ctx context.Context) (figures, error) {
	r := wanted()
	r.TTL = 24 * time.Hour
	return w.refused(ctx, r)
}

func (w *walk) refuseCaller(ctx context.Context) (figures, error) {
	r := wanted()
	r.Profile, r.Subject, r.Audience, r.Scope = "payroll", "payroll/you", []string{"https://payroll.example"}, nil
	return w.refused(ctx, r)
}

// refused holds that the daemon refuses r by policy, and shows why.
func (w *walk) refused(ctx context.Context, r client.Request) (figures, error) {
	_, err := w.issuer.Issue(ctx, r)
	if err == nil {
		return nil, errors.New("the daemon issued the token")
	}
	if status.Code(err) != codes.PermissionDenied {
		return nil, fmt.Errorf("refused for another reason: %w", err)
	}
	reason, _, _ := strings.Cut(status.Convert(err).Message(), "\n")
	w.show("refused: %s", reason)
	return figures{"reason": reason}, nil
}
