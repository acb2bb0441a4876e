package gcpkms

import (
	"context"
	"path"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// Usage is what the service was asked for.
func (b *Backend) Usage() signers.Usage { return b.meter.Usage() }

// metered has each attempt of a call counted, below the SDK's retries. What is
// not priced is administration, which costs nothing.
func metered(m *cost.Meter) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := call(ctx, method, in, out, conn, opts...)
		m.Count(ctx, path.Base(method), outcomeOf(err), 0)
		return err
	}
}

// outcomeOf says what came of an attempt.
func outcomeOf(err error) signers.Outcome {
	switch status.Code(err) { //nolint:exhaustive // the others are the service's own no
	case codes.OK:
		return signers.Done
	case codes.ResourceExhausted:
		return signers.Throttled
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.DeadlineExceeded, codes.Canceled, codes.DataLoss:
		return signers.Failed
	}
	return signers.Refused
}

// counted is a retryer whose retries are.
type counted struct {
	gax.Retryer
	meter *cost.Meter
}

// Retry implements gax.Retryer.
func (c counted) Retry(err error) (time.Duration, bool) {
	pause, again := c.Retryer.Retry(err)
	if again {
		c.meter.Retry()
	}
	return pause, again
}
