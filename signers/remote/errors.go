package remote

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/signers"
)

// table is every error that a caller of a back-end branches on, and its code on
// the wire. The first that fits an error is its code.
var table = []struct {
	err  error
	code codes.Code
}{
	{context.Canceled, codes.Canceled},
	{signers.ErrDenied, codes.PermissionDenied},
	{signers.ErrUnsupported, codes.Unimplemented},
	{signers.ErrMismatch, codes.FailedPrecondition},
	{signers.ErrExists, codes.AlreadyExists},
	{signers.ErrNotFound, codes.NotFound},
	{signers.ErrClosed, codes.Aborted},
	{signers.ErrBusy, codes.OutOfRange},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{signers.ErrUnavailable, codes.ResourceExhausted},
}

// ErrDown says that the back-end's process is not there at present. It is a
// signers.ErrUnavailable.
var ErrDown = fmt.Errorf("the back-end's process is down: %w", signers.ErrUnavailable)

// code is an error's code; what is not in the table is Internal.
func code(err error) codes.Code {
	for _, row := range table {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return codes.Internal
}

// onTheWire makes a status of an error.
func onTheWire(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(code(err), err.Error())
}

// A far is an error of the other end: its words, and what it was there.
type far struct {
	text string
	is   error
}

func (e far) Error() string { return e.text }
func (e far) Unwrap() error { return e.is }

// offTheWire is an error as the other end had it.
func offTheWire(c codes.Code, text string) error {
	for _, row := range table {
		if row.code == c {
			return far{text, row.err}
		}
	}
	return far{text, signers.ErrUnavailable}
}

// ended reports whether err came of the connection and not of the back-end:
// no row of the table has Unavailable.
func ended(err error) bool { return status.Code(err) == codes.Unavailable }

// fromCall is the error of a unary call.
func fromCall(err error) error {
	if err == nil || ended(err) {
		return err
	}
	st := status.Convert(err)
	return offTheWire(st.Code(), st.Message())
}
