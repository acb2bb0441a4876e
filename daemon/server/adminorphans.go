package server

import (
	"context"
	"fmt"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/signers"
)

// surveyWithin bounds how long one back-end is looked through: a cloud account
// with thousands of keys takes a request for each.
const surveyWithin = 2 * time.Minute

// ListOrphans lists the keys of ours that no record claims. A back-end that
// can't be looked at does not hide what is in the others.
func (a *Admin) ListOrphans(ctx context.Context, r *signetv1.ListOrphansRequest) (*signetv1.ListOrphansReply, error) {
	if err := a.view(ctx, RightView, "key.orphans"); err != nil {
		return nil, err
	}
	// One at a time: each costs requests, which a view must not multiply.
	if !a.surveying.TryLock() {
		return nil, a.Pipeline.onTheWire(fmt.Errorf("another survey is under way: %w", signers.ErrBusy))
	}
	defer a.surveying.Unlock()
	backends := a.Pipeline.Ring.Backends()
	if r.GetBackend() != "" {
		backends = []string{r.GetBackend()}
	}
	reply := &signetv1.ListOrphansReply{PricesAsOf: a.About.PricesAsOf}
	for _, name := range backends {
		found, err := a.orphans(ctx, name)
		if err != nil {
			st, _ := wire(err)
			reply.Unseen = append(reply.Unseen, &signetv1.Part{Kind: "backend", Name: name, Detail: st.Message()})
			_ = a.Pipeline.onTheWire(err) // it is logged there
		}
		reply.Orphans = append(reply.Orphans, found...)
	}
	return reply, nil
}

func (a *Admin) orphans(ctx context.Context, backend string) ([]*signetv1.Orphan, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyWithin)
	defer cancel()
	found, err := a.Pipeline.Ring.Orphans(ctx, backend)
	var all []*signetv1.Orphan
	for _, o := range found {
		all = append(all, orphanOf(o))
	}
	return all, err
}

// CleanOrphan destroys one key that no record claims, named by id and by
// reference: nothing is ever destroyed because a list has it.
func (a *Admin) CleanOrphan(ctx context.Context, r *signetv1.CleanOrphanRequest) (*signetv1.CleanOrphanReply, error) {
	why := r.GetReason()
	if why != "" {
		why += fmt.Sprintf(" (back-end %s, %s)", r.GetBackend(), r.GetRef())
	}
	if r.GetYoung() && why != "" {
		why += " (young, accepted)"
	}
	var orphan keyring.Orphan
	_, err := a.recorded(ctx, RightDestroy, audit.Event{Op: "key.orphan.clean", Key: r.GetBackendId(), Reason: why}, func(ctx context.Context) (v keyring.Version, err error) {
		if r.GetBackend() == "" || r.GetBackendId() == "" || r.GetRef() == "" {
			return v, fmt.Errorf("backend, backend_id and ref: all are needed: %w\nhint: copy them whole from `signet key orphans`", errBadRequest)
		}
		ctx, cancel := context.WithTimeout(ctx, surveyWithin)
		defer cancel()
		orphan, err = a.Pipeline.Ring.Clean(ctx, keyring.Cleaning{
			Backend: r.GetBackend(), ID: signers.KeyID(r.GetBackendId()), Ref: r.GetRef(), Young: r.GetYoung(),
		})
		return v, err
	})
	if err != nil {
		return nil, a.Pipeline.onTheWire(err)
	}
	return &signetv1.CleanOrphanReply{Orphan: orphanOf(orphan)}, nil
}

// orphanOf is an orphan on the wire.
func orphanOf(o keyring.Orphan) *signetv1.Orphan {
	return &signetv1.Orphan{
		Backend: o.Backend, BackendId: string(o.ID), Ref: o.Ref, Kind: string(o.Origin), State: o.State,
		Created: unix(o.Created), Young: o.Young, MonthlyUsd: o.MonthlyUSD,
	}
}
