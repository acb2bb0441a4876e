package remote

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/signers"
	signersv1 "github.com/signetd/signet/signers/api/v1"
)

// A Key is a key in the process. It implements signers.Key, Doubter and
// Attester.
type Key struct {
	backend     *Backend
	id          signers.KeyID
	alg         signers.Algorithm
	public      crypto.PublicKey
	attestation []string
	doubted     atomic.Bool

	at      atomic.Pointer[opened]
	opening sync.Mutex // one opening at a time
}

// opened is where a key is open: a handle is good for one life.
type opened struct {
	life   *life
	handle uint64
}

// Create makes a key in the process.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return nil, err
	}
	l, err := b.process(ctx)
	if err != nil {
		return nil, err
	}
	// Not again in another life: the key may have been made.
	reply, err := l.api.CreateKey(ctx, &signersv1.KeyRequest{Id: string(id), Algorithm: string(alg)})
	if ended(err) {
		return nil, fmt.Errorf("back-end %q: create %q: %w", b.opts.Name, id, ErrDown)
	}
	if err != nil {
		return nil, fromCall(err)
	}
	return b.key(l, id, alg, reply)
}

// Open opens a key in the process.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return nil, err
	}
	var key *Key
	err := b.call(ctx, func(l *life) error {
		reply, err := l.api.OpenKey(ctx, &signersv1.KeyRequest{Id: string(id), Algorithm: string(alg)})
		if err == nil {
			key, err = b.key(l, id, alg, reply)
		}
		return fromCall(err)
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// key makes a Key of what the process says.
func (b *Backend) key(l *life, id signers.KeyID, alg signers.Algorithm, r *signersv1.KeyReply) (*Key, error) {
	pub, err := x509.ParsePKIXPublicKey(r.GetPublic())
	if err != nil {
		return nil, fmt.Errorf("back-end %q: key %q: %w: %w", b.opts.Name, id, signers.ErrMismatch, err)
	}
	if err := alg.Fits(pub); err != nil {
		return nil, fmt.Errorf("back-end %q: key %q: %w", b.opts.Name, id, err)
	}
	k := &Key{backend: b, id: id, alg: alg, public: pub, attestation: r.GetAttestation()}
	k.at.Store(&opened{l, r.GetHandle()})
	return k, nil
}

// Adopt takes over a key that Create did not make.
func (b *Backend) Adopt(ctx context.Context, ref, fingerprint string, alg signers.Algorithm) (signers.Adopted, error) {
	var a signers.Adopted
	err := b.call(ctx, func(l *life) error {
		r, err := l.api.AdoptKey(ctx, &signersv1.AdoptRequest{Ref: ref, Fingerprint: fingerprint, Algorithm: string(alg)})
		if err != nil {
			return fromCall(err)
		}
		key, err := b.key(l, signers.KeyID(r.GetId()), alg, r.GetKey())
		if err != nil {
			return err
		}
		a = signers.Adopted{ID: key.id, Key: key, Unattested: r.GetUnattested()}
		return nil
	})
	return a, err
}

// Destroy destroys a key in the process.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return err
	}
	return b.call(ctx, func(l *life) error {
		_, err := l.api.DestroyKey(ctx, &signersv1.DestroyRequest{Id: string(id)})
		return fromCall(err)
	})
}

// List lists the keys that Create made.
func (b *Backend) List(ctx context.Context) (ids []signers.KeyID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.call(ctx, func(l *life) error {
		r, err := l.api.ListKeys(ctx, &signersv1.ListRequest{})
		ids = nil
		for _, id := range r.GetIds() {
			ids = append(ids, signers.KeyID(id))
		}
		return fromCall(err)
	})
	return ids, err
}

// Public returns the public half, as it was when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attestation is what the back-end said of the key when it was opened.
func (k *Key) Attestation() []string { return slices.Clone(k.attestation) }

// Doubt has the key looked up again before it signs the next time.
func (k *Key) Doubt() { k.doubted.Store(true) }

// Sign has the process sign message.
func (k *Key) Sign(ctx context.Context, message []byte) (sig []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = k.backend.call(ctx, func(l *life) error {
		sig, err = k.signIn(ctx, l, message)
		return err
	})
	return sig, err
}

// signIn signs in one life of the process.
func (k *Key) signIn(ctx context.Context, l *life, message []byte) ([]byte, error) {
	l.calls.Add(1)
	defer l.calls.Done()
	if l.stopped.Load() {
		return nil, fmt.Errorf("back-end %q: %w", k.backend.opts.Name, signers.ErrClosed)
	}
	at, err := k.open(ctx, l)
	if err != nil {
		return nil, err
	}
	doubt := k.doubted.Swap(false)
	out, err := l.sign.Call(ctx, func(id uint64) *signersv1.SignItem {
		return &signersv1.SignItem{Id: id, Key: at.handle, Message: message, Doubt: doubt}
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("back-end %q: %w", k.backend.opts.Name, ctx.Err())
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error()) // the stream's end, whatever it says
	case out.GetCode() != 0:
		return nil, offTheWire(codes.Code(out.GetCode()), out.GetMessage())
	}
	return out.GetSignature(), nil
}

// open opens the key in a life that it is not open in yet. It must be the key
// that it was.
func (k *Key) open(ctx context.Context, l *life) (*opened, error) {
	if at := k.at.Load(); at.life == l {
		return at, nil
	}
	k.opening.Lock()
	defer k.opening.Unlock()
	if at := k.at.Load(); at.life == l {
		return at, nil
	}
	reply, err := l.api.OpenKey(ctx, &signersv1.KeyRequest{Id: string(k.id), Algorithm: string(k.alg)})
	if err != nil {
		return nil, fromCall(err)
	}
	again, err := k.backend.key(l, k.id, k.alg, reply)
	if err != nil {
		return nil, err
	}
	if !again.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(k.public) { //nolint:forcetypeassert // Algorithm.Fits knows its type
		return nil, fmt.Errorf("back-end %q: key %q: there is another key by this id now: %w", k.backend.opts.Name, k.id, signers.ErrMismatch)
	}
	at := again.at.Load()
	k.at.Store(at)
	return at, nil
}
