package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/signers"
)

// ErrUnattested says that a back-end does not vouch for a key as it does for
// those that it makes for us, and that nobody has accepted that.
var ErrUnattested = errors.New("the back-end does not vouch for all of it")

// An Adoption names a key that somebody else made.
type Adoption struct {
	Ref         string   // what the back-end calls it: for PKCS #11, CKA_ID in hex
	Fingerprint string   // SHA-256 of its SubjectPublicKeyInfo, in hex
	Accept      []string // what the back-end need not vouch for
}

// Adopt makes a key that is in its back-end already name's next version, or
// its first, and publishes it.
func (r *Ring) Adopt(ctx context.Context, name string, spec Spec, a Adoption) (Version, error) {
	if err := r.checkSpec(name, spec); err != nil {
		return Version{}, err
	}
	id, err := r.adoptable(ctx, name, spec, a)
	if err != nil {
		return Version{}, fmt.Errorf("key %q: adopt: %w", name, err)
	}
	var number int
	err = r.edit(ctx, name, func(e *Entry) (err error) {
		number, err = r.reserveAdopted(e, name, spec, id)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return r.finish(ctx, name, number)
}

// adoptable asks the back-end for the key, and whether it may be adopted.
func (r *Ring) adoptable(ctx context.Context, name string, spec Spec, a Adoption) (signers.KeyID, error) {
	backend, err := r.backend(name, spec.Backend)
	if err != nil {
		return "", err
	}
	adopter, ok := backend.(signers.Adopter)
	if !ok {
		return "", fmt.Errorf("back-end %q adopts no keys: %w", spec.Backend, signers.ErrUnsupported)
	}
	found, err := adopter.Adopt(ctx, a.Ref, a.Fingerprint, spec.Algorithm)
	if err != nil {
		return "", err
	}
	missing := slices.DeleteFunc(slices.Clone(found.Unattested), func(s string) bool { return slices.Contains(a.Accept, s) })
	if len(missing) > 0 {
		return "", fmt.Errorf("%w: %s\nhint: if you know where the key comes from and accept that, say so: --accept %s",
			ErrUnattested, strings.Join(missing, ", "), strings.Join(found.Unattested, ","))
	}
	return found.ID, nil
}

// reserveAdopted puts an adopted key on record as the next version; one that was cut off
// half-way is finished.
func (r *Ring) reserveAdopted(e *Entry, name string, spec Spec, id signers.KeyID) (int, error) {
	if e.free() {
		*e = Entry{Name: name, Backend: spec.Backend, Algorithm: spec.Algorithm, Format: spec.Format, Versions: e.Versions}
	} else if err := e.Is(spec); err != nil {
		return 0, err
	}
	for _, v := range e.Versions {
		switch {
		case v.ID == id && v.State == Creating:
			return v.Number, nil
		case v.ID == id && v.State != Destroyed:
			return 0, fmt.Errorf("key %q: version %d is that key: %w", name, v.Number, ErrExists)
		}
	}
	if half := e.in(Creating); len(half) > 0 {
		return 0, fmt.Errorf("key %q: version %d is half made: %w\nhint: signet key rotate %s finishes it", name, half[0].Number, ErrIllegalMove, name)
	}
	if err := r.roomFor(e); err != nil {
		return 0, err
	}
	n := len(e.Versions) + 1
	e.Versions = append(e.Versions, Version{Number: n, ID: id, State: Creating, Created: r.now(), Adopted: true})
	return n, nil
}
