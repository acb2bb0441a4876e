package server

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers/stream"
)

// Signer is service Signer, for issue.sock: who asks is read from the
// connection, what is asked from the message, and the rest is the Pipeline.
type Signer struct {
	signetv1.UnimplementedSignerServer
	Pipeline *Pipeline
	Stopping <-chan struct{} // closed when streams must end
}

// Issue makes one token.
func (s *Signer) Issue(ctx context.Context, r *signetv1.IssueRequest) (*signetv1.IssueReply, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	return s.issue(ctx, r)
}

// IssueStream makes tokens as they are asked for.
func (s *Signer) IssueStream(st signetv1.Signer_IssueStreamServer) error {
	c := stream.Courier[*signetv1.IssueItem, *signetv1.IssueOutcome]{
		Recv: func() ([]*signetv1.IssueItem, error) {
			batch, err := st.Recv()
			return batch.GetItems(), err
		},
		Send: func(done []*signetv1.IssueOutcome) error {
			return st.Send(&signetv1.IssueReplyBatch{Outcomes: done})
		},
		Now: s.Pipeline.Now, Timeout: RequestTimeout,
		Handle: func(ctx context.Context, item *signetv1.IssueItem) *signetv1.IssueOutcome {
			reply, err := s.issue(ctx, item.GetRequest())
			return &signetv1.IssueOutcome{Id: item.GetId(), Reply: reply, Refusal: refusal(err)}
		},
	}
	return c.Run(st.Context(), s.Stopping)
}

// issue answers one request; its error is a gRPC status already.
func (s *Signer) issue(ctx context.Context, r *signetv1.IssueRequest) (*signetv1.IssueReply, error) {
	begun := s.Pipeline.Now()
	var made Issued
	caller, err := callerOf(ctx)
	if err == nil {
		made, err = s.Pipeline.Issue(ctx, requestOf(caller, r))
	}
	if err := s.Pipeline.settle(opIssue, r.GetProfile(), begun, err); err != nil {
		return nil, err
	}
	return &signetv1.IssueReply{
		Token: made.Token, TokenId: made.Grant.TokenID, Kid: made.Kid,
		Expires: made.Grant.Expires.Unix(), Shortened: made.Shortened, Serial: made.Grant.Serial,
	}, nil
}

// callerOf is who is at the other end of the connection.
func callerOf(ctx context.Context) (peer.Caller, error) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return peer.Caller{}, ErrNobody
	}
	return caller, nil
}

// requestOf is what the caller asks for, as policy judges it.
func requestOf(caller peer.Caller, r *signetv1.IssueRequest) policy.Request {
	return policy.Request{
		Caller: caller, Profile: r.GetProfile(), Subject: r.GetSubject(), Audience: r.GetAudience(),
		Scope: r.GetScope(), TTL: seconds(r.GetTtlSeconds()), Claims: r.GetClaims(),
		Holder:     plugins.Holder{Kind: r.GetHolderKind(), Value: r.GetHolderValue()},
		Principals: r.GetPrincipals(), Options: r.GetOptions(), Extensions: r.GetExtensions(), Assertion: r.GetAssertion(),
	}
}

// seconds turns a wire lifetime into a Duration without overflow: what is out
// of range becomes the largest or smallest there is, which policy refuses.
func seconds(n int64) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(min(max(n, -most), most)) * time.Second
}

// Sign signs one token body.
func (s *Signer) Sign(ctx context.Context, r *signetv1.SignRequest) (*signetv1.SignReply, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	return s.sign(ctx, r)
}

// SignStream signs token bodies as they come.
func (s *Signer) SignStream(st signetv1.Signer_SignStreamServer) error {
	c := stream.Courier[*signetv1.SignItem, *signetv1.SignOutcome]{
		Recv: func() ([]*signetv1.SignItem, error) {
			batch, err := st.Recv()
			return batch.GetItems(), err
		},
		Send: func(done []*signetv1.SignOutcome) error {
			return st.Send(&signetv1.SignReplyBatch{Outcomes: done})
		},
		Now: s.Pipeline.Now, Timeout: RequestTimeout,
		Handle: func(ctx context.Context, item *signetv1.SignItem) *signetv1.SignOutcome {
			reply, err := s.sign(ctx, item.GetRequest())
			return &signetv1.SignOutcome{Id: item.GetId(), Reply: reply, Refusal: refusal(err)}
		},
	}
	return c.Run(st.Context(), s.Stopping)
}

// sign answers one request; its error is a gRPC status already.
func (s *Signer) sign(ctx context.Context, r *signetv1.SignRequest) (*signetv1.SignReply, error) {
	begun := s.Pipeline.Now()
	var sig Signature
	caller, err := callerOf(ctx)
	if err == nil {
		sig, err = s.Pipeline.Sign(ctx, caller, r.GetProfile(), r.GetToBeSigned())
	}
	if err := s.Pipeline.settle(opSign, r.GetProfile(), begun, err); err != nil {
		return nil, err
	}
	return &signetv1.SignReply{Signature: sig.Bytes, Kid: sig.Kid, Algorithm: sig.Algorithm}, nil
}

// settle counts an answered request and turns its error into a gRPC status.
func (p *Pipeline) settle(lane, profile string, begun time.Time, err error) error {
	err = p.onTheWire(err)
	p.Metrics.Request(lane, profile, status.Code(err).String(), p.Now().Sub(begun))
	return err
}

// refusal is a gRPC status inside a stream, nil for nil.
func refusal(err error) *signetv1.Refusal {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	return &signetv1.Refusal{Code: uint32(st.Code()), Message: st.Message()}
}
