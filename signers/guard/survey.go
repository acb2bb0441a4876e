package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/signers"
)

// Survey says what keys the back-end holds, but for the one that this guard
// makes its checks with. Of a back-end that only lists, ids are all there is.
func (b *Backend) Survey(ctx context.Context) ([]signers.Holding, error) {
	inner, err := b.opened()
	if err != nil {
		return nil, err
	}
	all, err := survey(ctx, inner)
	if errors.Is(err, signers.ErrUnsupported) {
		return nil, fmt.Errorf("back-end %q does not list its keys: %w", b.cfg.Name, err)
	}
	return slices.DeleteFunc(all, func(h signers.Holding) bool { return b.inUse(h.ID) && !h.Stray }), err
}

func survey(ctx context.Context, b signers.Backend) (all []signers.Holding, err error) {
	if s, ok := b.(signers.Surveyor); ok {
		return s.Survey(ctx)
	}
	l, ok := b.(signers.Lister)
	if !ok {
		return nil, signers.ErrUnsupported
	}
	ids, err := l.List(ctx)
	for _, id := range ids {
		all = append(all, signers.Holding{ID: id, Ref: string(id)})
	}
	return all, err
}

// Discard destroys one key, which must not be the one that checks are made with.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	inner, err := b.opened()
	if err != nil {
		return err
	}
	if s, ok := inner.(signers.Surveyor); ok {
		return s.Discard(ctx, id, ref)
	}
	all, err := survey(ctx, inner)
	if err == nil {
		_, err = signers.PickHolding(all, id, ref)
	}
	if err != nil {
		return fmt.Errorf("back-end %q: discard: %w", b.cfg.Name, err)
	}
	return inner.Destroy(ctx, id)
}

// inUse reports whether health checks are made with a key.
func (b *Backend) inUse(id signers.KeyID) bool {
	alg := b.watched.Load()
	return alg != nil && id == healthID(*alg)
}
