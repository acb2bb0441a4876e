package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/keyring"
)

// Admin is service Admin, for admin.sock. Each method checks a right of its
// own, and every change is in the ledger, with who and why, before it is made.
type Admin struct {
	signetv1.UnimplementedAdminServer
	Pipeline *Pipeline
	Rights   []AdminRule
	Keys     map[string]keyring.Spec                // what the configuration says a key is
	Keep     func(key string) time.Duration         // the longest lifetime that any profile gives the key's tokens
	Backend  func(name string) string               // the state of a back-end
	Parts    func(context.Context) []*signetv1.Part // how each back-end, issuer and the ledger are
	Plugins  func() []*signetv1.Plugin              // the processes that work for the daemon
	About    About

	surveying sync.Mutex // held while back-ends are looked through for orphans
}

// About is what Status says of the daemon itself.
type About struct {
	Version    string
	Started    time.Time
	Profiles   []string // their names
	PricesAsOf string   // the month of the prices that orphans are shown with
}

// maxReason bounds the reason an operator gives, in bytes.
const maxReason = 500

// change runs one operator's change: right, reason, record, deed, record.
func (a *Admin) change(ctx context.Context, right Right, e audit.Event, do func(context.Context) (keyring.Version, error)) (*signetv1.KeyReply, error) {
	v, err := a.recorded(ctx, right, e, do)
	if err != nil {
		return nil, a.Pipeline.onTheWire(err)
	}
	return &signetv1.KeyReply{Key: a.key(e.Key), Version: number(v.Number)}, nil
}

func (a *Admin) recorded(ctx context.Context, right Right, e audit.Event, do func(context.Context) (keyring.Version, error)) (keyring.Version, error) {
	caller, err := a.admit(ctx, right)
	e.Caller = caller.String()
	if err != nil {
		return keyring.Version{}, a.Pipeline.deny(ctx, e, err)
	}
	if err := checkReason(e.Reason); err != nil {
		return keyring.Version{}, err
	}
	// From here on the change outlives its caller: half of one is worse.
	ctx = detach(ctx)
	if err := a.record(ctx, right, e); err != nil {
		return keyring.Version{}, err
	}
	v, err := do(ctx)
	return v, errors.Join(err, a.outcome(ctx, right, e, v, err))
}

// record writes the intent. Revocation goes ahead without one: when the
// ledger is broken, stopping a key matters more than the record of it.
func (a *Admin) record(ctx context.Context, right Right, e audit.Event) error {
	if right != RightRevoke {
		return a.Pipeline.Ledger.Record(ctx, e)
	}
	done := make(chan error, 1)
	go func() { done <- a.Pipeline.Ledger.RecordUrgent(ctx, e) }()
	err := errSlowLedger
	select {
	case err = <-done:
	case <-time.After(recordWithin):
	}
	if err != nil {
		a.Pipeline.Log.ErrorContext(ctx, "revocation goes ahead without a record", slog.Any("error", err))
	}
	return nil
}

// recordWithin is how long a revocation waits for its record.
const recordWithin = 500 * time.Millisecond

var errSlowLedger = errors.New("the ledger does not answer")

// outcome writes what came of an intent.
func (a *Admin) outcome(ctx context.Context, right Right, e audit.Event, v keyring.Version, err error) error {
	e.Version, e.Kid = v.Number, v.Kid
	e.Op += ".done"
	if err != nil {
		e.Op, e.Reason = strings.TrimSuffix(e.Op, ".done")+".failed", err.Error()
	}
	return a.record(ctx, right, e)
}

// checkReason requires the why of who and why.
func checkReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return fmt.Errorf("reason: missing: %w\nhint: say why, for the ledger: --reason \"…\"", errBadRequest)
	case len(reason) > maxReason:
		return fmt.Errorf("reason: %d bytes, the limit is %d: %w", len(reason), maxReason, errBadRequest)
	}
	return nil
}

// admit returns the caller if it holds right.
func (a *Admin) admit(ctx context.Context, right Right) (peer.Caller, error) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return caller, ErrNobody
	}
	if a.holds(caller, right) {
		return caller, nil
	}
	return caller, &policy.Denial{
		Rule: "admin." + string(right), Reason: fmt.Sprintf("the caller does not hold the right %q", right),
		Hint: "an entry under admins: in the configuration gives rights",
	}
}

func (a *Admin) holds(caller peer.Caller, right Right) bool {
	for _, r := range a.Rights {
		if r.Who.Matches(caller) && r.Has(right) {
			return true
		}
	}
	return false
}

// A Right is what an operator may do.
type Right string

// The rights of decisions.md 10. Revoke may be held alone.
const (
	RightView    Right = "view"
	RightRotate  Right = "rotate"
	RightRevoke  Right = "revoke"
	RightDestroy Right = "destroy"
	RightPolicy  Right = "policy"
)

// An AdminRule gives rights to callers. The zero AdminRule gives none.
type AdminRule struct {
	Who    policy.CallerRule
	Rights []Right
}

// Has reports whether the rule gives right.
func (r AdminRule) Has(right Right) bool {
	for _, held := range r.Rights {
		if held == right {
			return true
		}
	}
	return false
}
