package awskms

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// Usage is what the service was asked for.
func (b *Backend) Usage() signers.Usage { return b.meter.Usage() }

// attempts counts those of one call.
type attempts struct{}

// metered has each attempt of a call counted, below the SDK's retries.
func (b *Backend) metered(stack *middleware.Stack) error {
	begin := middleware.InitializeMiddlewareFunc("signet:call", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(middleware.WithStackValue(ctx, attempts{}, new(int)), in)
	})
	count := middleware.FinalizeMiddlewareFunc("signet:attempt", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if n, ok := middleware.GetStackValue(ctx, attempts{}).(*int); ok {
			if *n++; *n > 1 {
				b.meter.Retry()
			}
		}
		out, meta, err := next.HandleFinalize(ctx, in)
		b.meter.Count(ctx, middleware.GetOperationName(ctx), outcomeOf(err), cost.AWSRequest)
		return out, meta, err
	})
	return errors.Join(stack.Initialize.Add(begin, middleware.Before), stack.Finalize.Insert(count, "Retry", middleware.After))
}

// outcomeOf says what came of an attempt.
func outcomeOf(err error) signers.Outcome {
	var api smithy.APIError
	switch {
	case err == nil:
		return signers.Done
	case !errors.As(err, &api):
		return signers.Failed
	}
	if _, throttled := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; throttled {
		return signers.Throttled
	}
	if api.ErrorFault() == smithy.FaultServer {
		return signers.Failed
	}
	return signers.Refused
}
