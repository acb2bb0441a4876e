package pkcs11_test

import (
	"crypto"
	"errors"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// A slow search makes a token list its keys. This is a drill with a few keys
// more, on a clock of its own.
type listed struct {
	*drill
	now time.Time
	ids []signers.KeyID
}

func newListed(t *testing.T) *listed {
	t.Helper()
	l := &listed{now: time.Now()}
	l.drill = newDrill(t, func(c *pkcs11.Config) { c.Now = func() time.Time { return l.now } })
	for range 5 {
		l.create(fresh("listed"))
	}
	l.slow("C_FindObjectsInit", 60*time.Millisecond)
	return l
}

func (l *listed) create(id signers.KeyID) signers.Key {
	l.Helper()
	key, err := l.b.Create(l.Context(), id, signers.ECDSAP256)
	if err != nil {
		l.Fatal(err)
	}
	l.ids = append(l.ids, id)
	return key
}

func (l *listed) slow(function string, by time.Duration) {
	l.shim.Set(shim.Fault{Function: function, When: shim.Before, Action: shim.Wait, Delay: by})
}

// searches opens a key and counts what was searched for.
func (l *listed) searches(id signers.KeyID) (signers.Key, int) {
	l.Helper()
	before := l.shim.Calls("C_FindObjectsInit")
	key, err := l.b.Open(l.Context(), id, signers.ECDSAP256)
	if err != nil {
		l.Fatalf("Open %q: %v", id, err)
	}
	return key, l.shim.Calls("C_FindObjectsInit") - before
}

func TestATokenThatSearchesSlowlyIsListedOnce(t *testing.T) {
	l := newListed(t)
	if _, n := l.searches(l.ids[0]); n != 3 {
		t.Errorf("the first key took %d searches, want one for it and one for each class of objects", n)
	}
	for _, id := range l.ids[1:] {
		if _, n := l.searches(id); n != 0 {
			t.Errorf("a key on the list took %d searches, want none", n)
		}
	}
	l.now = l.now.Add(2 * time.Minute)
	if _, n := l.searches(l.ids[1]); n != 3 {
		t.Errorf("with an old list: %d searches, want a new list", n)
	}
}

// TestAListIsNotBelieved: it may be old, and a handle another object's.
func TestAListIsNotBelieved(t *testing.T) {
	l := newListed(t)
	l.searches(l.ids[0])
	gone, later := l.ids[1], fresh("later")
	if err := l.b.Destroy(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if _, err := l.b.Open(t.Context(), gone, signers.ECDSAP256); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("a key that was destroyed since: got %v, want ErrNotFound", err)
	}
	l.create(later)
	l.searches(later)
	fresh := l.create(gone)
	again, _ := l.searches(gone)
	if !fresh.Public().(interface{ Equal(x crypto.PublicKey) bool }).Equal(again.Public()) {
		t.Error("a key that was made again since: got the old one")
	}
}

// TestAListThatCostsTooMuchIsGivenUp, as on a token that searches well and
// reads attributes over a network.
func TestAListThatCostsTooMuchIsGivenUp(t *testing.T) {
	l := newListed(t)
	l.shim.Set(shim.Fault{Function: "C_FindObjectsInit", When: shim.Before, Action: shim.Wait, Delay: 60 * time.Millisecond},
		shim.Fault{Function: "C_FindObjects", When: shim.Before, Action: shim.Wait, Delay: 4 * time.Second, Times: 1, Skip: 2})
	if _, n := l.searches(l.ids[0]); n != 3 {
		t.Errorf("a key took %d searches, want its id, a list that was given up, and its label", n)
	}
	l.slow("C_FindObjectsInit", 60*time.Millisecond)
	l.now = l.now.Add(2 * time.Minute)
	if _, n := l.searches(l.ids[1]); n != 2 {
		t.Errorf("the next key took %d searches, want its id and its label", n)
	}
}
