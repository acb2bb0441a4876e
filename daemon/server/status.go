package server

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/signers"
)

// ErrNobody says that a connection has no caller, which only a fault of ours
// can cause.
var ErrNobody = errors.New("the caller is not known")

// A row says what one error becomes on the wire. What a caller may learn is
// decided here and nowhere else.
type row struct {
	is   error      // matched by errors.Is
	code codes.Code // what the caller branches on
	say  string     // what the caller reads; "" means the error's own text, which is safe to show
	loud bool       // an operator must act: logged as an error
}

// rows is looked through from the top; what no row names is Internal, withheld.
var rows = []row{
	{is: keyring.ErrBadSignature, code: codes.Internal, say: "the back-end gave a wrong signature, which was not released\nhint: operators: see the daemon's log; `signet conform signer` looks at the back-end", loud: true},
	{is: ErrTampered, code: codes.Internal, say: "the issuer's draft was not what policy granted; nothing was signed or released\nhint: operators: see the daemon's log; the issuer is faulty or hostile", loud: true},
	{is: audit.ErrDown, code: codes.Unavailable, say: "the ledger can't be written, so nothing is released\nhint: retry with back-off; operators: free disk space or see the daemon's log", loud: true},
	{is: audit.ErrClosed, code: codes.Unavailable, say: "the daemon is stopping\nhint: retry with back-off"},
	{is: keyring.ErrUnknownKey, code: codes.NotFound},
	{is: keyring.ErrUnknownVersion, code: codes.NotFound},
	{is: keyring.ErrNoOrphan, code: codes.NotFound},
	{is: keyring.ErrRotated, code: codes.FailedPrecondition, say: "key rotated\nhint: fetch the public keys again and write the token for the current kid"},
	{is: keyring.ErrNoSigner, code: codes.FailedPrecondition},
	{is: keyring.ErrRevoked, code: codes.FailedPrecondition},
	{is: keyring.ErrQuarantined, code: codes.FailedPrecondition, loud: true},
	{is: keyring.ErrUnknownKid, code: codes.FailedPrecondition},
	{is: keyring.ErrTooEarly, code: codes.FailedPrecondition},
	{is: keyring.ErrIllegalMove, code: codes.FailedPrecondition},
	{is: keyring.ErrUnattested, code: codes.FailedPrecondition},
	{is: keyring.ErrNotAdopted, code: codes.FailedPrecondition},
	{is: keyring.ErrExists, code: codes.AlreadyExists},
	{is: keyring.ErrConflict, code: codes.Aborted, say: "the key's record changed meanwhile\nhint: look at it with `signet key list` and try again"},
	{is: plugins.ErrRefused, code: codes.InvalidArgument},
	{is: ErrInactive, code: codes.FailedPrecondition, say: "the token is not active\nhint: ask its bearer for a fresh one; a redeemed, ended or foreign token does not become active"},
	{is: tokens.ErrSpent, code: codes.FailedPrecondition, say: "the token was used before\nhint: whoever showed it may have stolen it: ask its bearer for a fresh one", loud: true},
	{is: tokens.ErrFull, code: codes.ResourceExhausted, say: "as many tokens are live as the daemon remembers\nhint: operators: see tokens.most", loud: true},
	{is: tokens.ErrNoSerial, code: codes.Unavailable, say: "no serial number can be had, so nothing is certified\nhint: retry with back-off; operators: free disk space or see the daemon's log", loud: true},
	{is: errBadRequest, code: codes.InvalidArgument},
	{is: host.ErrDown, code: codes.Unavailable, say: "the issuer process is down\nhint: retry with back-off"},
	{is: ErrNoFormat, code: codes.Unavailable, say: "no issuer serves this profile's format\nhint: operators: `signet status` says which issuers run", loud: true},
	{is: ErrNobody, code: codes.Unauthenticated, say: "the caller is not known\nhint: operators: see the daemon's log", loud: true},
	{is: signers.ErrDenied, code: codes.FailedPrecondition, say: "the key's back-end refused the daemon\nhint: operators: see the daemon's log for the PIN or right that is missing", loud: true},
	{is: signers.ErrBudget, code: codes.ResourceExhausted, loud: true},
	{is: signers.ErrBusy, code: codes.ResourceExhausted, say: "the key's back-end has too much to do\nhint: retry with back-off"},
	{is: signers.ErrUnavailable, code: codes.Unavailable, say: "the key's back-end is unavailable\nhint: retry with back-off", loud: true},
	{is: signers.ErrClosed, code: codes.Unavailable, say: "the daemon is stopping\nhint: retry with back-off"},
	{is: signers.ErrNoProof, code: codes.FailedPrecondition, say: "there is no statement about the key\nhint: Google Cloud KMS has them at protection level HSM, and no other back-end; `signet audit tail` shows what was said of the key at key.attested"},
	{is: signers.ErrUnsupported, code: codes.FailedPrecondition, say: "the key's back-end does not have its algorithm\nhint: operators: `signet conform signer` says which it has", loud: true},
	{is: signers.ErrNotFound, code: codes.FailedPrecondition, say: "the key is not in its back-end\nhint: operators: `signet status` says which key, and why", loud: true},
	{is: signers.ErrMismatch, code: codes.FailedPrecondition, say: "the key in its back-end is not the one on record\nhint: operators: `signet status` says which key, and why", loud: true},
	{is: context.DeadlineExceeded, code: codes.DeadlineExceeded, say: "no answer in time\nhint: retry with back-off"},
	{is: context.Canceled, code: codes.Canceled, say: "the caller gave up"},
}

// errBadRequest marks a message that can't be judged because a field is
// missing or malformed. Its text names the field and the remedy.
var errBadRequest = errors.New("bad request")

// wire turns any error into a gRPC status, and says whether it is loud.
func wire(err error) (*status.Status, bool) {
	var d *policy.Denial
	if errors.As(err, &d) {
		return status.New(codes.PermissionDenied, d.Error()), false
	}
	for _, r := range rows {
		if !errors.Is(err, r.is) {
			continue
		}
		if r.say == "" {
			return status.New(r.code, err.Error()), r.loud
		}
		return status.New(r.code, r.say), r.loud
	}
	return status.New(codes.Internal, "internal error\nhint: operators: the daemon's log has the cause"), true
}

// onTheWire is what a caller gets for err, nil for nil. What is withheld from
// the caller, or wants an operator, is logged here.
func (p *Pipeline) onTheWire(err error) error {
	if err == nil {
		return nil
	}
	st, loud := wire(err)
	if loud {
		p.Log.Error("request failed", slog.String("code", st.Code().String()), slog.Any("error", err))
	}
	return st.Err()
}

// reasonFor is why a request was refused, as the ledger keeps it: the words
// that the caller got.
func reasonFor(err error) string {
	st, _ := wire(err)
	return st.Message()
}
