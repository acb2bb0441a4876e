package signertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// A store is what outlives a back-end: the disk, the token.
type store struct {
	mu   sync.Mutex
	keys map[signers.KeyID]*pair
	down atomic.Bool
}

type pair struct {
	mu   sync.RWMutex // read-held while signing
	alg  signers.Algorithm
	priv crypto.Signer
	gone bool
}

// memory is the honest back-end: as short as the contract allows, and the base
// that every planted fault starts from.
type memory struct {
	*store
	ending sync.RWMutex // read-held while signing
	closed bool

	forEver bool // a fault does not end
	broken  atomic.Bool
}

type handle struct {
	m *memory
	p *pair
}

func (m *memory) check(ctx context.Context, id signers.KeyID, alg signers.Algorithm) error {
	if _, err := alg.Params(); err != nil {
		return err
	}
	return m.checkID(ctx, id)
}

func (m *memory) checkID(ctx context.Context, id signers.KeyID) error {
	m.ending.RLock()
	defer m.ending.RUnlock()
	if m.closed {
		return signers.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return id.Check()
}

func (m *memory) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if err := m.check(ctx, id, alg); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[id] != nil {
		return nil, signers.ErrExists
	}
	m.keys[id] = &pair{alg: alg, priv: generate(alg)}
	return &handle{m, m.keys[id]}, nil
}

func (m *memory) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if err := m.check(ctx, id, alg); err != nil {
		return nil, err
	}
	p := m.find(id)
	if p == nil {
		return nil, signers.ErrNotFound
	}
	if p.alg != alg {
		return nil, signers.ErrMismatch
	}
	return &handle{m, p}, nil
}

func (m *memory) find(id signers.KeyID) *pair {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[id]
}

func (m *memory) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := m.checkID(ctx, id); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.keys[id]; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gone = true
	}
	delete(m.keys, id)
	return nil
}

func (m *memory) List(ctx context.Context) ([]signers.KeyID, error) {
	if err := m.checkID(ctx, "any"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []signers.KeyID
	for id := range m.keys {
		ids = append(ids, id)
	}
	return ids, nil
}

func (m *memory) Close() error {
	m.ending.Lock()
	defer m.ending.Unlock()
	m.closed = true
	return nil
}

func (h *handle) Public() crypto.PublicKey { return h.p.priv.Public() }

func (h *handle) Sign(ctx context.Context, message []byte) ([]byte, error) {
	h.m.ending.RLock()
	defer h.m.ending.RUnlock()
	if h.m.closed {
		return nil, signers.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.m.down.Load() || h.m.broken.Load() {
		h.m.broken.Store(h.m.forEver)
		return nil, signers.ErrUnavailable
	}
	h.p.mu.RLock()
	defer h.p.mu.RUnlock()
	if h.p.gone {
		return nil, signers.ErrNotFound
	}
	return sign(h.p.priv, h.p.alg, message)
}

func sign(priv crypto.Signer, alg signers.Algorithm, message []byte) ([]byte, error) {
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	if p.PSS {
		return crypto.SignMessage(priv, rand.Reader, message, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: p.Hash})
	}
	return crypto.SignMessage(priv, rand.Reader, message, p.Hash)
}

// generate panics on failure: the machine has no randomness, or a fault in
// this file asked for an algorithm that check refuses.
func generate(alg signers.Algorithm) crypto.Signer {
	p, err := alg.Params()
	if err != nil {
		panic(err)
	}
	var priv crypto.Signer
	switch p.Kind {
	case signers.KindECDSA:
		priv, err = ecdsa.GenerateKey(p.Curve, rand.Reader)
	case signers.KindRSA:
		priv, err = rsa.GenerateKey(rand.Reader, p.Bits)
	case signers.KindEd25519:
		_, priv, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return priv
}
