package signertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// The faults of whole back-ends, in the order of the table in faults_test.go.

func cantList(m *memory) signers.Backend {
	return &shim{memory: m, list: func(context.Context) ([]signers.KeyID, error) { return nil, signers.ErrUnavailable }}
}

func failsForOne(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if alg == signers.ECDSAP384 {
			return nil, signers.ErrUnavailable
		}
		return m.Create(ctx, id, alg)
	}}
}

// staysDown never gets over a fault.
func staysDown(m *memory) signers.Backend {
	m.forEver = true
	return m
}

func oneKeyForAll(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Create(ctx, id, alg)
		m.mu.Lock()
		defer m.mu.Unlock()
		for other, p := range m.keys {
			if other != id && p.alg == alg && err == nil {
				m.keys[id] = p
				return &handle{m, p}, nil
			}
		}
		return k, err
	}}
}

func createReplaces(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		m.mu.Lock()
		delete(m.keys, id)
		m.mu.Unlock()
		return m.Create(ctx, id, alg)
	}}
}

func createFinds(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if k, err := m.Open(ctx, id, alg); err == nil {
			return k, nil
		}
		return m.Create(ctx, id, alg)
	}}
}

func keyBesideError(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Create(ctx, id, alg)
		if err != nil {
			return &handle{m, m.find(id)}, err
		}
		return k, nil
	}}
}

func openMakes(m *memory) signers.Backend {
	return &shim{memory: m, open: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if k, err := m.Create(ctx, id, alg); err == nil {
			return k, nil
		}
		return m.Open(ctx, id, alg)
	}}
}

func absentIsUnavailable(m *memory) signers.Backend {
	return &shim{memory: m, open: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Open(ctx, id, alg)
		if errors.Is(err, signers.ErrNotFound) {
			return nil, signers.ErrUnavailable
		}
		return k, err
	}}
}

func openTakesAny(m *memory) signers.Backend {
	return &shim{memory: m, open: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if p := m.find(id); p != nil {
			alg = p.alg
		}
		return m.Open(ctx, id, alg)
	}}
}

// lastOpenDecides keeps the algorithm with the key instead of the handle.
func lastOpenDecides(m *memory) signers.Backend {
	return &shim{memory: m, open: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		p := m.find(id)
		if p == nil || alg.Fits(p.priv.Public()) != nil {
			return m.Open(ctx, id, alg)
		}
		p.alg = alg
		return &handle{m, p}, nil
	}}
}

func makesUsual(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if _, err := alg.Params(); err != nil {
			alg = signers.ECDSAP256
		}
		return m.Create(ctx, id, alg)
	}}
}

func takesAnyID(m *memory) signers.Backend {
	return &shim{memory: m, create: func(_ context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.keys[id] = &pair{alg: alg, priv: generate(alg)}
		return &handle{m, m.keys[id]}, nil
	}}
}

// cutsIDs makes a token whose labels hold 62 characters.
func cutsIDs(m *memory) signers.Backend {
	cut := func(id signers.KeyID) signers.KeyID { return id[:min(len(id), 62)] }
	return &shim{memory: m,
		create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
			return m.Create(ctx, cut(id), alg)
		},
		open: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
			return m.Open(ctx, cut(id), alg)
		}}
}

func ignoresContext(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		return m.Create(context.WithoutCancel(ctx), id, alg)
	}}
}

func looksLate(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Create(context.WithoutCancel(ctx), id, alg)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return k, err
	}}
}

func handlesOutliveDestroy(m *memory) signers.Backend {
	return &shim{memory: m, destroy: func(_ context.Context, id signers.KeyID) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.keys, id)
		return nil
	}}
}

func destroyNeedsKey(m *memory) signers.Backend {
	return &shim{memory: m, destroy: func(ctx context.Context, id signers.KeyID) error {
		if m.find(id) == nil {
			return signers.ErrNotFound
		}
		return m.Destroy(ctx, id)
	}}
}

func destroysAll(m *memory) signers.Backend {
	return &shim{memory: m, destroy: func(ctx context.Context, _ signers.KeyID) error {
		ids, err := m.List(ctx)
		for _, id := range ids {
			err = errors.Join(err, m.Destroy(ctx, id))
		}
		return err
	}}
}

// handlesGoByID looks the key up again for each signature.
func handlesGoByID(m *memory) signers.Backend {
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Create(ctx, id, alg)
		if err != nil {
			return nil, err
		}
		return &keyShim{Key: k, alg: alg, sign: func(_ signers.Key, alg signers.Algorithm, ctx context.Context, message []byte) ([]byte, error) {
			now, err := m.Open(ctx, id, alg)
			if err != nil {
				return nil, err
			}
			return now.Sign(ctx, message)
		}}, nil
	}}
}

// destroyHides keeps the key and gives it out again.
func destroyHides(m *memory) signers.Backend {
	hidden := map[signers.KeyID]*pair{}
	return &shim{memory: m,
		destroy: func(ctx context.Context, id signers.KeyID) error {
			if p := m.find(id); p != nil {
				hidden[id] = &pair{alg: p.alg, priv: p.priv}
			}
			return m.Destroy(ctx, id)
		},
		create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
			if p := hidden[id]; p != nil {
				return &handle{m, p}, nil
			}
			return m.Create(ctx, id, alg)
		}}
}

func closeDoesNothing(m *memory) signers.Backend {
	return &shim{memory: m, close: func() error { return nil }}
}

func closeTwiceFails(m *memory) signers.Backend {
	return &shim{memory: m, close: func() error {
		if m.checkID(context.Background(), "any") != nil {
			return signers.ErrClosed
		}
		return m.Close()
	}}
}

func listsGhosts(m *memory) signers.Backend {
	var ghosts []signers.KeyID
	return &shim{memory: m,
		destroy: func(ctx context.Context, id signers.KeyID) error {
			ghosts = append(ghosts, id)
			return m.Destroy(ctx, id)
		},
		list: func(ctx context.Context) ([]signers.KeyID, error) {
			ids, err := m.List(ctx)
			return append(ids, ghosts...), err
		}}
}

func listsNothing(m *memory) signers.Backend {
	return &shim{memory: m, list: func(ctx context.Context) ([]signers.KeyID, error) { return nil, m.checkID(ctx, "any") }}
}

func forgets(m *memory) signers.Backend {
	return &shim{memory: m, close: func() error {
		m.mu.Lock()
		clear(m.keys)
		m.mu.Unlock()
		return m.Close()
	}}
}

// comesBack destroys in memory only: the disk still has the key.
func comesBack(m *memory) signers.Backend {
	gone := map[signers.KeyID]*pair{}
	return &shim{memory: m,
		destroy: func(ctx context.Context, id signers.KeyID) error {
			if p := m.find(id); p != nil {
				gone[id] = &pair{alg: p.alg, priv: p.priv}
			}
			return m.Destroy(ctx, id)
		},
		close: func() error {
			m.mu.Lock()
			for id, p := range gone {
				m.keys[id] = p
			}
			m.mu.Unlock()
			return m.Close()
		}}
}

func looksThenMakes(m *memory) signers.Backend {
	var looking atomic.Int32
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		if err := m.check(ctx, id, alg); err != nil {
			return nil, err
		}
		if m.find(id) != nil {
			return nil, signers.ErrExists
		}
		looking.Add(1)
		dawdle(func() bool { return looking.Load() > 1 })
		m.mu.Lock()
		defer m.mu.Unlock()
		m.keys[id] = &pair{alg: alg, priv: generate(alg)}
		return &handle{m, m.keys[id]}, nil
	}}
}

// handsOutNewest asks the token for `the key just made` after another caller
// has made one.
func handsOutNewest(m *memory) signers.Backend {
	var newest atomic.Pointer[signers.Key]
	return &shim{memory: m, create: func(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
		k, err := m.Create(ctx, id, alg)
		if err != nil {
			return nil, err
		}
		newest.Store(&k)
		dawdle(func() bool { return newest.Load() != &k })
		return *newest.Load(), nil
	}}
}

// closePullsPlug does not wait for the signatures under way.
func closePullsPlug(m *memory) signers.Backend {
	var pulled atomic.Bool
	var once sync.Once
	b := signing(func(k *keyShim) {
		k.sign = func(k signers.Key, _ signers.Algorithm, ctx context.Context, message []byte) ([]byte, error) {
			if pulled.Load() {
				return nil, signers.ErrClosed
			}
			dawdle(pulled.Load)
			if pulled.Load() {
				return nil, errors.New("session handle invalid")
			}
			return k.Sign(ctx, message)
		}
	})(m).(*shim)
	b.close = func() error {
		once.Do(func() { pulled.Store(true) })
		return m.Close()
	}
	return b
}
