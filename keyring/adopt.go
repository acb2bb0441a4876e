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

// ErrNotAdopted says that there is no such key in the back-end, or that it is
// not the one that was named or can't be a key of ours. It wraps the cause.
var ErrNotAdopted = errors.New("not adopted")

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
	found, err := r.adoptable(ctx, name, spec, a)
	if err != nil {
		return Version{}, fmt.Errorf("key %q: adopt: %w", name, err)
	}
	var number int
	err = r.edit(ctx, name, func(e *Entry) (err error) {
		number, err = r.reserveAdopted(e, name, spec, found)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return r.finish(ctx, name, number)
}

// adoptable asks the back-end for the key, and whether it may be adopted.
func (r *Ring) adoptable(ctx context.Context, name string, spec Spec, a Adoption) (signers.Adopted, error) {
	backend, err := r.backend(name, spec.Backend)
	if err != nil {
		return signers.Adopted{}, err
	}
	adopter, ok := backend.(signers.Adopter)
	if !ok {
		return signers.Adopted{}, fmt.Errorf("%w: back-end %q adopts no keys: %w\nhint: make one with signet key create", ErrNotAdopted, spec.Backend, signers.ErrUnsupported)
	}
	found, err := adopter.Adopt(ctx, a.Ref, a.Fingerprint, spec.Algorithm)
	if errors.Is(err, signers.ErrMismatch) || errors.Is(err, signers.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrNotAdopted, err)
	}
	if err != nil {
		return signers.Adopted{}, err
	}
	missing := slices.DeleteFunc(slices.Clone(found.Unattested), func(s string) bool { return slices.Contains(a.Accept, s) })
	if len(missing) > 0 {
		return signers.Adopted{}, fmt.Errorf("%w: %s\nhint: if you know where the key comes from and accept that, say so: --accept %s",
			ErrUnattested, strings.Join(missing, ", "), strings.Join(found.Unattested, ","))
	}
	return found, nil
}

// reserveAdopted puts an adopted key on record as the next version; one that
// was cut off half-way is finished. A key that is on record already, here or
// under another name, is refused before anything is reserved: giving up that
// reservation would destroy it.
func (r *Ring) reserveAdopted(e *Entry, name string, spec Spec, found signers.Adopted) (int, error) {
	if e.free() {
		*e = Entry{Name: name, Backend: spec.Backend, Algorithm: spec.Algorithm, Format: spec.Format, Blind: spec.Blind, Versions: e.Versions}
	} else if err := e.Is(spec); err != nil {
		return 0, err
	}
	if half := e.in(Creating); len(half) > 0 {
		if half[0].ID == found.ID {
			return half[0].Number, nil
		}
		return 0, fmt.Errorf("key %q: version %d is half made: %w\nhint: signet key rotate %s finishes it", name, half[0].Number, ErrIllegalMove, name)
	}
	thumbprint, err := Thumbprint(found.Key.Public())
	if err != nil {
		return 0, err
	}
	if owner, taken := r.claimed(thumbprint); taken {
		return 0, fmt.Errorf("key %q: that public key is on record as key %q version %d: %w", name, owner.name, owner.number, ErrExists)
	}
	if err := r.roomFor(e); err != nil {
		return 0, err
	}
	n := len(e.Versions) + 1
	e.Versions = append(e.Versions, Version{Number: n, ID: found.ID, State: Creating, Created: r.now(), Adopted: true})
	return n, nil
}
