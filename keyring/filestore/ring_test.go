package filestore

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/signers"
)

// A box is a back-end whose keys outlive the process. Each call passes the
// disk's fault seam twice: before its effect, and before its answer.
type box struct {
	keys map[signers.KeyID]ed25519.PrivateKey
	disk *brittleDisk
}

func (b *box) do(op string, effect func() error) error {
	if err := b.disk.fault(op); err != nil {
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	}
	if err := effect(); err != nil {
		return err
	}
	if err := b.disk.fault(op + ", answer lost"); err != nil {
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	}
	return nil
}

func (b *box) Create(_ context.Context, id signers.KeyID, _ signers.Algorithm) (signers.Key, error) {
	err := b.do("create", func() (err error) {
		if b.keys[id] != nil {
			return signers.ErrExists
		}
		_, b.keys[id], err = ed25519.GenerateKey(rand.Reader)
		return err
	})
	return &boxed{b, id, b.keys[id]}, err
}

func (b *box) Open(_ context.Context, id signers.KeyID, _ signers.Algorithm) (signers.Key, error) {
	err := b.do("open", func() error {
		if b.keys[id] == nil {
			return signers.ErrNotFound
		}
		return nil
	})
	return &boxed{b, id, b.keys[id]}, err
}

func (b *box) Destroy(_ context.Context, id signers.KeyID) error {
	return b.do("destroy", func() error { delete(b.keys, id); return nil })
}

func (b *box) Close() error { return nil }

type boxed struct {
	b    *box
	id   signers.KeyID
	priv ed25519.PrivateKey
}

func (k *boxed) Public() crypto.PublicKey { return k.priv.Public() }

func (k *boxed) Sign(_ context.Context, message []byte) ([]byte, error) {
	return ed25519.Sign(k.priv, message), nil
}

// A machine is a disk and a back-end, and the process that runs on them until
// it is killed.
type machine struct {
	dir   string
	keys  map[signers.KeyID]ed25519.PrivateKey
	disk  *brittleDisk
	store *Store
	ring  *keyring.Ring

	// signed is set once a version signs: from then on one always does.
	signed bool
}

// start starts the process anew.
func (m *machine) start(t *testing.T, disk *brittleDisk) error {
	m.stop()
	m.disk = disk
	store, err := Open(m.dir, Options{Fault: disk.fault})
	if err != nil {
		return err
	}
	m.store = store
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	m.ring, err = keyring.Open(t.Context(), store, map[string]signers.Backend{"box": &box{m.keys, disk}},
		keyring.Options{Now: func() time.Time { return now }, Rand: rand.Reader})
	return err
}

// stop releases what a process that is killed leaves.
func (m *machine) stop() {
	if m.ring != nil {
		m.ring.Close()
	}
	if m.store != nil {
		m.store.Close()
	}
	m.ring, m.store = nil, nil
}

func (m *machine) entry() keyring.Entry {
	for _, e := range m.ring.List() {
		return e
	}
	return keyring.Entry{}
}

// work does what is left to do until version 1 is destroyed and version 2
// signs, as an operator does who looks at the list first.
func (m *machine) work(t *testing.T) error {
	ctx, spec := t.Context(), keyring.Spec{Backend: "box", Algorithm: signers.Ed25519, Format: "jwt"}
	for range 20 {
		states := ""
		for _, v := range m.entry().Versions {
			states += string(v.State) + " "
		}
		var err error
		switch states {
		case "", "creating ":
			_, err = m.ring.Create(ctx, "pay", spec)
		case "published ":
			_, err = m.ring.Activate(ctx, "pay", 1, keyring.Activation{})
		case "signing ", "signing creating ":
			_, err = m.ring.Rotate(ctx, "pay")
		case "signing published ":
			_, err = m.ring.Activate(ctx, "pay", 2, keyring.Activation{Early: true})
		case "retired signing ":
			_, err = m.ring.Revoke(ctx, "pay", 1)
		case "revoked signing ":
			_, err = m.ring.Destroy(ctx, "pay", 1, m.entry().Versions[0].Kid)
		case "destroyed signing ":
			return nil
		default:
			t.Fatalf("a state that no step leads to: %s", states)
		}
		if err != nil {
			return err
		}
		m.sound(t)
	}
	return errors.New("the work has no end")
}

// sound wants what must hold at every moment: one signer, unique kids, and no
// key in the back-end that no record leads to.
func (m *machine) sound(t *testing.T) {
	t.Helper()
	onRecord, kids, signing := map[signers.KeyID]keyring.State{}, map[string]bool{}, 0
	for _, v := range m.entry().Versions {
		onRecord[v.ID] = v.State
		if v.State == keyring.Signing {
			signing++
		}
		if v.Kid != "" && kids[v.Kid] {
			t.Errorf("kid %s twice", v.Kid)
		}
		kids[v.Kid] = true
		if made := m.keys[v.ID] != nil; !made && (v.State == keyring.Published || v.State == keyring.Signing) {
			t.Errorf("version %d is %s and has no key", v.Number, v.State)
		}
	}
	if signing > 1 || m.signed && signing == 0 {
		t.Errorf("%d versions sign", signing)
	}
	m.signed = m.signed || signing == 1
	for _, id := range slices.Sorted(maps.Keys(m.keys)) {
		if state := onRecord[id]; state == "" || state == keyring.Destroyed {
			t.Errorf("an orphan: the back-end has %q, and the record says %q", id, state)
		}
	}
	if _, err := m.ring.Current("pay"); (err == nil) != (signing == 1) {
		t.Errorf("Current with %d signers: %v", signing, err)
	}
}

// TestALifeCutAtEveryStep fails each write, fsync, rename and back-end call of a
// key's life in turn, before it is done and after, once as an error that passes
// and once as the end of the process, and then goes on with what is left to do.
func TestALifeCutAtEveryStep(t *testing.T) {
	var whole brittleDisk
	m := &machine{dir: newDir(t), keys: map[signers.KeyID]ed25519.PrivateKey{}}
	t.Cleanup(m.stop)
	if err := errors.Join(m.start(t, &whole), m.work(t)); err != nil {
		t.Fatalf("without a failure: %v", err)
	}
	if whole.step < 40 {
		t.Fatalf("a life has %d steps: this test misses most", whole.step)
	}
	for _, dead := range []bool{false, true} {
		for at := 1; at <= whole.step; at++ {
			t.Run(fmt.Sprintf("dead=%v step %d %s", dead, at, whole.ops[at-1]), func(t *testing.T) {
				t.Parallel()
				cut(t, &brittleDisk{at: at, dead: dead})
			})
		}
	}
}

func cut(t *testing.T, disk *brittleDisk) {
	m := &machine{dir: newDir(t), keys: map[signers.KeyID]ed25519.PrivateKey{}}
	defer m.stop()
	err := m.start(t, disk)
	if err == nil {
		err = m.work(t)
	}
	if err == nil || !errors.Is(err, errDisk) {
		t.Fatalf("got %v, want the fault", err)
	}
	if m.ring != nil && !disk.dead {
		// The same process goes on.
		m.sound(t)
		if err := m.work(t); err != nil {
			t.Errorf("the same again: %v", err)
		}
	}
	if err := m.start(t, &brittleDisk{}); err != nil {
		t.Fatalf("start after it: %v", err)
	}
	m.sound(t)
	if err := m.work(t); err != nil {
		t.Errorf("the rest of the work: %v", err)
	}
	m.sound(t)
	if len(m.keys) != 1 {
		t.Errorf("%d keys at the end, want the one that signs", len(m.keys))
	}
}
