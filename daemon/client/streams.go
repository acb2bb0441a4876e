package client

import (
	"context"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/signers/stream"
)

func (c *Client) openIssue(ctx context.Context) (stream.Stream[*signetv1.IssueItem, *signetv1.IssueOutcome], error) {
	st, err := c.api.IssueStream(ctx)
	return stream.Stream[*signetv1.IssueItem, *signetv1.IssueOutcome]{
		Send: func(items []*signetv1.IssueItem) error { return st.Send(&signetv1.IssueBatch{Items: items}) },
		Recv: func() ([]*signetv1.IssueOutcome, error) {
			b, err := st.Recv()
			return b.GetOutcomes(), err
		},
	}, err
}

func (c *Client) openSign(ctx context.Context) (stream.Stream[*signetv1.SignItem, *signetv1.SignOutcome], error) {
	st, err := c.api.SignStream(ctx)
	return stream.Stream[*signetv1.SignItem, *signetv1.SignOutcome]{
		Send: func(items []*signetv1.SignItem) error { return st.Send(&signetv1.SignBatch{Items: items}) },
		Recv: func() ([]*signetv1.SignOutcome, error) {
			b, err := st.Recv()
			return b.GetOutcomes(), err
		},
	}, err
}
