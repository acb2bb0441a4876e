package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// meaning translates an error of the SDK. What it retries it has retried.
func meaning(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, ours := range []error{signers.ErrUnavailable, signers.ErrMismatch, signers.ErrNotFound} {
		if errors.Is(err, ours) {
			return err
		}
	}
	switch status.Code(err) { //nolint:exhaustive // the others are "not now"
	case codes.NotFound:
		return fmt.Errorf("%w: %w", signers.ErrNotFound, err)
	case codes.AlreadyExists:
		return fmt.Errorf("%w: %w", signers.ErrExists, err)
	case codes.Unauthenticated:
		return fmt.Errorf("%w: %w\nhint: the credentials have expired, or are not known: see `gcloud auth application-default print-access-token`", signers.ErrUnavailable, err)
	case codes.PermissionDenied:
		return fmt.Errorf("%w: %w\nhint: see examples/gcp for the roles that the daemon's service account needs", signers.ErrDenied, err)
	case codes.InvalidArgument, codes.Unimplemented:
		return fmt.Errorf("%w: %w", signers.ErrUnsupported, err)
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: %w\nhint: the version may be disabled or scheduled for destruction: gcloud kms keys versions describe; restore and enable save it", signers.ErrUnavailable, err)
	case codes.ResourceExhausted:
		return fmt.Errorf("%w: %w\nhint: a quota of the project is used up", signers.ErrBusy, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
}

// retried has signing and reading tried again inside the caller's deadline, also
// when a quota is used up for the moment, which the SDK leaves to us.
func retried(o *kms.KeyManagementCallOptions, meter *cost.Meter) {
	again := gax.WithRetry(func() gax.Retryer {
		return counted{gax.OnCodes([]codes.Code{codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Unknown},
			gax.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}), meter}
	})
	for _, call := range []*[]gax.CallOption{&o.AsymmetricSign, &o.GetPublicKey, &o.ListCryptoKeyVersions, &o.ListCryptoKeys, &o.CreateCryptoKey} {
		*call = []gax.CallOption{again}
	}
	// Made twice it would be two: whoever asked looks what there is.
	o.CreateCryptoKeyVersion = nil
}
