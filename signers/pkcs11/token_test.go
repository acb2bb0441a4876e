package pkcs11_test

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	raw "github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// made counts ids, so that tests can be repeated on one token.
var made atomic.Int64

// fresh is an id that no test has used.
func fresh(name string) signers.KeyID {
	return signers.KeyID(fmt.Sprintf("%s-%d", name, made.Add(1)))
}

// outsider makes a P-256 key pair with miekg/pkcs11 alone, as another program
// would, with one attribute of the private key changed.
func outsider(t *testing.T, label string, change *raw.Attribute) {
	t.Helper()
	ctx := raw.New(token.Module)
	if err := ctx.Initialize(); err != nil && !errors.Is(err, raw.Error(raw.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slotOf(t, ctx, token.Label), raw.CKF_SERIAL_SESSION|raw.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ctx.CloseSession(s) })
	params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	private := []*raw.Attribute{
		raw.NewAttribute(raw.CKA_TOKEN, true), raw.NewAttribute(raw.CKA_PRIVATE, true), raw.NewAttribute(raw.CKA_SENSITIVE, true),
		raw.NewAttribute(raw.CKA_EXTRACTABLE, false), raw.NewAttribute(raw.CKA_SIGN, true),
		raw.NewAttribute(raw.CKA_LABEL, label), raw.NewAttribute(raw.CKA_ID, label),
	}
	for i, a := range private {
		if a.Type == change.Type {
			private[i] = change
		}
	}
	public := []*raw.Attribute{
		raw.NewAttribute(raw.CKA_EC_PARAMS, params), raw.NewAttribute(raw.CKA_TOKEN, true),
		raw.NewAttribute(raw.CKA_LABEL, label), raw.NewAttribute(raw.CKA_ID, label),
	}
	if _, _, err := ctx.GenerateKeyPair(s, []*raw.Mechanism{raw.NewMechanism(raw.CKM_EC_KEY_PAIR_GEN, nil)}, public, private); err != nil {
		t.Fatal(err)
	}
}

// slotOf is where a token is.
func slotOf(t *testing.T, ctx *raw.Ctx, label string) uint {
	t.Helper()
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.Label == label {
			return slot
		}
	}
	t.Fatalf("no token %q", label)
	return 0
}

func TestAKeyThatIsNotAsOursIsRefused(t *testing.T) {
	b := open(t, config())
	for _, c := range []struct {
		id     signers.KeyID
		change *raw.Attribute
		says   string
	}{
		{fresh("may-leave"), raw.NewAttribute(raw.CKA_EXTRACTABLE, true), "CKA_EXTRACTABLE"},
		{fresh("can-be-read"), raw.NewAttribute(raw.CKA_SENSITIVE, false), "CKA_SENSITIVE"},
	} {
		outsider(t, string(c.id), c.change)
		_, err := b.Open(t.Context(), c.id, signers.ECDSAP256)
		if !errors.Is(err, signers.ErrMismatch) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Open(%q): got %v, want ErrMismatch that names %s", c.id, err, c.says)
		}
		if _, err := b.Create(t.Context(), c.id, signers.ECDSAP256); !errors.Is(err, signers.ErrExists) {
			t.Errorf("Create(%q): got %v, want ErrExists", c.id, err)
		}
	}
}

func TestTwoKeysOfOneNameAreRefused(t *testing.T) {
	b, id := open(t, config()), fresh("twice")
	if _, err := b.Create(t.Context(), id, signers.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	outsider(t, string(id), raw.NewAttribute(raw.CKA_EXTRACTABLE, true))
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("Open: got %v, want ErrMismatch", err)
	}
	if err := b.Destroy(t.Context(), id); err == nil {
		t.Error("Destroy: got no error, and one of the two is not ours")
	}
}

// signs holds that a key makes a signature that verifies.
func signs(t *testing.T, k signers.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sig, err := k.Sign(ctx, []byte("message"))
	if err != nil {
		t.Errorf("Sign: %v", err)
	} else if err := signers.ECDSAP256.Verify(k.Public(), []byte("message"), sig); err != nil {
		t.Error(err)
	}
}

func TestALostSessionIsReplaced(t *testing.T) {
	b, id := open(t, config()), fresh("survivor")
	k, err := b.Create(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.LoseSessions()
		for range 4 { // each session, more than once
			signs(t, k)
		}
		if _, err := b.Open(t.Context(), id, signers.ECDSAP256); err != nil {
			t.Errorf("Open after the sessions were lost: %v", err)
		}
	}
	pkcs11.StaleHandle(k)
	signs(t, k)
	if n := b.SessionCount(); n != 3 {
		t.Errorf("%d sessions, want the 2 to sign with and 1", n)
	}
}

func TestManyCallersShareFewSessions(t *testing.T) {
	b := open(t, config())
	k, err := b.Create(t.Context(), fresh("shared"), signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 10 {
				if i == 7 {
					b.LoseSessions() // under load
				}
				signs(t, k)
			}
		})
	}
	wg.Wait()
}

func TestACallerThatGaveUpIsNotServed(t *testing.T) {
	b := open(t, config())
	k, err := b.Create(t.Context(), fresh("patient"), signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Sign(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign: got %v, want context.Canceled", err)
	}
}

func TestAnAmbiguousTokenIsNotGuessed(t *testing.T) {
	need(t)
	cfg := config()
	cfg.TokenLabel = ""
	if _, err := pkcs11.Open(t.Context(), cfg); err == nil {
		t.Error("Open without label and serial: got no error")
	}
	if _, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: "/nonexistent.so", TokenLabel: "x", PIN: pin, Now: time.Now}); err == nil {
		t.Error("Open of a module that is not there: got no error")
	}
}

// TestLargeRSAKeysSign makes one key of each size that the suite leaves out,
// since making them takes long.
func TestLargeRSAKeysSign(t *testing.T) {
	b := open(t, config())
	for id, alg := range map[signers.KeyID]signers.Algorithm{
		fresh("rsa-3072"): "rsa3072-pss-sha384", fresh("rsa-4096"): "rsa4096-pkcs1-sha512",
	} {
		k, err := b.Create(t.Context(), id, alg)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Sign(t.Context(), []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if err := alg.Verify(k.Public(), []byte("message"), sig); err != nil {
			t.Error(err)
		}
	}
}
