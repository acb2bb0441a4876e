package softkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// An entry is one key pair, ready to sign.
type entry struct {
	id   signers.KeyID
	alg  signers.Algorithm
	priv crypto.Signer
	pub  crypto.PublicKey // made once: the caller asks for each token
	opts crypto.SignerOpts
	gone atomic.Bool // destroyed
}

// newEntry refuses a key that is not of the kind and size alg names.
func newEntry(id signers.KeyID, alg signers.Algorithm, priv crypto.Signer) (*entry, error) {
	pub := priv.Public()
	if err := alg.Fits(pub); err != nil {
		return nil, err
	}
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	e := &entry{id: id, alg: alg, priv: priv, pub: pub, opts: p.Hash}
	if p.PSS {
		e.opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: p.Hash}
	}
	return e, nil
}

// sign makes DER for ECDSA and raw bytes for the rest, as the standard
// library does for each of these keys.
func (e *entry) sign(message []byte) ([]byte, error) {
	digest, err := e.alg.Digest(message)
	if err != nil {
		return nil, err
	}
	return e.priv.Sign(rand.Reader, digest, e.opts)
}

// generate makes a key pair, and stops waiting for it when ctx ends: RSA
// generation cannot be interrupted, and ends by itself.
func generate(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (*entry, error) {
	type result struct {
		priv crypto.Signer
		err  error
	}
	made := make(chan result, 1)
	go func() {
		priv, err := generateKey(alg)
		made <- result{priv, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-made:
		if err := ctx.Err(); err != nil {
			return nil, err // the caller has gone: make no key
		}
		if r.err != nil {
			return nil, r.err
		}
		return newEntry(id, alg, r.priv)
	}
}

func generateKey(alg signers.Algorithm) (crypto.Signer, error) {
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	switch p.Kind {
	case signers.KindECDSA:
		return ecdsa.GenerateKey(p.Curve, rand.Reader)
	case signers.KindEd25519:
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		return priv, err
	case signers.KindRSA:
		return rsa.GenerateKey(rand.Reader, p.Bits)
	default:
		return nil, fmt.Errorf("kind %q: %w", p.Kind, signers.ErrUnsupported)
	}
}

// A gate lets calls in until it is closed, and close waits until the last one
// has left. It is not a sync.RWMutex because there a waiting writer holds up
// new readers, who could then not see their context end.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // made by close, closed by the last to leave
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close says whether it was the first to close the gate. Every call waits.
func (g *gate) close() (first bool) {
	g.mu.Lock()
	first = !g.closed
	if first {
		g.closed = true
		g.empty = make(chan struct{})
		if g.inside == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	<-g.empty
	return first
}
