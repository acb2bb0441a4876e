package awskms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/signetd/signet/signers"
)

// meanings are the service's errors that say more than "not now"
// (https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html).
var meanings = map[string]struct {
	is   error
	hint string
}{
	"NotFoundException":             {is: signers.ErrNotFound},
	"AlreadyExistsException":        {is: signers.ErrExists},
	"AccessDeniedException":         {signers.ErrDenied, "see examples/aws for the actions that the daemon's role needs"},
	"UnrecognizedClientException":   {signers.ErrDenied, "the credentials are not known: see which the SDK's default chain finds, with `aws sts get-caller-identity`"},
	"InvalidSignatureException":     {signers.ErrDenied, "the credentials are wrong, or this machine's clock is"},
	"ExpiredTokenException":         {signers.ErrUnavailable, "the credentials have expired; the role or token file that renews them does not"},
	"ExpiredToken":                  {signers.ErrUnavailable, "the credentials have expired; the role or token file that renews them does not"},
	"InvalidIdentityTokenException": {signers.ErrUnavailable, "the web identity token (AWS_WEB_IDENTITY_TOKEN_FILE) is not good any more; what renews the file does not"},
	"DisabledException":             {signers.ErrUnavailable, "somebody disabled the key; enable it, if there was no reason: aws kms enable-key"},
	"KMSInvalidStateException":      {signers.ErrUnavailable, "the key may be scheduled for deletion: aws kms describe-key"},
	"KeyUnavailableException":       {is: signers.ErrUnavailable},
	"InvalidKeyUsageException":      {is: signers.ErrMismatch},
	"LimitExceededException":        {signers.ErrBusy, "a quota of the account is used up: see Service Quotas"},
	"UnsupportedOperationException": {is: signers.ErrUnsupported},
	"ValidationException":           {is: signers.ErrUnsupported},
}

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
	var api smithy.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("%w: %w%s", signers.ErrUnavailable, err, noCredentials(err))
	}
	m, ok := meanings[api.ErrorCode()]
	switch {
	case !ok:
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	case m.hint != "":
		return fmt.Errorf("%w: %w\nhint: %s", m.is, err, m.hint)
	}
	return fmt.Errorf("%w: %w", m.is, err)
}

// noCredentials is a hint if the SDK found no credentials: it has no type of
// error for that.
func noCredentials(err error) string {
	if !strings.Contains(err.Error(), "get identity:") {
		return ""
	}
	return "\nhint: the SDK's default chain finds no credentials that are good: see `aws sts get-caller-identity`"
}

// answered reports whether err is the service's own answer: then nothing was
// done. Any other error leaves that open.
func answered(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorFault() != smithy.FaultServer
}
