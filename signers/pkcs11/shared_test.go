package pkcs11_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	raw "github.com/miekg/pkcs11"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// A neighbour is a second token behind a drill's module, with a key.
type neighbour struct {
	*drill
	slot uint // of the drill's own token
}

// newNeighbours opens two tokens of one module, the second by another path.
func newNeighbours(t *testing.T) (*drill, neighbour) {
	t.Helper()
	d := newDrill(t)
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(d.shim.Module, link); err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Module, cfg.TokenLabel = link, second
	n := neighbour{drill: &drill{T: t, shim: d.shim, b: open(t, cfg)}}
	t.Cleanup(d.shim.Clear)
	var err error
	if n.key, err = n.b.Create(t.Context(), fresh("neighbour"), signers.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	n.slot = slotOf(t, raw.New(d.shim.Module), token.Label)
	return d, n
}

// TestTwoTokensShareOneModule: it is initialised once for both, whatever path
// each has, and finalised with the last.
func TestTwoTokensShareOneModule(t *testing.T) {
	d, n := newNeighbours(t)
	if got := d.shim.Calls("C_Initialize"); got != 1 {
		t.Errorf("%d C_Initialize for two tokens, want one", got)
	}
	signs(t, d.key)
	signs(t, n.key)
	if err := d.b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.shim.Calls("C_Finalize"); got != 0 {
		t.Errorf("%d C_Finalize while a token is in use", got)
	}
	signs(t, n.key)
	cfg := config()
	cfg.Module = d.shim.Module
	again, err := pkcs11.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("the first token again: %v", err)
	}
	if err := n.b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.shim.Calls("C_Finalize"); got != 1 {
		t.Errorf("%d C_Finalize after the last token was closed, want one", got)
	}
}

// keep signs with a key from several callers, each with time enough, until it
// is told to stop: none may see an error. It counts the signatures.
func (n neighbour) keep(callers int) (signed *atomic.Int64, stop func()) {
	signed = &atomic.Int64{}
	var wg sync.WaitGroup
	var over atomic.Bool
	for range callers {
		wg.Go(func() {
			for !over.Load() {
				if wrong, err := n.sign(10 * time.Second); err != nil || wrong {
					n.Errorf("the other token: got %v, a wrong signature: %t", err, wrong)
					return
				}
				signed.Add(1)
			}
		})
	}
	return signed, func() { over.Store(true); wg.Wait() }
}

// TestARecoveryOfATokenLetsAnothersSignaturesEnd: the fourth rung waits for
// calls that are under way, and what comes after them is delayed only.
func TestARecoveryOfATokenLetsAnothersSignaturesEnd(t *testing.T) {
	d, n := newNeighbours(t)
	slow := slotOf(t, raw.New(d.shim.Module), second)
	d.shim.Set(
		shim.Fault{Function: "C_Sign", Slot: slow, Action: shim.Wait, Delay: 300 * time.Millisecond},
		shim.Fault{Function: "C_SignInit", Slot: n.slot, Action: shim.Fail, Code: raw.CKR_GENERAL_ERROR})
	signed, stop := n.keep(4)
	begun := d.shim.Calls("C_Initialize")
	done := make(chan error, 1)
	go func() { _, err := d.sign(20 * time.Second); done <- err }()
	for end := time.Now().Add(20 * time.Second); d.shim.Calls("C_Initialize") < begun+2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	before := signed.Load()
	d.shim.Clear()
	if err := <-done; err != nil {
		t.Errorf("the token that failed: got %v, want a signature: its caller had waited", err)
	}
	for end := time.Now().Add(5 * back); signed.Load() < before+20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the other token does not sign again")
		}
	}
	stop()
	if got := d.shim.Overlaps(); got != 0 {
		t.Errorf("%d C_Finalize while a call was under way", got)
	}
	if r := d.b.Report(); r.Recoveries["module"] < 2 {
		t.Errorf("Report: got %v, want the module's rung twice", r.Recoveries)
	}
}

// TestTheModulesRungIsRareBesideABusyToken: others pay for it with a pause, so
// it waits, and longer each time; a signature begins that anew.
func TestTheModulesRungIsRareBesideABusyToken(t *testing.T) {
	var now atomic.Int64
	d := newDrill(t, func(c *pkcs11.Config) { c.Now = func() time.Time { return time.Unix(1e9+now.Load(), 0) } })
	for i, step := range []struct {
		after int64 // seconds
		taken bool
		signs bool
	}{
		{0, false, false}, {1, true, false}, {1, false, false}, {1, true, false}, {3, false, false}, {1, true, true},
		{0, false, false}, {1, true, false}, {2, true, false}, {4, true, false}, {8, true, false}, {16, true, false}, {32, true, false},
		{59, false, false}, {1, true, false}, {59, false, false}, {1, true, false},
	} {
		now.Add(step.after)
		if got := d.b.RenewBesideOthers(); got != step.taken {
			t.Errorf("step %d: taken is %t, want %t", i, got, step.taken)
		}
		if step.signs {
			d.signsAgain("between")
		}
	}
}

// TestATokenRecoversBesideABusyOne: some modules find a token again only when
// they are initialised, and another token's traffic must not put that off.
func TestATokenRecoversBesideABusyOne(t *testing.T) {
	d, n := newNeighbours(t)
	_, stop := n.keep(2)
	d.shim.Set(shim.Fault{Function: "C_SignInit", Slot: n.slot, Action: shim.Fail, Code: raw.CKR_DEVICE_REMOVED})
	begun := d.shim.Calls("C_Initialize")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := d.key.Sign(ctx, []byte("message")); done <- err }()
	for d.shim.Calls("C_Initialize") == begun && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	d.shim.Clear()
	if err := <-done; err != nil {
		t.Errorf("got %v, want a signature after the module was initialised again", err)
	}
	stop()
}
