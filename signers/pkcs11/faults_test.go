package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	raw "github.com/miekg/pkcs11"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// back is how soon after a fault the token must sign again.
const back = 2 * time.Second

// A drill is a back-end behind a shim, with one key.
type drill struct {
	*testing.T
	shim *shim.Shim
	b    *pkcs11.Backend
	key  signers.Key
}

func newDrill(t *testing.T, change ...func(*pkcs11.Config)) *drill {
	t.Helper()
	need(t)
	s, err := shim.Make(t.TempDir(), token.Module)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Module = s.Module
	for _, f := range change {
		f(&cfg)
	}
	d := &drill{T: t, shim: s, b: open(t, cfg)}
	t.Cleanup(s.Clear) // before the back-end closes: it may wait for a call
	d.key, err = d.b.Create(t.Context(), fresh("drill"), signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sign signs once, within a deadline. It fails the test if what comes out does
// not verify and its caller could not tell.
func (d *drill) sign(within time.Duration) (wrong bool, err error) {
	ctx, cancel := context.WithTimeout(d.Context(), within)
	defer cancel()
	sig, err := d.key.Sign(ctx, []byte("message"))
	if err != nil {
		return false, err
	}
	// What the keyring does with every signature.
	return signers.ECDSAP256.Verify(d.key.Public(), []byte("message"), sig) != nil, nil
}

// signsAgain holds that the token signs soon after a fault's end.
func (d *drill) signsAgain(what string) {
	d.Helper()
	for begun := time.Now(); ; {
		d.key.(signers.Doubter).Doubt() // as the keyring does after a wrong signature
		wrong, err := d.sign(back)
		if err == nil && !wrong {
			return
		}
		if time.Since(begun) > back {
			d.Errorf("%s: still %v (a wrong signature: %t) %v after the fault", what, err, wrong, back)
			return
		}
	}
}

// codes are every CKR code of PKCS #11 v2.40, but CKR_OK, and a vendor's.
func codes() []uint {
	all := []uint{
		raw.CKR_CANCEL, raw.CKR_HOST_MEMORY, raw.CKR_SLOT_ID_INVALID, raw.CKR_GENERAL_ERROR, raw.CKR_FUNCTION_FAILED,
		raw.CKR_ARGUMENTS_BAD, raw.CKR_NO_EVENT, raw.CKR_NEED_TO_CREATE_THREADS, raw.CKR_CANT_LOCK,
		raw.CKR_ATTRIBUTE_READ_ONLY, raw.CKR_ATTRIBUTE_SENSITIVE, raw.CKR_ATTRIBUTE_TYPE_INVALID,
		raw.CKR_ATTRIBUTE_VALUE_INVALID, raw.CKR_DATA_INVALID, raw.CKR_DATA_LEN_RANGE, raw.CKR_DEVICE_ERROR,
		raw.CKR_DEVICE_MEMORY, raw.CKR_DEVICE_REMOVED, raw.CKR_ENCRYPTED_DATA_INVALID, raw.CKR_ENCRYPTED_DATA_LEN_RANGE,
		raw.CKR_FUNCTION_CANCELED, raw.CKR_FUNCTION_NOT_PARALLEL, raw.CKR_FUNCTION_NOT_SUPPORTED,
		raw.CKR_KEY_HANDLE_INVALID, raw.CKR_KEY_SIZE_RANGE, raw.CKR_KEY_TYPE_INCONSISTENT, raw.CKR_KEY_NOT_NEEDED,
		raw.CKR_KEY_CHANGED, raw.CKR_KEY_NEEDED, raw.CKR_KEY_INDIGESTIBLE, raw.CKR_KEY_FUNCTION_NOT_PERMITTED,
		raw.CKR_KEY_NOT_WRAPPABLE, raw.CKR_KEY_UNEXTRACTABLE, raw.CKR_MECHANISM_INVALID,
		raw.CKR_MECHANISM_PARAM_INVALID, raw.CKR_OBJECT_HANDLE_INVALID, raw.CKR_OPERATION_ACTIVE,
		raw.CKR_OPERATION_NOT_INITIALIZED, raw.CKR_PIN_INCORRECT, raw.CKR_PIN_INVALID, raw.CKR_PIN_LEN_RANGE,
		raw.CKR_PIN_EXPIRED, raw.CKR_PIN_LOCKED, raw.CKR_SESSION_CLOSED, raw.CKR_SESSION_COUNT,
		raw.CKR_SESSION_HANDLE_INVALID, raw.CKR_SESSION_PARALLEL_NOT_SUPPORTED, raw.CKR_SESSION_READ_ONLY,
		raw.CKR_SESSION_EXISTS, raw.CKR_SESSION_READ_ONLY_EXISTS, raw.CKR_SESSION_READ_WRITE_SO_EXISTS,
		raw.CKR_SIGNATURE_INVALID, raw.CKR_SIGNATURE_LEN_RANGE, raw.CKR_TEMPLATE_INCOMPLETE,
		raw.CKR_TEMPLATE_INCONSISTENT, raw.CKR_TOKEN_NOT_PRESENT, raw.CKR_TOKEN_NOT_RECOGNIZED,
		raw.CKR_TOKEN_WRITE_PROTECTED, raw.CKR_UNWRAPPING_KEY_HANDLE_INVALID, raw.CKR_UNWRAPPING_KEY_SIZE_RANGE,
		raw.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, raw.CKR_USER_ALREADY_LOGGED_IN, raw.CKR_USER_NOT_LOGGED_IN,
		raw.CKR_USER_PIN_NOT_INITIALIZED, raw.CKR_USER_TYPE_INVALID, raw.CKR_USER_ANOTHER_ALREADY_LOGGED_IN,
		raw.CKR_USER_TOO_MANY_TYPES, raw.CKR_WRAPPED_KEY_INVALID, raw.CKR_WRAPPED_KEY_LEN_RANGE,
		raw.CKR_WRAPPING_KEY_HANDLE_INVALID, raw.CKR_WRAPPING_KEY_SIZE_RANGE, raw.CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
		raw.CKR_RANDOM_SEED_NOT_SUPPORTED, raw.CKR_RANDOM_NO_RNG, raw.CKR_DOMAIN_PARAMS_INVALID,
		raw.CKR_BUFFER_TOO_SMALL, raw.CKR_SAVED_STATE_INVALID, raw.CKR_INFORMATION_SENSITIVE, raw.CKR_STATE_UNSAVEABLE,
		raw.CKR_CRYPTOKI_NOT_INITIALIZED, raw.CKR_CRYPTOKI_ALREADY_INITIALIZED, raw.CKR_MUTEX_BAD,
		raw.CKR_MUTEX_NOT_LOCKED, raw.CKR_NEW_PIN_MODE, raw.CKR_NEXT_OTP, raw.CKR_FUNCTION_REJECTED,
		raw.CKR_VENDOR_DEFINED + 7,
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// reached are the functions that signing and recovering call.
var reached = []string{
	"C_SignInit", "C_Sign", "C_OpenSession", "C_CloseSession", "C_GetSessionInfo", "C_Login", "C_GetTokenInfo",
	"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_GetSlotList",
	"C_Initialize", "C_Finalize",
}

// TestEveryErrorAtEveryFunctionIsOverSoon has each function that signing and
// recovering calls answer each CKR code, in place of the call and after it,
// while the session is lost as well so that all of them are called.
func TestEveryErrorAtEveryFunctionIsOverSoon(t *testing.T) {
	d := newDrill(t)
	met := 0
	for _, function := range reached {
		for _, when := range []shim.When{shim.Before, shim.After} {
			for _, code := range sample(codes(), function, when) {
				d.meets(function, when, code)
				met++
			}
		}
	}
	t.Logf("%d faults: each of %d functions, before and after", met, len(reached))
}

// campaign is set for a long run: conformance/test.sh --campaign ckr.
var campaign = os.Getenv("SIGNET_CAMPAIGN") == "ckr"

// sample is every seventh code, other ones for each function, so that all are
// met; the campaign has them all.
func sample(all []uint, function string, when shim.When) []uint {
	if campaign {
		return all
	}
	var some []uint
	for i := (len(function) + int(when)) % 7; i < len(all); i += 7 {
		some = append(some, all[i])
	}
	return some
}

// meets has one function answer one code while somebody signs.
func (d *drill) meets(function string, when shim.When, code uint) {
	d.Helper()
	what := fmt.Sprintf("%s answers %v (%d)", function, raw.Error(code), when)
	if function == "C_Login" && refusesPIN(code) {
		return // TestAPINThatIsRefusedIsNeverTriedAgain
	}
	d.shim.Set(
		shim.Fault{Function: "C_SignInit", Action: shim.DropSessions, Times: 1},
		shim.Fault{Function: function, When: when, Action: shim.Fail, Code: code, Times: 5})
	if wrong, _ := d.sign(20 * time.Millisecond); wrong {
		d.Errorf("%s: a wrong signature", what)
	}
	logins := d.shim.Calls("C_Login")
	d.shim.Clear()
	d.signsAgain(what)
	if n := d.shim.Calls("C_Login") - logins; n > 1 {
		d.Errorf("%s: %d C_Logins to recover, want one at most", what, n)
	}
}

func refusesPIN(code uint) bool {
	return slices.Contains([]uint{
		raw.CKR_PIN_INCORRECT, raw.CKR_PIN_LOCKED, raw.CKR_PIN_EXPIRED, raw.CKR_PIN_INVALID, raw.CKR_PIN_LEN_RANGE,
		raw.CKR_USER_PIN_NOT_INITIALIZED,
	}, code)
}

// TestWhatModulesDoIsOverSoon has the module do everything else that it can.
func TestWhatModulesDoIsOverSoon(t *testing.T) {
	for _, f := range []shim.Fault{
		{Function: "C_Sign", Action: shim.Corrupt, Times: 3},
		{Function: "C_Sign", Action: shim.Zero, Times: 3},
		{Function: "C_Sign", Action: shim.Short, Times: 3},
		{Function: "C_SignInit", Action: shim.SwapKey, Times: 3},
		{Function: "C_SignInit", Action: shim.DropSessions, Times: 3},
		{Function: "C_SignInit", Action: shim.Logout, Times: 3},
		{Function: "C_SignInit", Action: shim.Stick, Times: 3},
		{Function: "C_Sign", Action: shim.Wait, Delay: 50 * time.Millisecond, Times: 3},
		{Function: "C_Sign", Action: shim.Hang},
		{Function: "C_OpenSession", Action: shim.Hang},
	} {
		t.Run(fmt.Sprintf("%s-%d", f.Function, f.Action), func(t *testing.T) {
			d := newDrill(t)
			if _, err := d.b.Create(t.Context(), fresh("another"), signers.ECDSAP256); err != nil {
				t.Fatal(err) // to swap with
			}
			d.shim.Set(f)
			_, _ = d.sign(100 * time.Millisecond)
			d.shim.Clear()
			d.signsAgain("afterwards")
		})
	}
}

// TestAFaultUnderLoadCostsCallersADelayOnly loses sessions, logins and the
// whole module under 32 callers: none sees an error.
func TestAFaultUnderLoadCostsCallersADelayOnly(t *testing.T) {
	d := newDrill(t)
	var wg sync.WaitGroup
	var over atomic.Bool
	for range 32 {
		wg.Go(func() {
			for !over.Load() {
				if wrong, err := d.sign(10 * time.Second); err != nil || wrong {
					t.Errorf("got %v, a wrong signature: %t", err, wrong)
				}
			}
		})
	}
	for _, f := range []shim.Fault{
		{Function: "C_SignInit", Action: shim.DropSessions, Times: 1},
		{Function: "C_SignInit", Action: shim.Logout, Times: 1},
		{Function: "C_Sign", Action: shim.Fail, Code: raw.CKR_DEVICE_ERROR},
		{Function: "C_SignInit", Action: shim.Fail, Code: raw.CKR_TOKEN_NOT_PRESENT},
		{Function: "C_SignInit", When: shim.After, Action: shim.Fail, Code: raw.CKR_CRYPTOKI_NOT_INITIALIZED},
	} {
		d.shim.Set(f)
		time.Sleep(200 * time.Millisecond) // how long the fault lasts
		d.shim.Clear()
		d.signsAgain("under load")
	}
	over.Store(true)
	wg.Wait()
}

// TestAModuleThatOnlyHealsWhenItIsInitialisedIs takes the fourth rung.
func TestAModuleThatOnlyHealsWhenItIsInitialisedIs(t *testing.T) {
	d := newDrill(t)
	d.shim.Set(shim.Fault{Function: "C_SignInit", Action: shim.Fail, Code: raw.CKR_GENERAL_ERROR})
	begun := d.shim.Calls("C_Initialize")
	done := make(chan error, 1)
	go func() { _, err := d.sign(10 * time.Second); done <- err }()
	for d.shim.Calls("C_Initialize") == begun {
		time.Sleep(time.Millisecond)
	}
	d.shim.Clear()
	if err := <-done; err != nil {
		t.Errorf("got %v, want a signature: its caller had waited", err)
	}
	if r := d.b.Report(); r.State != "ready" || r.Recoveries["module"] == 0 {
		t.Errorf("Report: got %+v, want ready again by the module's rung", r)
	}
}

// TestAPINThatIsRefusedIsNeverTriedAgain keeps a load up for a while, in the
// campaign for a minute: one C_Login, whatever is asked.
func TestAPINThatIsRefusedIsNeverTriedAgain(t *testing.T) {
	load := time.Second
	if campaign {
		load = time.Minute
	}
	wrong := atomic.Bool{}
	d := newDrill(t, func(c *pkcs11.Config) {
		c.KeepAlive = 10 * time.Millisecond
		c.PIN = func(context.Context) ([]byte, error) {
			if wrong.Load() {
				return []byte("0000"), nil
			}
			return []byte(token.PIN), nil
		}
	})
	wrong.Store(true)
	before := d.shim.Calls("C_Login")
	d.shim.Set(shim.Fault{Function: "C_SignInit", Action: shim.Logout, Times: 1})
	for end := time.Now().Add(load); time.Now().Before(end); {
		if _, err := d.sign(10 * time.Second); !errors.Is(err, signers.ErrDenied) {
			t.Fatalf("got %v, want ErrDenied", err)
		}
		if _, err := d.b.List(t.Context()); !errors.Is(err, signers.ErrDenied) {
			t.Fatalf("List: got %v, want ErrDenied", err)
		}
	}
	if n := d.shim.Calls("C_Login") - before; n != 1 {
		t.Errorf("%d C_Logins with a wrong PIN, want 1", n)
	}
	if r := d.b.Report(); r.State != "refused" {
		t.Errorf("Report: got %q, want refused", r.State)
	}
}

// TestACallThatHangsIsSeenAndLeavesOthersTheirDeadline: a C call can't be ended.
func TestACallThatHangsIsSeenAndLeavesOthersTheirDeadline(t *testing.T) {
	d := newDrill(t, func(c *pkcs11.Config) { c.HangAfter = 50 * time.Millisecond })
	d.shim.Set(shim.Fault{Function: "C_Sign", Action: shim.Hang})
	begun := time.Now()
	if _, err := d.sign(300 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the caller waited %v, its deadline was 300 ms", took)
	}
	if r := d.b.Report(); r.State != "stuck" {
		t.Errorf("Report: got %+v, want stuck", r)
	}
	d.shim.Clear()
	d.signsAgain("after the hang")
}

func TestIdleSessionsAreLookedAt(t *testing.T) {
	d := newDrill(t, func(c *pkcs11.Config) { c.KeepAlive = 5 * time.Millisecond })
	d.shim.Set(shim.Fault{Function: "C_GetSessionInfo", Action: shim.DropSessions, Times: 1})
	for begun := time.Now(); d.b.Report().Recoveries["session"] == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("a lost session was not met by the keep-alive")
		}
	}
	inits := d.shim.Calls("C_SignInit")
	d.signsAgain("after the keep-alive")
	if n := d.shim.Calls("C_SignInit") - inits; n > 2 {
		t.Errorf("%d tries to sign, want one: the sessions were mended before", n)
	}
}

// TestAKeyIsNotDestroyedUnderASignature: a module may crash of it.
func TestAKeyIsNotDestroyedUnderASignature(t *testing.T) {
	d := newDrill(t)
	d.shim.Set(shim.Fault{Function: "C_Sign", Action: shim.Hang})
	signed := make(chan error, 1)
	calls := d.shim.Calls("C_Sign")
	go func() { _, err := d.sign(10 * time.Second); signed <- err }()
	for d.shim.Calls("C_Sign") == calls {
		time.Sleep(time.Millisecond)
	}
	id := d.key.(*pkcs11.Key).ID()
	destroyed := make(chan error, 1)
	go func() { destroyed <- d.b.Destroy(t.Context(), id) }()
	select {
	case err := <-destroyed:
		t.Fatalf("Destroy: got %v while a signature was under way", err)
	case <-time.After(100 * time.Millisecond): // it would have been a few
	}
	if n := d.shim.Calls("C_DestroyObject"); n != 0 {
		t.Errorf("%d C_DestroyObject while a signature was under way", n)
	}
	d.shim.Clear()
	if err := <-signed; err != nil {
		t.Errorf("the signature under way: got %v", err)
	}
	if err := <-destroyed; err != nil {
		t.Errorf("Destroy: %v", err)
	}
	if _, err := d.sign(time.Second); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("afterwards: got %v, want ErrNotFound", err)
	}
}

// TestASignatureThatHangsKeepsItsKey: Destroy gives up at its deadline, and
// nothing signs with the key meanwhile.
func TestASignatureThatHangsKeepsItsKey(t *testing.T) {
	d := newDrill(t)
	d.shim.Set(shim.Fault{Function: "C_Sign", Action: shim.Hang})
	if _, err := d.sign(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	id := d.key.(*pkcs11.Key).ID()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.b.Destroy(ctx, id); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("Destroy: got %v, want ErrUnavailable", err)
	}
	d.shim.Clear()
	if _, err := d.sign(time.Second); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("Sign: got %v, want ErrNotFound", err)
	}
	if err := d.b.Destroy(t.Context(), id); err != nil {
		t.Errorf("Destroy, once the call came back: %v", err)
	}
}

// TestWhateverRefusesThePINIsTheLastTry: modules have more than one word for a
// wrong PIN, and each try may count.
func TestWhateverRefusesThePINIsTheLastTry(t *testing.T) {
	for _, code := range codes() {
		if !refusesPIN(code) {
			continue
		}
		t.Run(raw.Error(code).Error(), func(t *testing.T) {
			d := newDrill(t, func(c *pkcs11.Config) { c.KeepAlive = 10 * time.Millisecond })
			before := d.shim.Calls("C_Login")
			d.shim.Set(
				shim.Fault{Function: "C_SignInit", Action: shim.Logout, Times: 1},
				shim.Fault{Function: "C_Login", Action: shim.Fail, Code: code})
			for range 20 {
				if _, err := d.sign(10 * time.Second); !errors.Is(err, signers.ErrDenied) {
					t.Fatalf("got %v, want ErrDenied", err)
				}
			}
			if n := d.shim.Calls("C_Login") - before; n != 1 {
				t.Errorf("%d C_Logins, want 1", n)
			}
		})
	}
}

// TestASessionIsReplacedOnATokenThatHasNoMore: a token with a limit may have no
// room for the new one beside the old.
func TestASessionIsReplacedOnATokenThatHasNoMore(t *testing.T) {
	d := newDrill(t) // two to sign with and one
	d.shim.Set(
		shim.Fault{Function: "C_OpenSession", Action: shim.Limit, Code: 3},
		shim.Fault{Function: "C_Sign", Action: shim.Fail, Code: raw.CKR_DEVICE_ERROR, Times: 1})
	if wrong, err := d.sign(back); err != nil || wrong {
		t.Errorf("got %v, a wrong signature: %t", err, wrong)
	}
	if r := d.b.Report(); r.Recoveries["session"] != 1 || r.Recoveries["module"] != 0 || r.Recoveries["login"] != 0 {
		t.Errorf("Report: got %v, want one session replaced and nothing else", r.Recoveries)
	}
}
