package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/signers"
)

// errCut is what whoever lost power, or an answer, is told.
var errCut = errors.New("cut off")

// A power supplies a store and a back-end, and may be cut at one step: each
// save and each call of a back-end is one.
type power struct {
	mu     sync.Mutex
	steps  int
	cutAt  int  // the step at which it is cut; 0: never
	late   bool // the step is done, and only its answer is lost
	flicks bool // it is back for the next step
	off    bool
}

func (p *power) step(do func() error) error {
	p.mu.Lock()
	if p.off {
		p.mu.Unlock()
		return errCut
	}
	p.steps++
	cut, late := p.steps == p.cutAt, p.late
	p.off = cut && !p.flicks
	p.mu.Unlock()
	if !cut {
		return do()
	}
	if late {
		return errors.Join(errCut, do())
	}
	return errCut
}

// arm counts from here, to cut at the given step.
func (p *power) arm(cutAt int, late, flicks bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.cutAt, p.late, p.flicks, p.off = 0, cutAt, late, flicks, false
}

// on gives power back, and says how many steps were begun since arm.
func (p *power) on() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	steps := p.steps
	p.steps, p.cutAt, p.off = 0, 0, false
	return steps
}

// A token is a back-end in memory: what it holds is there after a restart.
type token struct {
	power *power

	mu    sync.Mutex
	keys  map[signers.KeyID]*ecdsa.PrivateKey
	opens int
	down  bool                            // answers nobody
	lies  bool                            // signs another message
	lost  bool                            // the same, until it is doubted
	done  func()                          // told when a call has had its effect
	wait  func(ctx context.Context) error // before a call is answered
}

func newToken() *token {
	return &token{power: &power{}, keys: map[signers.KeyID]*ecdsa.PrivateKey{}}
}

// set changes how the token behaves.
func (b *token) set(change func(*token)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

func (b *token) call(ctx context.Context, do func() error) error {
	b.mu.Lock()
	down, wait := b.down, b.wait
	b.mu.Unlock()
	if down {
		return signers.ErrUnavailable
	}
	if wait != nil {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.power.step(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.done != nil {
			defer b.done()
		}
		return do()
	})
}

func (b *token) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	err = b.call(ctx, func() error {
		if alg != signers.ECDSAP256 {
			return signers.ErrUnsupported
		}
		if b.keys[id] != nil {
			return signers.ErrExists
		}
		b.keys[id] = key
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &tokenKey{b, id, &key.PublicKey}, nil
}

func (b *token) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	var key *ecdsa.PrivateKey
	err := b.call(ctx, func() error {
		b.opens++
		if key = b.keys[id]; key == nil {
			return signers.ErrNotFound
		}
		return alg.Fits(&key.PublicKey)
	})
	if err != nil {
		return nil, err
	}
	return &tokenKey{b, id, &key.PublicKey}, nil
}

func (b *token) Destroy(ctx context.Context, id signers.KeyID) error {
	return b.call(ctx, func() error {
		delete(b.keys, id)
		return nil
	})
}

func (b *token) Close() error { return nil }

// ids are those of all its keys.
func (b *token) ids() []signers.KeyID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.keys))
}

type tokenKey struct {
	token *token
	id    signers.KeyID
	pub   *ecdsa.PublicKey
}

func (k *tokenKey) Public() crypto.PublicKey { return k.pub }

func (k *tokenKey) Sign(ctx context.Context, message []byte) (sig []byte, err error) {
	err = k.token.call(ctx, func() error {
		key := k.token.keys[k.id]
		if key == nil {
			return signers.ErrNotFound
		}
		if k.token.lies || k.token.lost {
			message = append([]byte("not "), message...)
		}
		digest := sha256.Sum256(message)
		sig, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// Doubt implements signers.Doubter.
func (k *tokenKey) Doubt() { k.token.set(func(b *token) { b.lost = false }) }

// A shop is a store in memory.
type shop struct {
	power *power

	mu       sync.Mutex
	records  map[string]Entry
	revision map[string]Revision
	ghosts   []string // names it lists and has no record of
	watchers map[chan string]bool
	wait     func() // before a save
}

func newShop() *shop {
	return &shop{power: &power{}, records: map[string]Entry{}, revision: map[string]Revision{}, watchers: map[chan string]bool{}}
}

func (s *shop) Load(_ context.Context, name string) (Entry, Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[name].clone(), s.revision[name], nil
}

func (s *shop) List(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(slices.AppendSeq(slices.Clone(s.ghosts), maps.Keys(s.records)))), nil
}

func (s *shop) Save(ctx context.Context, name string, e Entry, prev Revision) (Revision, error) {
	s.mu.Lock()
	wait := s.wait
	s.mu.Unlock()
	if wait != nil {
		wait()
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err := s.power.step(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.revision[name] != prev {
			return fmt.Errorf("revision %d: %w", s.revision[name], ErrConflict)
		}
		s.put(e, prev+1)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return prev + 1, nil
}

// put is a save by whomever, with mu held.
func (s *shop) put(e Entry, rev Revision) {
	s.records[e.Name], s.revision[e.Name] = e.clone(), rev
	for w := range s.watchers {
		w <- e.Name
	}
}

// damage changes a record behind the ring's back.
func (s *shop) damage(name string, do func(*Entry)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.records[name].clone()
	do(&e)
	s.records[name] = e
}

func (s *shop) Watch(ctx context.Context) (<-chan string, error) {
	w := make(chan string, 1000)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[w] = true
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
		close(w)
	})
	return w, nil
}

// A clock stands still until it is turned.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A world is all that a ring stands on. It outlives the ring.
type world struct {
	*testing.T
	shop  *shop
	token *token
	clock *clock
	opts  Options
	moves []Move // as the journal was told

	backends map[string]signers.Backend
	*Ring
}

const (
	leadTime = 10 * time.Minute
	drain    = time.Minute
	keep     = time.Hour
)

var spec = Spec{Backend: "hsm", Algorithm: signers.ECDSAP256, Format: "jwt"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		T: t, shop: newShop(), token: newToken(),
		clock: &clock{now: time.Date(2026, 2, 3, 4, 5, 6, 7e8, time.UTC)},
	}
	w.shop.power = w.token.power // one cut takes both
	w.opts = Options{
		Now: w.clock.Now, Rand: rand.Reader, LeadTime: leadTime, Drain: drain,
		Journal: func(_ context.Context, m Move) error {
			w.moves = append(w.moves, m)
			return nil
		},
	}
	w.backends = map[string]signers.Backend{"hsm": w.token}
	w.restart()
	t.Cleanup(func() { w.Close() })
	return w
}

// restart opens the ring anew, as after a crash.
func (w *world) restart() {
	w.Helper()
	if w.Ring != nil {
		w.Close()
	}
	w.token.power.on()
	w.Ring = w.another()
}

// another opens a ring on the same store, as another machine does.
func (w *world) another() *Ring {
	w.Helper()
	r, err := Open(w.Context(), w.shop, w.backends, w.opts)
	if err != nil {
		w.Fatalf("Open: %v", err)
	}
	return r
}

// must makes what comes of a step that may not fail.
func must(t *testing.T) func(Version, error) Version {
	return func(v Version, err error) Version {
		t.Helper()
		if err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		return v
	}
}

// signer makes a key that signs.
func (w *world) signer(name string) *Key {
	w.Helper()
	must(w.T)(w.Create(w.Context(), name, spec))
	must(w.T)(w.Activate(w.Context(), name, 1, Activation{}))
	return w.current(name)
}

func (w *world) current(name string) *Key {
	w.Helper()
	k, err := w.Current(name)
	if err != nil {
		w.Fatalf("Current(%q): %v", name, err)
	}
	return k
}

// rotate makes the next version of the key called pay and lets it sign.
func (w *world) rotate() {
	w.Helper()
	v := must(w.T)(w.Rotate(w.Context(), "pay"))
	must(w.T)(w.Activate(w.Context(), "pay", v.Number, Activation{Early: true, Keep: keep}))
}

// signs wants a signature that verifies.
func signs(t *testing.T, k *Key) {
	t.Helper()
	message := []byte("pay to the bearer")
	sig, err := k.Sign(t.Context(), message)
	if err != nil {
		t.Errorf("Sign by version %d: %v", k.Version(), err)
		return
	}
	if err := k.Algorithm().Verify(k.Public(), message, sig); err != nil {
		t.Errorf("Sign by version %d: %v", k.Version(), err)
	}
}

// refuses wants no signature, and this reason.
func refuses(t *testing.T, k *Key, why error) {
	t.Helper()
	sig, err := k.Sign(t.Context(), []byte("pay to the bearer"))
	is(t, err, why)
	if sig != nil {
		t.Errorf("Sign by version %d: got a signature beside %v", k.Version(), err)
	}
}

// is wants an error of this kind.
func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// states are those of a key's versions, as the ring has them.
func (w *world) states(name string) []State {
	var all []State
	for _, e := range w.List() {
		for _, v := range e.Versions {
			if e.Name == name {
				all = append(all, v.State)
			}
		}
	}
	return all
}

func (w *world) wantStates(name string, want ...State) {
	w.Helper()
	if got := w.states(name); !slices.Equal(got, want) {
		w.Errorf("states of %q: got %q, want %q", name, got, want)
	}
}
