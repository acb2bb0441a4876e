package softkey

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/signetd/signet/signers"
)

// Survey describes every key. A reference is the fingerprint of the public key;
// a damaged file has none.
func (b *Backend) Survey(ctx context.Context) ([]signers.Holding, error) {
	ids, err := b.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("softkey: survey: %w", err)
	}
	var all []signers.Holding
	for _, id := range ids {
		h, err := b.holding(ctx, id)
		switch {
		case errors.Is(err, signers.ErrNotFound): // destroyed meanwhile
		case err != nil:
			return nil, fmt.Errorf("softkey: survey: %q: %w", id, err)
		default:
			all = append(all, h)
		}
	}
	return all, nil
}

func (b *Backend) holding(ctx context.Context, id signers.KeyID) (signers.Holding, error) {
	h := signers.Holding{ID: id, State: "usable"}
	if err := b.enter(ctx, id); err != nil {
		return h, err
	}
	defer b.gate.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	e, err := b.find(id)
	if errors.Is(err, errDamaged) {
		h.State = "damaged"
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if b.dir != nil {
		h.Created = b.dir.written(id)
	}
	h.Ref, err = signers.Fingerprint(e.pub)
	return h, err
}

// written is when a key's file was, zero if that can't be told: a file is
// written once.
func (d *dir) written(id signers.KeyID) time.Time {
	info, err := d.root.Lstat(path.Join(keysName, keyFile(id)))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Discard destroys the key whose id and fingerprint are both given.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	all, err := b.Survey(ctx)
	if err == nil {
		_, err = signers.PickHolding(all, id, ref)
	}
	if err != nil {
		return fmt.Errorf("softkey: discard: %w", err)
	}
	return b.Destroy(ctx, id)
}
