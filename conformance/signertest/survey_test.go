package signertest

import (
	"context"

	"github.com/signetd/signet/signers"
)

// Survey and Discard of the honest back-end.

func (m *memory) Survey(ctx context.Context) (all []signers.Holding, err error) {
	ids, err := m.List(ctx)
	for _, id := range ids {
		if p := m.find(id); p != nil {
			ref, err := signers.Fingerprint(p.priv.Public())
			if err != nil {
				return nil, err
			}
			all = append(all, signers.Holding{ID: id, Ref: ref})
		}
	}
	return all, err
}

func (m *memory) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	all, err := m.Survey(ctx)
	if err == nil {
		_, err = signers.PickHolding(all, id, ref)
	}
	if err != nil {
		return err
	}
	return m.Destroy(ctx, id)
}

// A surveyor breaks one promise of Survey or Discard.
type surveyor struct {
	*memory
	survey  func(context.Context) ([]signers.Holding, error)
	discard func(context.Context, signers.KeyID, string) error
}

func (s *surveyor) Survey(ctx context.Context) ([]signers.Holding, error) {
	if s.survey != nil {
		return s.survey(ctx)
	}
	return s.memory.Survey(ctx)
}

func (s *surveyor) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	if s.discard != nil {
		return s.discard(ctx, id, ref)
	}
	return s.memory.Discard(ctx, id, ref)
}

func discardsByID(m *memory) signers.Backend {
	return &surveyor{memory: m, discard: func(ctx context.Context, id signers.KeyID, _ string) error { return m.Destroy(ctx, id) }}
}

func discardsByRef(m *memory) signers.Backend {
	return &surveyor{memory: m, discard: func(ctx context.Context, _ signers.KeyID, ref string) error {
		all, err := m.Survey(ctx)
		for _, h := range all {
			if h.Ref == ref {
				return m.Destroy(ctx, h.ID)
			}
		}
		if err != nil {
			return err
		}
		return signers.ErrNotFound
	}}
}

func discardsNothing(m *memory) signers.Backend {
	return &surveyor{memory: m, discard: func(ctx context.Context, id signers.KeyID, ref string) error {
		_ = m.Discard(ctx, id, ref)
		return nil
	}}
}

func discardLeaves(m *memory) signers.Backend {
	return &surveyor{memory: m, discard: func(ctx context.Context, id signers.KeyID, ref string) error {
		all, err := m.Survey(ctx)
		if err == nil {
			_, err = signers.PickHolding(all, id, ref)
		}
		return err
	}}
}

func oneRefForAll(m *memory) signers.Backend {
	return &surveyor{memory: m, survey: func(ctx context.Context) ([]signers.Holding, error) {
		all, err := m.Survey(ctx)
		for i := range all {
			all[i].Ref = "key"
		}
		return all, err
	}}
}

func showsDestroyed(m *memory) signers.Backend {
	seen := map[string]signers.Holding{}
	return &surveyor{memory: m, survey: func(ctx context.Context) (all []signers.Holding, err error) {
		now, err := m.Survey(ctx)
		for _, h := range now {
			seen[h.Ref] = h
		}
		for _, h := range seen {
			all = append(all, h)
		}
		return all, err
	}}
}
