package keyring

import (
	"context"
	"fmt"
	"time"
)

// Destroy destroys a version's private key: one that was revoked, one that was
// retired and is needed by no verifier, or one that was never finished. The
// whole kid (of an unfinished version: its id) says that it is the one meant.
//
// Journal, back-end, record, in this order. A crash before the record is saved
// leaves a version that says it has a key and has none; Destroy is repeated,
// and to a back-end an absent key is no error. The other way round a crash
// would leave a key in the back-end that its record calls destroyed, which
// nobody would ever look for.
func (r *Ring) Destroy(ctx context.Context, name string, number int, kid string) (Version, error) {
	err := r.making(ctx, name, func() error {
		v, err := r.version(name, number)
		if err != nil {
			return err
		}
		if err := r.mayDestroy(name, v, kid); err != nil {
			return err
		}
		return r.destroy(ctx, name, v)
	})
	if err != nil {
		return Version{}, err
	}
	return r.version(name, number)
}

func (r *Ring) destroy(ctx context.Context, name string, v Version) error {
	at, err := r.look(name)
	if err != nil {
		return err
	}
	backend, err := r.backend(name, at.entry.Backend)
	if err != nil {
		return err
	}
	if v.State != Destroyed {
		if err := r.tell(ctx, Move{name, v.Number, v.State, Destroyed, v.Kid, nil}); err != nil {
			return err
		}
	}
	// An adoption that was never finished is given up; the key is not ours.
	if !v.Adopted || v.Kid != "" {
		if err := backend.Destroy(ctx, v.ID); err != nil {
			return fmt.Errorf("key %q version %d: %w", name, v.Number, err)
		}
	}
	// The key is gone, so its record outlives the caller.
	told := func(context.Context, Entry, Entry) error { return nil }
	return r.editAfter(context.WithoutCancel(ctx), name, told, func(e *Entry) error {
		v, err := e.version(v.Number)
		if err != nil || v.State == Destroyed {
			return err
		}
		v.Destroyed = r.now()
		return v.move(Destroyed)
	})
}

func (r *Ring) mayDestroy(name string, v Version, kid string) error {
	want := v.Kid
	if want == "" {
		want = string(v.ID)
	}
	if kid != want {
		return fmt.Errorf("key %q version %d: the kid given is not its own: %w\nhint: copy it whole from `signet key show %s`", name, v.Number, ErrUnknownKid, name)
	}
	if v.State != Destroyed && !Legal(v.State, Destroyed) {
		return fmt.Errorf("key %q version %d: %s to destroyed: %w\nhint: revoke it first, or retire it and wait", name, v.Number, v.State, ErrIllegalMove)
	}
	if v.State == Retired && r.opts.Now().Before(v.Unpublish) {
		return fmt.Errorf("key %q version %d: %w: its tokens are good until %s\nhint: wait, or revoke it first", name, v.Number, ErrTooEarly, v.Unpublish.Format(time.RFC3339))
	}
	return nil
}
