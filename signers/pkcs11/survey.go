package pkcs11

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// Survey describes the keys that List lists. A reference is the fingerprint of
// the public key: an id can be given again, and a module may cut it.
func (b *Backend) Survey(ctx context.Context) (all []signers.Holding, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.with(ctx, func(s *session) error {
		all = nil
		end := monotonic() + int64(makeTimeout)
		private, err := b.listClass(s, pkcs11.CKO_PRIVATE_KEY, end)
		if err != nil {
			return err
		}
		public, err := b.listClass(s, pkcs11.CKO_PUBLIC_KEY, end)
		if err != nil {
			return err
		}
		for _, id := range slices.Sorted(maps.Keys(private)) {
			if b.isOurs(s, id, private[id]) {
				all = append(all, b.holding(s, id, private[id], public[id]))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pkcs11: survey: %w", err)
	}
	return all, nil
}

// isOurs reports whether a private key has our form of id, and it as its label
// too, as Create gives it.
func (b *Backend) isOurs(s *session, id string, private []pkcs11.ObjectHandle) bool {
	if signers.KeyID(id).Check() != nil {
		return false
	}
	for _, o := range private {
		label, err := b.attribute(s.handle, o, pkcs11.CKA_LABEL)
		if err == nil && bytes.Equal(label, []byte(id)) {
			return true
		}
	}
	return false
}

// holding describes a key. One that is not a pair has no reference: which of
// its objects is ours can't be told, so none is ever destroyed for it.
func (b *Backend) holding(s *session, id string, private, public []pkcs11.ObjectHandle) signers.Holding {
	h := signers.Holding{ID: signers.KeyID(id), State: "usable"}
	if len(private) != 1 || len(public) != 1 {
		h.State = fmt.Sprintf("%d private and %d public objects", len(private), len(public))
		return h
	}
	s.expect(b.cfg.HangAfter)
	var err error
	if h.Ref, err = b.fingerprint(s.handle, public[0]); err != nil {
		h.State = "its public key can't be read"
		return h
	}
	h.AsAdopted = idOfAdopted(hex.EncodeToString([]byte(id)), h.Ref)
	return h
}

// fingerprint is that of a public key of any algorithm.
func (b *Backend) fingerprint(s pkcs11.SessionHandle, public pkcs11.ObjectHandle) (string, error) {
	kind, err := b.attribute(s, public, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return "", err
	}
	for _, alg := range signers.Algorithms() {
		m, err := mechanismOf(alg, b.cfg.Quirks)
		if err != nil || ulong(kind) != uint64(m.keyType) {
			continue
		}
		if pub, err := b.public(s, public, alg); err == nil {
			return signers.Fingerprint(pub)
		}
	}
	return "", fmt.Errorf("a key of type 0x%x: %w", ulong(kind), signers.ErrUnsupported)
}

// Discard destroys the key pair whose id and fingerprint are both given.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	all, err := b.Survey(ctx)
	if err == nil {
		_, err = signers.PickHolding(all, id, ref)
	}
	if err != nil {
		return fmt.Errorf("pkcs11: discard: %w", err)
	}
	return b.Destroy(ctx, id)
}
