package shim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/softhsm"
)

var (
	token    softhsm.Token
	tokenErr error
)

// crashing is the module that a re-executed test crashes in.
const crashing = "SIGNET_SHIM_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashing) != "" {
		_ = pkcs11.New(os.Getenv(crashing)).Initialize()
		os.Exit(0) // which it should not come to
	}
	dir, err := os.MkdirTemp("", "signet-shim-")
	if err != nil {
		panic(err)
	}
	if token, tokenErr = softhsm.Make(filepath.Join(dir, "hsm")); tokenErr == nil {
		tokenErr = os.Setenv("SOFTHSM2_CONF", token.Conf)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A rig is a shim with a session that is logged in and two keys.
type rig struct {
	*shim.Shim
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
	keys    [2]pkcs11.ObjectHandle
	public  [2]*ecdsa.PublicKey
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if tokenErr != nil {
		if os.Getenv("REQUIRE_SOFTHSM") != "" {
			t.Fatal(tokenErr)
		}
		t.Skip(tokenErr)
	}
	s, err := shim.Make(t.TempDir(), token.Module)
	must(t, err)
	r := &rig{Shim: s, ctx: pkcs11.New(s.Module)}
	if r.ctx == nil {
		t.Fatal("the shim can't be loaded")
	}
	must(t, r.ctx.Initialize())
	t.Cleanup(func() { s.Clear(); _ = r.ctx.Finalize() })
	slots, err := r.ctx.GetSlotList(true)
	must(t, err)
	r.session, err = r.ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, err)
	must(t, r.ctx.Login(r.session, pkcs11.CKU_USER, token.PIN))
	for i := range r.keys {
		r.keys[i], r.public[i] = r.generate(t)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// generate makes a session key: it is gone with the session.
func (r *rig) generate(t *testing.T) (pkcs11.ObjectHandle, *ecdsa.PublicKey) {
	t.Helper()
	params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	must(t, err)
	pub, priv, err := r.ctx.GenerateKeyPair(r.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)})
	must(t, err)
	got, err := r.ctx.GetAttributeValue(r.session, pub, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	must(t, err)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), got[0].Value[2:])
	must(t, err)
	return priv, key
}

var digest = make([]byte, 32)

func (r *rig) sign() ([]byte, error) {
	if err := r.ctx.SignInit(r.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, r.keys[0]); err != nil {
		return nil, err
	}
	return r.ctx.Sign(r.session, digest)
}

// good reports whether a signature is of key i.
func (r *rig) good(i int, sig []byte) bool {
	n := len(sig) / 2
	return ecdsa.Verify(r.public[i], digest, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
}

func TestWithoutAFaultItIsTheRealModule(t *testing.T) {
	r := newRig(t)
	before := r.Calls("C_SignInit")
	for range 3 {
		sig, err := r.sign()
		must(t, err)
		if !r.good(0, sig) {
			t.Error("the signature does not verify")
		}
	}
	if n := r.Calls("C_SignInit") - before; n != 3 {
		t.Errorf("C_SignInit was counted %d times, want 3", n)
	}
	if len(shim.Functions()) != 68 {
		t.Errorf("%d functions, want 68", len(shim.Functions()))
	}
}

func TestAFailureIsAnsweredAtItsPlaceAndTimes(t *testing.T) {
	r := newRig(t)
	r.Set(shim.Fault{Function: "C_SignInit", Action: shim.Fail, Code: pkcs11.CKR_DEVICE_ERROR, Skip: 1, Times: 2})
	for i, want := range []error{nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), nil} {
		if _, err := r.sign(); !errors.Is(err, want) {
			t.Errorf("signature %d: got %v, want %v", i, err, want)
		}
	}
	// After: the real call was made, and has begun an operation.
	r.Set(shim.Fault{Function: "C_SignInit", When: shim.After, Action: shim.Fail, Code: pkcs11.CKR_HOST_MEMORY, Times: 1})
	for _, want := range []uint{pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_OPERATION_ACTIVE} {
		if _, err := r.sign(); !errors.Is(err, pkcs11.Error(want)) {
			t.Errorf("got %v, want %v", err, pkcs11.Error(want))
		}
	}
}

func TestASignatureIsSpoilt(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name   string
		fault  shim.Fault
		length int
	}{
		{"a flipped bit", shim.Fault{Function: "C_Sign", Action: shim.Corrupt}, 64},
		{"zeros", shim.Fault{Function: "C_Sign", When: shim.After, Action: shim.Zero}, 64},
		{"one byte less", shim.Fault{Function: "C_Sign", When: shim.After, Action: shim.Short}, 63},
		{"another key's", shim.Fault{Function: "C_SignInit", Action: shim.SwapKey}, 64},
	} {
		r.Set(c.fault)
		sig, err := r.sign()
		must(t, err)
		if len(sig) != c.length || r.good(0, sig) {
			t.Errorf("%s: got %d bytes that verify: %t", c.name, len(sig), r.good(0, sig))
		}
	}
	if sig, err := r.sign(); err != nil || !r.good(1, sig) {
		t.Errorf("another key's: got %v, want a signature of the other key", err)
	}
}

func TestSessionsLoginsAndOperationsAreLost(t *testing.T) {
	for _, c := range []struct {
		action shim.Action
		want   []uint
	}{
		{shim.DropSessions, []uint{pkcs11.CKR_SESSION_HANDLE_INVALID}},
		{shim.Logout, []uint{pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID}},
		{shim.Stick, []uint{pkcs11.CKR_OPERATION_ACTIVE}},
	} {
		r := newRig(t)
		r.Set(shim.Fault{Function: "C_SignInit", Action: c.action, Times: 1})
		_, err := r.sign()
		found := false
		for _, code := range c.want {
			found = found || errors.Is(err, pkcs11.Error(code))
		}
		if !found {
			t.Errorf("action %d: got %v, want one of %x", c.action, err, c.want)
		}
	}
}

func TestACallWaitsOrHangs(t *testing.T) {
	r := newRig(t)
	r.Set(shim.Fault{Function: "C_Sign", Action: shim.Wait, Delay: 30 * time.Millisecond})
	begun := time.Now()
	if _, err := r.sign(); err != nil || time.Since(begun) < 30*time.Millisecond {
		t.Errorf("got %v after %v, want a signature after 30 ms", err, time.Since(begun))
	}
	r.Set(shim.Fault{Function: "C_Sign", Action: shim.Hang})
	done := make(chan error, 1)
	go func() { _, err := r.sign(); done <- err }()
	select {
	case err := <-done:
		t.Errorf("a call that hangs came back: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.Clear()
	if err := <-done; err != nil {
		t.Errorf("after Clear: got %v, want a signature", err)
	}
}

func TestTwoShimsAreTwoModules(t *testing.T) {
	a, b := newRig(t), newRig(t)
	a.Set(shim.Fault{Action: shim.Fail, Code: pkcs11.CKR_GENERAL_ERROR})
	if _, err := a.sign(); err == nil {
		t.Error("a: got a signature, want the fault")
	}
	if _, err := b.sign(); err != nil {
		t.Errorf("b: got %v, want a signature: the fault is a's", err)
	}
}

// TestACrashEndsTheProcess runs itself again, to crash.
func TestACrashEndsTheProcess(t *testing.T) {
	r := newRig(t)
	r.Set(shim.Fault{Function: "C_Initialize", Action: shim.Crash})
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashing+"="+r.Module)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "SIGSEGV") {
		t.Errorf("got %v, want a process that died of SIGSEGV:\n%.300s", err, out)
	}
}
