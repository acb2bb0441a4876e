package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/keyring"
)

// CreateKey makes the first version of a key that the configuration names and
// activates it, unless asked to leave it staged.
func (a *Admin) CreateKey(ctx context.Context, r *signetv1.CreateKeyRequest) (*signetv1.KeyReply, error) {
	e := audit.Event{Op: "key.create", Key: r.GetName(), Reason: r.GetReason()}
	return a.change(ctx, RightRotate, e, func(ctx context.Context) (keyring.Version, error) {
		spec, ok := a.Keys[r.GetName()]
		if !ok {
			return keyring.Version{}, notConfigured(r.GetName())
		}
		v, err := a.Pipeline.Ring.Create(ctx, r.GetName(), spec)
		if err != nil || r.GetStaged() {
			return v, err
		}
		return a.Pipeline.Ring.Activate(ctx, r.GetName(), v.Number, keyring.Activation{Keep: a.Keep(r.GetName())})
	})
}

// AdoptKey takes over a key that somebody else made in the back-end, as the
// next version; the first one signs at once, unless asked to leave it staged.
func (a *Admin) AdoptKey(ctx context.Context, r *signetv1.AdoptKeyRequest) (*signetv1.KeyReply, error) {
	why := r.GetReason()
	if len(r.GetAccept()) > 0 && why != "" {
		why += " (accepted without the back-end's word: " + strings.Join(r.GetAccept(), ", ") + ")"
	}
	e := audit.Event{Op: "key.adopt", Key: r.GetName(), Reason: why}
	return a.change(ctx, RightRotate, e, func(ctx context.Context) (keyring.Version, error) {
		spec, ok := a.Keys[r.GetName()]
		if !ok {
			return keyring.Version{}, notConfigured(r.GetName())
		}
		v, err := a.Pipeline.Ring.Adopt(ctx, r.GetName(), spec, keyring.Adoption{
			Ref: r.GetRef(), Fingerprint: strings.ToLower(r.GetFingerprint()), Accept: r.GetAccept(),
		})
		if err != nil || r.GetStaged() || v.Number > 1 {
			return v, err
		}
		return a.Pipeline.Ring.Activate(ctx, r.GetName(), v.Number, keyring.Activation{Keep: a.Keep(r.GetName())})
	})
}

func notConfigured(name string) error {
	return fmt.Errorf("key %q is not in the configuration: %w\nhint: add it under keys:, then restart the daemon", name, keyring.ErrUnknownKey)
}

// Rotate makes and publishes the next version; it does not sign yet.
func (a *Admin) Rotate(ctx context.Context, r *signetv1.KeyRequest) (*signetv1.KeyReply, error) {
	return a.change(ctx, RightRotate, eventFor("key.rotate", r), func(ctx context.Context) (keyring.Version, error) {
		return a.Pipeline.Ring.Rotate(ctx, r.GetName())
	})
}

// Activate makes a published version the one that signs and retires the one
// that did.
func (a *Admin) Activate(ctx context.Context, r *signetv1.KeyRequest) (*signetv1.KeyReply, error) {
	e := eventFor("key.activate", r)
	if r.GetBeforeLeadTime() {
		e.Op = "key.activate.before_lead_time"
	}
	return a.change(ctx, RightRotate, e, func(ctx context.Context) (keyring.Version, error) {
		n, err := a.pick(r, keyring.Published)
		if err != nil {
			return keyring.Version{}, err
		}
		how := keyring.Activation{Early: r.GetBeforeLeadTime(), Keep: a.Keep(r.GetName())}
		return a.Pipeline.Ring.Activate(ctx, r.GetName(), n, how)
	})
}

// Retire stops the signing version without a successor.
func (a *Admin) Retire(ctx context.Context, r *signetv1.KeyRequest) (*signetv1.KeyReply, error) {
	return a.change(ctx, RightRotate, eventFor("key.retire", r), func(ctx context.Context) (keyring.Version, error) {
		n, err := a.pick(r, keyring.Signing)
		if err != nil {
			return keyring.Version{}, err
		}
		return a.Pipeline.Ring.Retire(ctx, r.GetName(), n, a.Keep(r.GetName()))
	})
}

// Revoke takes a version out of every published set at once. It wants the
// version named: what to revoke is never guessed.
func (a *Admin) Revoke(ctx context.Context, r *signetv1.KeyRequest) (*signetv1.KeyReply, error) {
	return a.change(ctx, RightRevoke, eventFor("key.revoke", r), func(ctx context.Context) (keyring.Version, error) {
		if r.GetVersion() == 0 {
			return keyring.Version{}, fmt.Errorf("version: missing: %w\nhint: name the version to revoke; `signet key list` shows them", errBadRequest)
		}
		return a.Pipeline.Ring.Revoke(ctx, r.GetName(), int(r.GetVersion()))
	})
}

// Destroy destroys a version's private key in its back-end, for good.
func (a *Admin) Destroy(ctx context.Context, r *signetv1.KeyRequest) (*signetv1.KeyReply, error) {
	return a.change(ctx, RightDestroy, eventFor("key.destroy", r), func(ctx context.Context) (keyring.Version, error) {
		if r.GetVersion() == 0 || r.GetConfirmKid() == "" {
			return keyring.Version{}, fmt.Errorf("version and confirm_kid: both are needed: %w\nhint: repeat the whole kid that `signet key list` shows", errBadRequest)
		}
		return a.Pipeline.Ring.Destroy(ctx, r.GetName(), int(r.GetVersion()), r.GetConfirmKid())
	})
}

func eventFor(op string, r *signetv1.KeyRequest) audit.Event {
	return audit.Event{Op: op, Key: r.GetName(), Version: int(r.GetVersion()), Reason: r.GetReason()}
}

// pick returns the version asked for, or, where none was, the only one in
// state want.
func (a *Admin) pick(r *signetv1.KeyRequest, want keyring.State) (int, error) {
	if r.GetVersion() != 0 {
		return int(r.GetVersion()), nil
	}
	var found []int
	for _, v := range a.entry(r.GetName()).Versions {
		if v.State == want {
			found = append(found, v.Number)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("version: key %q has %d versions that are %s: %w\nhint: name one; `signet key list` shows them", r.GetName(), len(found), want, errBadRequest)
	}
	return found[0], nil
}

func (a *Admin) entry(name string) keyring.Entry {
	for _, e := range a.Pipeline.Ring.List() {
		if e.Name == name {
			return e
		}
	}
	return keyring.Entry{}
}

func (a *Admin) key(name string) *signetv1.Key { return keyOf(a.entry(name)) }

// keyOf is a record on the wire.
func keyOf(e keyring.Entry) *signetv1.Key {
	k := &signetv1.Key{Name: e.Name, Backend: e.Backend, Algorithm: string(e.Algorithm), Format: e.Format}
	for _, v := range e.Versions {
		k.Versions = append(k.Versions, &signetv1.Version{
			Number: number(v.Number), State: string(v.State), Kid: v.Kid, BackendId: string(v.ID), Public: v.Public,
			Created: unix(v.Created), Published: unix(v.Published), Activated: unix(v.Activated), Retired: unix(v.Retired),
			Unpublish: unix(v.Unpublish), Revoked: unix(v.Revoked), Destroyed: unix(v.Destroyed),
		})
	}
	return k
}

// number is a version number on the wire.
func number(n int) uint32 {
	return uint32(n) //nolint:gosec // version numbers start at 1 and count rotations
}

// unix is a time on the wire: 0 if it never was.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
