package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/signetd/signet/signers"
)

var allStates = []State{Creating, Published, Signing, Retired, Revoked, Destroyed}

// legal is the table of moves once more, drawn: from a row to a column.
var legal = strings.Fields(`
                creating published signing retired revoked destroyed
	creating    no       yes       no      no      yes     yes
	published   no       no        yes     no      yes     no
	signing     no       no        no      yes     yes     no
	retired     no       no        no      no      yes     yes
	revoked     no       no        no      no      no      yes
	destroyed   no       no        no      no      no      no`)

func mayMove(from, to int) bool { return legal[len(allStates)+from*7+1+to] == "yes" }

func TestOnlyMovesInTheTableAreMade(t *testing.T) {
	for i, from := range allStates {
		for j, to := range allStates {
			v := Version{State: from}
			err := v.move(to)
			if want := mayMove(i, j); Legal(from, to) != want || (err == nil) != want {
				t.Errorf("%s to %s: got Legal %v and error %v, want legal %v", from, to, Legal(from, to), err, want)
			}
			if err != nil && (v.State != from || !errors.Is(err, ErrIllegalMove)) {
				t.Errorf("%s to %s: got %v and state %s, want ErrIllegalMove and no move", from, to, err, v.State)
			}
		}
		if Legal(from, "") || Legal("", from) || Legal(from, "lost") {
			t.Errorf("%s: a state that is none may not be left or reached", from)
		}
	}
}

// standing is a ring with one key, whose one version is in the given state.
func standing(t *testing.T, state State) (*world, string) {
	t.Helper()
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := Version{Number: 1, ID: "pay-v1-0badcafe", State: state}
	handle := string(v.ID)
	if state != Creating {
		v.Public, _ = x509.MarshalPKIXPublicKey(&key.PublicKey)
		v.Kid, _ = Thumbprint(&key.PublicKey)
		handle = v.Kid
	}
	if state != Destroyed {
		w.token.keys[v.ID] = key
	}
	e := Entry{Name: "pay", Backend: spec.Backend, Algorithm: spec.Algorithm, Format: spec.Format, Versions: []Version{v}}
	if _, err := w.shop.Save(t.Context(), "pay", e, 0); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w, handle
}

// TestEachStepMovesAsTheTableSays tries every public step on a version in every
// state. A step that is done already is repeated without complaint.
func TestEachStepMovesAsTheTableSays(t *testing.T) {
	for _, step := range []struct {
		name string
		to   State
		do   func(ctx context.Context, r *Ring, handle string) (Version, error)
	}{
		{"activate", Signing, func(ctx context.Context, r *Ring, _ string) (Version, error) {
			return r.Activate(ctx, "pay", 1, Activation{})
		}},
		{"retire", Retired, func(ctx context.Context, r *Ring, _ string) (Version, error) { return r.Retire(ctx, "pay", 1, keep) }},
		{"revoke", Revoked, func(ctx context.Context, r *Ring, _ string) (Version, error) { return r.Revoke(ctx, "pay", 1) }},
		{"destroy", Destroyed, func(ctx context.Context, r *Ring, handle string) (Version, error) {
			return r.Destroy(ctx, "pay", 1, handle)
		}},
	} {
		for i, from := range allStates {
			t.Run(step.name+" "+string(from), func(t *testing.T) {
				w, handle := standing(t, from)
				v, err := step.do(t.Context(), w.Ring, handle)
				j := 0
				for allStates[j] != step.to {
					j++
				}
				if !mayMove(i, j) && from != step.to {
					is(t, err, ErrIllegalMove)
					w.wantStates("pay", from)
					return
				}
				if must(t)(v, err).State != step.to {
					t.Errorf("got %s, want %s", v.State, step.to)
				}
				w.restart()
				w.wantStates("pay", step.to)
			})
		}
	}
}

func TestCreateAndRotateFinishOnlyWhatWasBegun(t *testing.T) {
	for _, from := range allStates {
		t.Run(string(from), func(t *testing.T) {
			w, _ := standing(t, from)
			v, err := w.Create(t.Context(), "pay", spec)
			if from == Creating {
				if must(t)(v, err).State != Published {
					t.Errorf("Create of what was cut off: got %s, want published", v.State)
				}
				return
			}
			is(t, err, ErrExists)
			v, err = w.Rotate(t.Context(), "pay")
			if from == Published {
				is(t, err, ErrIllegalMove)
				return
			}
			if must(t)(v, err).Number != 2 {
				t.Errorf("Rotate: got version %d, want 2", v.Number)
			}
			w.wantStates("pay", from, Published)
		})
	}
}

func TestKeyNames(t *testing.T) {
	for _, good := range []string{"a", "pay", "a-", "k8s-prod-2", strings.Repeat("a", 40)} {
		if err := CheckName(good); err != nil {
			t.Errorf("CheckName(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "-a", "2a", "Pay", "a_b", "a.b", "a/b", "..", "a b", "é", "a\x00", strings.Repeat("a", 41)} {
		if CheckName(bad) == nil {
			t.Errorf("CheckName(%q): got nil, want an error", bad)
		}
	}
}

// sound is a record that nothing is wrong with.
func sound(t *testing.T) Entry {
	w := newWorld(t)
	w.signer("pay")
	w.rotate()
	return w.List()[0]
}

func TestARecordThatIsWrongIsRefused(t *testing.T) {
	good := sound(t)
	if err := good.Check(); err != nil {
		t.Fatalf("a sound record: %v", err)
	}
	for name, harm := range map[string]func(*Entry){
		"a bad name":               func(e *Entry) { e.Name = "../pay" },
		"an unknown algorithm":     func(e *Entry) { e.Algorithm = "rot13" },
		"no back-end":              func(e *Entry) { e.Backend = "" },
		"no format":                func(e *Entry) { e.Format = "" },
		"a version that is gone":   func(e *Entry) { e.Versions = e.Versions[1:] },
		"a version twice":          func(e *Entry) { e.Versions[1].Number = 1 },
		"an unknown state":         func(e *Entry) { e.Versions[0].State = "lost" },
		"no state":                 func(e *Entry) { e.Versions[0].State = "" },
		"a bad id":                 func(e *Entry) { e.Versions[0].ID = "PAY" },
		"another key's id":         func(e *Entry) { e.Versions[0].ID = "rent-v1-0badcafe" },
		"another version's id":     func(e *Entry) { e.Versions[0].ID = e.Versions[1].ID },
		"adopted under our own":    func(e *Entry) { e.Versions[0].Adopted = true },
		"a kid without a key":      func(e *Entry) { e.Versions[0].Public = nil },
		"a key without a kid":      func(e *Entry) { e.Versions[0].Kid = "" },
		"two that sign":            func(e *Entry) { e.Versions[0].State = Signing },
		"one that signs, bare":     func(e *Entry) { e.Versions[1].Kid, e.Versions[1].Public = "", nil },
		"two that wait their turn": func(e *Entry) { e.Versions[0].State, e.Versions[1].State = Published, Published },
	} {
		t.Run(name, func(t *testing.T) {
			e := good.clone()
			harm(&e)
			if e.Check() == nil {
				t.Error("Check: got nil, want an error")
			}
		})
	}
}

// TestADamagedRecordStopsTheStart shows that the ring never begins on a record
// that it can't believe.
func TestADamagedRecordStopsTheStart(t *testing.T) {
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKIXPublicKey(&other.PublicKey)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	wide, _ := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	wideKid, _ := Thumbprint(&p384.PublicKey)
	for name, harm := range map[string]func(*Entry){
		"a state that is none":       func(e *Entry) { e.Versions[0].State = "lost" },
		"a public key that is none":  func(e *Entry) { e.Versions[0].Public = []byte{1} },
		"another public key":         func(e *Entry) { e.Versions[0].Public = der },
		"a key of another kind":      func(e *Entry) { e.Versions[0].Kid, e.Versions[0].Public = wideKid, wide },
		"another kid":                func(e *Entry) { e.Versions[0].Kid = "NzbLsXh8uDCcd" },
		"another key's record":       func(e *Entry) { e.Name, e.Versions = "rent", nil },
		"one public key, two places": func(e *Entry) { e.Versions[1].Kid, e.Versions[1].Public = e.Versions[0].Kid, e.Versions[0].Public },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.signer("pay")
			w.rotate()
			w.shop.damage("pay", harm)
			r, err := Open(t.Context(), w.shop, map[string]signers.Backend{"hsm": w.token}, w.opts)
			if err == nil {
				r.Close()
				t.Fatal("Open: got a ring, want an error")
			}
			if !strings.Contains(err.Error(), "pay") {
				t.Errorf("Open: got %v, want the key named", err)
			}
		})
	}
}

func TestAKeyKeepsWhatItIsForLife(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	for name, other := range map[string]Spec{
		"algorithm":     {Backend: "hsm", Algorithm: signers.Ed25519, Format: "jwt"},
		"back-end":      {Backend: "kms", Algorithm: signers.ECDSAP256, Format: "jwt"},
		"format":        {Backend: "hsm", Algorithm: signers.ECDSAP256, Format: "ssh"},
		"blind signing": {Backend: "hsm", Algorithm: signers.ECDSAP256, Format: "jwt", Blind: true},
	} {
		w.opts.Specs = map[string]Spec{"pay": other}
		_, err := Open(t.Context(), w.shop, nil, w.opts)
		if !errors.Is(err, signers.ErrMismatch) {
			t.Errorf("Open with another %s: got %v, want ErrMismatch", name, err)
		}
	}
	w.opts.Specs = map[string]Spec{"pay": spec, "rent": spec}
	w.restart()
}
