package opencryptoki_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/signers"
)

// drillCodes are some of those that modules of other makers answer; signers/pkcs11
// has every code met by SoftHSM.
var drillCodes = []uint{
	pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY,
	pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_OPERATION_ACTIVE,
	pkcs11.CKR_OPERATION_NOT_INITIALIZED, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_VENDOR_DEFINED + 7,
}

// sampled is how many codes each function meets on each side of the call.
const sampled = 4

// drills are a sample, from a seed that is printed.
func drills(t *testing.T) []shim.Drill {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	all := shim.Drills()
	for _, function := range []string{"C_Sign", "C_SignInit", "C_FindObjects"} {
		for _, when := range []shim.When{shim.Before, shim.After} {
			for _, i := range r.Perm(len(drillCodes))[:sampled] {
				code := drillCodes[i]
				all = append(all, shim.Drill{
					Name:  fmt.Sprintf("%s answers %v (%d)", function, pkcs11.Error(code), when),
					Fault: shim.Fault{Function: function, When: when, Action: shim.Fail, Code: code, Times: 5},
				})
			}
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// TestWhatGoesWrongInOpenCryptokiIsOverSoon: no wrong signature is taken for a
// good one, and the key signs within two seconds of a fault's end.
func TestWhatGoesWrongInOpenCryptokiIsOverSoon(t *testing.T) {
	cfg := second(t)
	s, err := shim.Make(t.TempDir(), cfg.Module)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Module = s.Module
	b := open(t, cfg)
	t.Cleanup(s.Clear)
	key, err := b.Create(t.Context(), "drill", alg)
	if err != nil {
		t.Fatal(err)
	}
	all := drills(t)
	for _, d := range all {
		end := s.Begin(d)
		if d.Function == "C_FindObjects" {
			key.(signers.Doubter).Doubt() // it is looked for only then
		}
		_ = signs(t, key, 100*time.Millisecond) // it may fail as it likes
		end()
		begun := time.Now()
		err := signs(t, key, back)
		for err != nil && time.Since(begun) < back {
			err = signs(t, key, back)
		}
		if err != nil {
			t.Errorf("%s: %v after its end: %v", d.Name, back, err)
		}
	}
	t.Logf("%d faults", len(all))
	if err := b.Destroy(t.Context(), "drill"); err != nil {
		t.Error(err)
	}
}

const (
	alg  = signers.Algorithm("rsa2048-pkcs1-sha256")
	back = 2 * time.Second
)

// signs signs once and verifies, as the keyring does.
func signs(t *testing.T, key signers.Key, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	sig, err := key.Sign(ctx, []byte("message"))
	if err != nil {
		return err
	}
	if err := alg.Verify(key.Public(), []byte("message"), sig); err != nil {
		key.(signers.Doubter).Doubt()
		return err
	}
	return nil
}
