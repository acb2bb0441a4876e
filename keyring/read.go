package keyring

import (
	"cmp"
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/signers"
)

// What is here reads a snapshot: it takes no lock and asks no store and no
// back-end, so nothing that is slow there can hold a request up.

// Current returns the version of name that signs. Take it once for each token:
// the key named in the token is then the key that signs it, even if a rotation
// happens in between.
func (r *Ring) Current(name string) (*Key, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	if v.signing == nil {
		return nil, fmt.Errorf("key %q: %w\nhint: signet key list, then signet key activate %s VERSION", name, ErrNoSigner, name)
	}
	if v.signing.status.quarantine.Load() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSigner, v.signing.quarantined())
	}
	return v.signing, nil
}

// Named returns the version of name that has kid, if it may sign bytes that
// name it: it signs now, or was retired less than Drain ago.
func (r *Ring) Named(name, kid string) (*Key, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	k, ok := v.byKid[kid]
	if !ok {
		return nil, fmt.Errorf("key %q: %w\nhint: fetch the public keys again and name the current one", name, ErrUnknownKid)
	}
	if err := k.maySign(); err != nil {
		return nil, err
	}
	return k, nil
}

// List returns every key's record, sorted by name.
func (r *Ring) List() []Entry {
	var all []Entry
	for _, s := range *r.keys.Load() {
		if v := s.view.Load(); v != nil {
			all = append(all, v.entry.clone())
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// A PublicVersion is what verifiers need of a version.
type PublicVersion struct {
	Number    int
	Kid       string
	Algorithm signers.Algorithm
	State     State
	Public    crypto.PublicKey
}

// Verifiers returns the versions of name that verifiers may meet: published,
// signing, and retired until their last token has expired. Oldest first.
func (r *Ring) Verifiers(name string) ([]PublicVersion, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	var all []PublicVersion
	now := r.opts.Now()
	for _, version := range v.entry.Versions {
		if version.visible(now) {
			k := v.keys[version.Number]
			all = append(all, PublicVersion{version.Number, version.Kid, v.entry.Algorithm, version.State, k.public})
		}
	}
	return all, nil
}

// A Problem is a version that can't do what its state says.
type Problem struct {
	Name    string
	Version int
	Reason  string
}

// Problems lists versions that can't sign although they should, as far as is
// known without asking their back-ends, and those in quarantine.
func (r *Ring) Problems() []Problem {
	var all []Problem
	for _, s := range *r.keys.Load() {
		v := s.view.Load()
		if v == nil {
			continue
		}
		for _, version := range v.entry.Versions {
			if reason := v.problem(version); reason != "" {
				all = append(all, Problem{v.entry.Name, version.Number, reason})
			}
		}
	}
	slices.SortFunc(all, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Version-b.Version)
	})
	return all
}

func (v *view) problem(version Version) string {
	k := v.keys[version.Number]
	if k == nil || version.State == Revoked || version.State == Destroyed {
		return ""
	}
	if why := k.status.quarantine.Load(); why != nil {
		return "quarantined: " + *why
	}
	if err := k.status.failed.Load(); err != nil && version.State != Retired {
		return (*err).Error()
	}
	return ""
}
