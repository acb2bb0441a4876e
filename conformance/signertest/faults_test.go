package signertest

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// A fault breaks one promise of an honest back-end.
type fault struct {
	name   string
	checks []string // every one of these must catch it
	plant  func(*memory) signers.Backend
	algs   []signers.Algorithm // nil: few
}

func (f fault) algorithms() []signers.Algorithm {
	if f.algs != nil {
		return f.algs
	}
	return few
}

func faults() []fault {
	rsa := []signers.Algorithm{"rsa2048-pss-sha256", "rsa2048-pkcs1-sha256"}
	return []fault{
		{"can't list", []string{"opens"}, cantList, nil},
		{"fails for one algorithm", []string{"offers"}, failsForOne, nil},
		{"stays down", []string{"faults"}, staysDown, nil},
		{"signs another message", []string{"sign-ed25519", "sign-ecdsa-p256-sha256"}, signing(signsAnother), nil},
		{"shows another public key", []string{"sign-ed25519", "sign-ecdsa-p256-sha256", "public"}, signing(showsAnother), nil},
		{"cuts long messages", []string{"message-lengths"}, signing(cutsMessages), nil},
		{"refuses no message", []string{"message-lengths"}, signing(refusesEmpty), nil},
		{"hashes in place", []string{"buffers"}, signing(wipesMessage), nil},
		{"one buffer for all answers", []string{"buffers"}, signing(sharesBuffer), nil},
		{"one key for all ids", []string{"public"}, oneKeyForAll, nil},
		{"R‖S instead of DER", []string{"ecdsa-form"}, signing(signsRaw), nil},
		{"remembers signatures", []string{"ecdsa-form"}, signing(remembers), nil},
		{"Create replaces", []string{"create-twice"}, createReplaces, nil},
		{"Create finds", []string{"create-twice"}, createFinds, nil},
		{"a key beside the error", []string{"create-twice"}, keyBesideError, nil},
		{"Open makes", []string{"open-absent"}, openMakes, nil},
		{"absent is unavailable", []string{"open-absent", "destroy"}, absentIsUnavailable, nil},
		{"Open takes any algorithm", []string{"open-wrong-algorithm"}, openTakesAny, nil},
		{"the last Open decides", []string{"one-algorithm"}, lastOpenDecides, rsa},
		{"makes a usual key instead", []string{"unknown-algorithm"}, makesUsual, nil},
		{"takes any id", []string{"bad-ids"}, takesAnyID, nil},
		{"cuts ids", []string{"long-ids"}, cutsIDs, nil},
		{"ignores the context", []string{"cancelled"}, ignoresContext, nil},
		{"makes the key, then looks", []string{"cancelled"}, looksLate, nil},
		{"handles outlive Destroy", []string{"destroy", "destroy-while-signing"}, handlesOutliveDestroy, nil},
		{"Destroy of nothing fails", []string{"destroy-absent"}, destroyNeedsKey, nil},
		{"Destroy takes all", []string{"destroy-others"}, destroysAll, nil},
		{"Discard goes by id", []string{"survey"}, discardsByID, nil},
		{"Discard goes by reference", []string{"survey"}, discardsByRef, nil},
		{"Discard of nothing succeeds", []string{"survey"}, discardsNothing, nil},
		{"Discard leaves the key", []string{"survey"}, discardLeaves, nil},
		{"one reference for all", []string{"survey"}, oneRefForAll, nil},
		{"Survey shows what is destroyed", []string{"survey"}, showsDestroyed, nil},
		{"handles go by id", []string{"create-after-destroy"}, handlesGoByID, nil},
		{"Destroy hides", []string{"create-after-destroy"}, destroyHides, nil},
		{"Close does nothing", []string{"close", "list", "close-while-signing"}, closeDoesNothing, nil},
		{"Close twice fails", []string{"close"}, closeTwiceFails, nil},
		{"lists ghosts", []string{"list"}, listsGhosts, nil},
		{"lists nothing", []string{"list"}, listsNothing, nil},
		{"forgets at restart", []string{"reopen"}, forgets, nil},
		{"destroyed keys come back", []string{"reopen"}, comesBack, nil},
		{"mixes up answers", []string{"sign-at-once"}, mixesUp(), nil},
		{"looks, then makes", []string{"create-one-id-at-once"}, looksThenMakes, nil},
		{"hands out the newest key", []string{"create-many-at-once"}, handsOutNewest, nil},
		{"Close pulls the plug", []string{"close-while-signing"}, closePullsPlug, nil},
	}
}

// A shim is a back-end with some of its methods replaced.
type shim struct {
	*memory
	create, open func(context.Context, signers.KeyID, signers.Algorithm) (signers.Key, error)
	destroy      func(context.Context, signers.KeyID) error
	list         func(context.Context) ([]signers.KeyID, error)
	close        func() error
	key          func(signers.Key, signers.Algorithm) signers.Key // wraps each handle
}

func (s *shim) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if s.create != nil {
		return s.create(ctx, id, alg)
	}
	return s.wrap(alg)(s.memory.Create(ctx, id, alg))
}

func (s *shim) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	if s.open != nil {
		return s.open(ctx, id, alg)
	}
	return s.wrap(alg)(s.memory.Open(ctx, id, alg))
}

func (s *shim) wrap(alg signers.Algorithm) func(signers.Key, error) (signers.Key, error) {
	return func(k signers.Key, err error) (signers.Key, error) {
		if err != nil || s.key == nil {
			return k, err
		}
		return s.key(k, alg), nil
	}
}

func (s *shim) Destroy(ctx context.Context, id signers.KeyID) error {
	if s.destroy != nil {
		return s.destroy(ctx, id)
	}
	return s.memory.Destroy(ctx, id)
}

func (s *shim) List(ctx context.Context) ([]signers.KeyID, error) {
	if s.list != nil {
		return s.list(ctx)
	}
	return s.memory.List(ctx)
}

func (s *shim) Close() error {
	if s.close != nil {
		return s.close()
	}
	return s.memory.Close()
}

// A signFunc stands in for Sign, with the handle it stands before.
type signFunc func(k signers.Key, alg signers.Algorithm, ctx context.Context, message []byte) ([]byte, error)

type keyShim struct {
	signers.Key
	alg    signers.Algorithm
	sign   signFunc
	public crypto.PublicKey
}

func (k *keyShim) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if k.sign == nil {
		return k.Key.Sign(ctx, message)
	}
	return k.sign(k.Key, k.alg, ctx, message)
}

func (k *keyShim) Public() crypto.PublicKey {
	if k.public != nil {
		return k.public
	}
	return k.Key.Public()
}

// signing plants a fault in every handle.
func signing(plant func(*keyShim)) func(*memory) signers.Backend {
	return func(m *memory) signers.Backend {
		return &shim{memory: m, key: func(k signers.Key, alg signers.Algorithm) signers.Key {
			broken := &keyShim{Key: k, alg: alg}
			plant(broken)
			return broken
		}}
	}
}

func signsAnother(k *keyShim) {
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		return k.Sign(ctx, append(bytes.Clone(m), '!'))
	}
}

func showsAnother(k *keyShim) { k.public = generate(k.alg).Public() }

func cutsMessages(k *keyShim) {
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		return k.Sign(ctx, m[:min(len(m), 4096)])
	}
}

func refusesEmpty(k *keyShim) {
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		if len(m) == 0 {
			return nil, errors.New("nothing to sign")
		}
		return k.Sign(ctx, m)
	}
}

func wipesMessage(k *keyShim) {
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		defer clear(m)
		return k.Sign(ctx, m)
	}
}

func sharesBuffer(k *keyShim) {
	buf := make([]byte, 128)
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		sig, err := k.Sign(ctx, m)
		return buf[:copy(buf, sig)], err
	}
}

func signsRaw(k *keyShim) {
	k.sign = func(k signers.Key, alg signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		sig, err := k.Sign(ctx, m)
		if raw, notECDSA := alg.RawFromDER(sig); notECDSA == nil {
			return raw, err
		}
		return sig, err
	}
}

func remembers(k *keyShim) {
	var seen sync.Map
	k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
		sig, err := k.Sign(ctx, m)
		first, _ := seen.LoadOrStore(string(m), sig)
		return first.([]byte), err
	}
}

// mixesUp signs whichever message was handed in last, as one session shared by
// two callers does.
func mixesUp() func(*memory) signers.Backend {
	var last atomic.Pointer[[]byte]
	return signing(func(k *keyShim) {
		k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, m []byte) ([]byte, error) {
			last.Store(&m)
			dawdle(func() bool { return last.Load() != &m })
			return k.Sign(ctx, *last.Load())
		}
	})
}

// dawdle gives others the processor until enough is true, but not for ever.
func dawdle(enough func() bool) {
	for range 1000 {
		if enough() {
			return
		}
		runtime.Gosched()
	}
}
