package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/softkey"
)

// message is about as long as a token body.
var message = make([]byte, 400)

// A rawToken is miekg/pkcs11 with nothing around it: the limit that the daemon
// is held against.
type rawToken struct {
	ctx      *pkcs11.Ctx
	sessions chan pkcs11.SessionHandle
	private  pkcs11.ObjectHandle
	public   *ecdsa.PublicKey
}

// newRawToken logs in through a module and makes a P-256 key of its own.
func newRawToken(b *testing.B, module string, sessions int) *rawToken {
	b.Helper()
	r := &rawToken{ctx: pkcs11.New(module), sessions: make(chan pkcs11.SessionHandle, sessions)}
	must(b, r.ctx.Initialize())
	b.Cleanup(func() { _ = r.ctx.Finalize() })
	slot := r.slot(b)
	for range sessions {
		s, err := r.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		must(b, err)
		r.sessions <- s
	}
	s := <-r.sessions
	must(b, r.ctx.Login(s, pkcs11.CKU_USER, token.PIN))
	r.makeKey(b, s)
	r.sessions <- s
	return r
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (r *rawToken) slot(b *testing.B) uint {
	b.Helper()
	slots, err := r.ctx.GetSlotList(true)
	must(b, err)
	for _, s := range slots {
		if info, err := r.ctx.GetTokenInfo(s); err == nil && info.Label == token.Label {
			return s
		}
	}
	b.Fatal("the token is gone")
	return 0
}

// makeKey makes the key that signAndVerify signs with.
func (r *rawToken) makeKey(b *testing.B, s pkcs11.SessionHandle) {
	b.Helper()
	r.private, r.public = r.generate(b, s, "raw")
}

// generate makes a P-256 key as the daemon does.
func (r *rawToken) generate(b *testing.B, s pkcs11.SessionHandle, id string) (pkcs11.ObjectHandle, *ecdsa.PublicKey) {
	b.Helper()
	p256, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	must(b, err)
	attr := pkcs11.NewAttribute
	pub, priv, err := r.ctx.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{attr(pkcs11.CKA_EC_PARAMS, p256), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_ID, []byte(id)), attr(pkcs11.CKA_LABEL, []byte(id))},
		[]*pkcs11.Attribute{
			attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
			attr(pkcs11.CKA_SIGN, true), attr(pkcs11.CKA_SIGN_RECOVER, false), attr(pkcs11.CKA_DECRYPT, false), attr(pkcs11.CKA_UNWRAP, false),
			attr(pkcs11.CKA_DERIVE, false), attr(pkcs11.CKA_ID, []byte(id)), attr(pkcs11.CKA_LABEL, []byte(id)),
		})
	must(b, err)
	attrs, err := r.ctx.GetAttributeValue(s, pub, []*pkcs11.Attribute{attr(pkcs11.CKA_EC_POINT, nil)})
	must(b, err)
	var point []byte
	_, err = asn1.Unmarshal(attrs[0].Value, &point)
	must(b, err)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	must(b, err)
	return priv, public
}

// signAndVerify is what any daemon that verifies must at least do.
func (r *rawToken) signAndVerify() error {
	digest := sha256.Sum256(message)
	s := <-r.sessions
	err := r.ctx.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, r.private)
	var sig []byte
	if err == nil {
		sig, err = r.ctx.Sign(s, digest[:])
	}
	r.sessions <- s
	if err != nil {
		return err
	}
	if !ecdsa.Verify(r.public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errors.New("raw: the signature does not verify")
	}
	return nil
}

// rawSlow is the slow back-end alone: 16 sessions, 2 ms a signature.
func rawSlow(b *testing.B) subject {
	b.Helper()
	backend, err := softkey.Open(context.Background(), softkey.Options{})
	must(b, err)
	b.Cleanup(func() { _ = backend.Close() })
	key, err := backend.Create(context.Background(), "raw", signers.ECDSAP256)
	must(b, err)
	backend.SetFaults(softkey.Faults{Delay: 2 * time.Millisecond, Sessions: 16})
	return func() error {
		sig, err := key.Sign(context.Background(), message)
		if err != nil {
			return err
		}
		return signers.ECDSAP256.Verify(key.Public(), message, sig)
	}
}
