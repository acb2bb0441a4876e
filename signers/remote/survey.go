package remote

import (
	"context"
	"errors"
	"time"

	"github.com/signetd/signet/signers"
	signersv1 "github.com/signetd/signet/signers/api/v1"
)

// Survey describes the keys that the process holds.
func (b *Backend) Survey(ctx context.Context) (all []signers.Holding, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.call(ctx, func(l *life) error {
		r, err := l.api.SurveyKeys(ctx, &signersv1.SurveyRequest{})
		all = nil
		for _, h := range r.GetHoldings() {
			one := signers.Holding{
				ID: signers.KeyID(h.GetId()), Ref: h.GetRef(), Stray: h.GetStray(), AsAdopted: signers.KeyID(h.GetAsAdopted()),
				State: h.GetState(), MonthlyUSD: h.GetMonthlyUsd(),
			}
			if ns := h.GetCreatedNs(); ns != 0 {
				one.Created = time.Unix(0, ns)
			}
			all = append(all, one)
		}
		return fromCall(err)
	})
	return all, err
}

// Discard destroys one key in the process.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return err
	}
	return b.call(ctx, func(l *life) error {
		_, err := l.api.DiscardKey(ctx, &signersv1.DiscardRequest{Id: string(id), Ref: ref})
		return fromCall(err)
	})
}

// surveyor is the back-end in the process, if it is one.
func (s *server) surveyor() (signers.Surveyor, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	if surveyor, ok := b.(signers.Surveyor); ok {
		return surveyor, nil
	}
	return nil, onTheWire(signers.ErrUnsupported)
}

// SurveyKeys implements signersv1.BackendServer.
func (s *server) SurveyKeys(ctx context.Context, _ *signersv1.SurveyRequest) (*signersv1.SurveyReply, error) {
	b, err := s.surveyor()
	if err != nil {
		return nil, err
	}
	all, err := b.Survey(ctx)
	reply := &signersv1.SurveyReply{}
	for _, h := range all {
		one := &signersv1.Holding{
			Id: string(h.ID), Ref: h.Ref, Stray: h.Stray, AsAdopted: string(h.AsAdopted), State: h.State, MonthlyUsd: h.MonthlyUSD,
		}
		if !h.Created.IsZero() {
			one.CreatedNs = h.Created.UnixNano()
		}
		reply.Holdings = append(reply.Holdings, one)
	}
	return reply, onTheWire(err)
}

// DiscardKey implements signersv1.BackendServer.
func (s *server) DiscardKey(ctx context.Context, r *signersv1.DiscardRequest) (*signersv1.DiscardReply, error) {
	b, err := s.surveyor()
	if err == nil {
		err = onTheWire(b.Discard(ctx, signers.KeyID(r.GetId()), r.GetRef()))
	}
	return &signersv1.DiscardReply{}, err
}
