package wire

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/signers"
)

// maxKeys is how many keys an end remembers; a format has few that sign.
const maxKeys = 64

// A KeyWriter writes verifying keys as messages and remembers them: encoding
// a public key costs as much as the rest of a request. The zero KeyWriter is
// ready; its methods may be called at the same time.
type KeyWriter struct {
	known atomic.Pointer[[]writtenKey]
}

type writtenKey struct {
	key     plugins.VerifyingKey
	message *pluginsv1.VerifyingKey
}

// Message returns k as a message, which must not be changed. It returns
// ErrRefused for a key that the wire cannot carry.
func (w *KeyWriter) Message(k plugins.VerifyingKey) (*pluginsv1.VerifyingKey, error) {
	var known []writtenKey
	if p := w.known.Load(); p != nil {
		known = *p
	}
	for _, e := range known {
		if e.key.ID == k.ID && e.key.Algorithm == k.Algorithm && equal(e.key.Public, k.Public) {
			return e.message, nil
		}
	}
	m, err := newKey(k)
	if err != nil {
		return nil, err
	}
	if len(known) >= maxKeys {
		known = nil
	}
	// Two writers at once may lose one entry; it is then written once more.
	next := append(known[:len(known):len(known)], writtenKey{k, m})
	w.known.Store(&next)
	return m, nil
}

// equal never trusts the id alone: two keys under one id are two keys.
func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func newKey(k plugins.VerifyingKey) (*pluginsv1.VerifyingKey, error) {
	if !utf8.ValidString(k.ID) || len(k.ID) > MaxText {
		return nil, fmt.Errorf("key: the id is not short UTF-8 text: %w", plugins.ErrRefused)
	}
	if err := k.Algorithm.Fits(k.Public); err != nil {
		return nil, fmt.Errorf("key %q: %w: %w", k.ID, err, plugins.ErrRefused)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w: %w", k.ID, err, plugins.ErrRefused)
	}
	return &pluginsv1.VerifyingKey{Id: k.ID, Algorithm: string(k.Algorithm), Public: der}, nil
}

// A KeyReader reads verifying keys from messages and remembers them: checking
// that a point is on its curve costs more than making a draft. The zero
// KeyReader is ready; its methods may be called at the same time.
type KeyReader struct {
	mu    sync.Mutex
	known map[string]plugins.VerifyingKey // by DER
}

// Key reads a key, ErrMalformed if it is none.
func (r *KeyReader) Key(m *pluginsv1.VerifyingKey) (plugins.VerifyingKey, error) {
	r.mu.Lock()
	k, ok := r.known[string(m.GetPublic())]
	r.mu.Unlock()
	if ok && k.ID == m.GetId() && string(k.Algorithm) == m.GetAlgorithm() {
		return k, nil
	}
	k, err := readKey(m)
	if err != nil {
		return plugins.VerifyingKey{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxKeys {
		r.known = map[string]plugins.VerifyingKey{}
	}
	r.known[string(m.GetPublic())] = k
	return k, nil
}

func readKey(m *pluginsv1.VerifyingKey) (plugins.VerifyingKey, error) {
	pub, err := x509.ParsePKIXPublicKey(m.GetPublic())
	if err != nil {
		return plugins.VerifyingKey{}, fmt.Errorf("key %q: %w: %w", m.GetId(), err, ErrMalformed)
	}
	k := plugins.VerifyingKey{ID: m.GetId(), Algorithm: signers.Algorithm(m.GetAlgorithm()), Public: pub}
	if err := k.Algorithm.Fits(pub); err != nil {
		return plugins.VerifyingKey{}, fmt.Errorf("key %q: %w: %w", k.ID, err, ErrMalformed)
	}
	return k, nil
}
