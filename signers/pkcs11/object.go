package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// A pair is the two objects of a key pair.
type pair struct{ private, public pkcs11.ObjectHandle }

// generate makes a pair that may sign and nothing else.
func (b *Backend) generate(s pkcs11.SessionHandle, id signers.KeyID, m mechanism) (pair, error) {
	attr := pkcs11.NewAttribute
	public := []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_VERIFY, true), attr(pkcs11.CKA_ENCRYPT, false), attr(pkcs11.CKA_WRAP, false),
		attr(pkcs11.CKA_ID, []byte(id)), attr(pkcs11.CKA_LABEL, []byte(id)),
	}
	if m.keyType == pkcs11.CKK_RSA {
		public = append(public, attr(pkcs11.CKA_MODULUS_BITS, m.bits), attr(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	} else {
		public = append(public, attr(pkcs11.CKA_EC_PARAMS, m.params))
	}
	private := []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_SIGN, true), attr(pkcs11.CKA_SIGN_RECOVER, false), attr(pkcs11.CKA_DECRYPT, false),
		attr(pkcs11.CKA_UNWRAP, false), attr(pkcs11.CKA_DERIVE, false),
		attr(pkcs11.CKA_ID, []byte(id)), attr(pkcs11.CKA_LABEL, []byte(id)),
	}
	pub, priv, err := b.module.ctx.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(m.generate, nil)},
		b.cfg.Quirks.template(public), b.cfg.Quirks.template(private))
	if err != nil {
		return pair{}, failed("C_GenerateKeyPair", err)
	}
	return pair{priv, pub}, nil
}

// remove destroys a pair by its handles, the private key first.
func (b *Backend) remove(s pkcs11.SessionHandle, p pair) error {
	for _, o := range []pkcs11.ObjectHandle{p.private, p.public} {
		if o == 0 || o == p.public && b.cfg.Quirks.PublicReadOnly {
			continue
		}
		if err := b.module.ctx.DestroyObject(s, o); err != nil && !is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
			return failed("C_DestroyObject", err)
		}
	}
	return nil
}

// errHalf is also what a lost login looks like: private objects can't be seen.
var errHalf = fmt.Errorf("half of the pair is missing: %w\nhint: destroy it, and make another", signers.ErrMismatch)

// find locates a pair of the mechanism's kind, to use it.
func (b *Backend) find(s *session, id signers.KeyID, m mechanism) (pair, error) {
	p, err := b.lookup(s, id)
	if err != nil {
		return pair{}, err
	}
	if p.private == 0 || p.public == 0 {
		return pair{}, errHalf
	}
	kind, err := b.attribute(s.handle, p.private, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return pair{}, err
	}
	if ulong(kind) != uint64(m.keyType) {
		return pair{}, fmt.Errorf("it is a key of another type: %w", signers.ErrMismatch)
	}
	return p, nil
}

// locate finds the objects called id. More than one of a class is an error:
// one of them is not ours, and which can't be told.
func (b *Backend) locate(s pkcs11.SessionHandle, id signers.KeyID) (pair, error) {
	byID, err := b.byID(s, id)
	if err != nil {
		return pair{}, err
	}
	return b.pairOf(s, id, byID)
}

// byID lists the objects whose CKA_ID is that of the key called id.
func (b *Backend) byID(s pkcs11.SessionHandle, id signers.KeyID) ([]pkcs11.ObjectHandle, error) {
	value := []byte(id)
	if ckaID, _, ok := adopted(id); ok {
		value = ckaID
	}
	return b.search(s, pkcs11.NewAttribute(pkcs11.CKA_ID, value))
}

// pairOf makes a pair of the objects with the key's CKA_ID and of those with
// its label; an adopted key has a label of its own.
func (b *Backend) pairOf(s pkcs11.SessionHandle, id signers.KeyID, all []pkcs11.ObjectHandle) (pair, error) {
	if _, _, other := adopted(id); !other {
		byLabel, err := b.search(s, pkcs11.NewAttribute(pkcs11.CKA_LABEL, []byte(id)))
		if err != nil {
			return pair{}, err
		}
		all = slices.Compact(slices.Sorted(slices.Values(append(all, byLabel...))))
	}
	classes := map[uint64][]pkcs11.ObjectHandle{}
	for _, o := range all {
		class, err := b.attribute(s, o, pkcs11.CKA_CLASS)
		if err != nil {
			return pair{}, err
		}
		classes[ulong(class)] = append(classes[ulong(class)], o)
	}
	private, public := classes[pkcs11.CKO_PRIVATE_KEY], classes[pkcs11.CKO_PUBLIC_KEY]
	switch {
	case len(private) > 1:
		return pair{}, b.several(s, private)
	case len(public) > 1:
		return pair{}, b.several(s, public)
	case len(private)+len(public) == 0: // or a certificate alone
		return pair{}, signers.ErrNotFound
	}
	p := pair{only(private), only(public)}
	return p, b.sameAdopted(s, id, p)
}

// only is the one handle there is, or none.
func only(all []pkcs11.ObjectHandle) pkcs11.ObjectHandle {
	if len(all) == 0 {
		return 0
	}
	return all[0]
}

// several is the error of more objects than one. They may be one after all: a
// login that was lost between two searches gives each object another handle.
func (b *Backend) several(s pkcs11.SessionHandle, all []pkcs11.ObjectHandle) error {
	for _, o := range all {
		if _, err := b.attribute(s, o, pkcs11.CKA_ID); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d objects have this id or label: %w\nhint: find out who made the others, with `pkcs11-tool -O`", len(all), signers.ErrMismatch)
}

// sameAdopted holds an adopted pair against the fingerprint in its id.
func (b *Backend) sameAdopted(s pkcs11.SessionHandle, id signers.KeyID, p pair) error {
	_, want, ok := adopted(id)
	if !ok || p.public == 0 {
		return nil
	}
	kind, err := b.attribute(s, p.public, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return err
	}
	has := "one that can't be read"
	for _, alg := range signers.Algorithms() {
		m, err := mechanismOf(alg, b.cfg.Quirks)
		if err != nil || ulong(kind) != uint64(m.keyType) {
			continue
		}
		pub, err := b.public(s, p.public, alg)
		if err != nil {
			continue // another curve or size
		}
		if has, err = Fingerprint(pub); err != nil {
			return err
		}
		if strings.HasPrefix(has, want) {
			return nil
		}
	}
	return fmt.Errorf("the key with this CKA_ID has the fingerprint %s: %w\nhint: name it, if that is the key that you mean", has, signers.ErrMismatch)
}

// search lists the objects that have these attributes.
func (b *Backend) search(s pkcs11.SessionHandle, want ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := b.module.ctx.FindObjectsInit(s, want); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		some, _, err := b.module.ctx.FindObjects(s, 100)
		if err != nil {
			_ = b.module.ctx.FindObjectsFinal(s) // the search's error says more
			return nil, failed("C_FindObjects", err)
		}
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	if err := b.module.ctx.FindObjectsFinal(s); err != nil {
		return nil, failed("C_FindObjectsFinal", err)
	}
	return all, nil
}

// attribute reads one attribute. One at a time: a module fails the whole call
// when one of several is sensitive or unknown.
func (b *Backend) attribute(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, name uint) ([]byte, error) {
	got, err := b.module.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(name, nil)})
	if err != nil {
		return nil, failed(fmt.Sprintf("C_GetAttributeValue(0x%x)", name), err)
	}
	if len(got) != 1 {
		return nil, fmt.Errorf("C_GetAttributeValue(0x%x) gave %d values: %w", name, len(got), signers.ErrUnavailable)
	}
	return got[0].Value, nil
}

// A promise is what the token must say of a private key of ours.
type promise struct {
	attribute uint
	name      string
	want      bool
}

var promises = []promise{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", true},
	{pkcs11.CKA_SENSITIVE, "CKA_SENSITIVE", true},
	{pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_ALWAYS_SENSITIVE", true},
	{pkcs11.CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
	{pkcs11.CKA_NEVER_EXTRACTABLE, "CKA_NEVER_EXTRACTABLE", true},
	{pkcs11.CKA_LOCAL, "CKA_LOCAL", true},
	{pkcs11.CKA_SIGN, "CKA_SIGN", true},
	{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", false},
	{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", false},
	{pkcs11.CKA_DERIVE, "CKA_DERIVE", false},
	{pkcs11.CKA_SIGN_RECOVER, "CKA_SIGN_RECOVER", false},
}

// keeps reports whether the token says of a key what a promise wants.
func (b *Backend) keeps(s pkcs11.SessionHandle, p pair, promise promise) (bool, error) {
	value, err := b.attribute(s, p.private, promise.attribute)
	if err != nil {
		return false, err
	}
	return len(value) == 1 && (value[0] == 1) == promise.want, nil
}

// attest reads a private key's attributes back and refuses it unless they are
// those of a key made in the token, that can't leave it, to sign only. It
// returns what the token said.
func (b *Backend) attest(s pkcs11.SessionHandle, id signers.KeyID, p pair) (said []string, err error) {
	_, _, other := adopted(id)
	for _, promise := range promises {
		excused := slices.Contains(b.cfg.Quirks.Unattested, promise.name) || other && adoptable(promise)
		kept, err := b.keeps(s, p, promise)
		switch {
		case err != nil && !excused:
			return nil, err
		case err != nil:
			said = append(said, promise.name+"=unknown")
			continue
		case !kept && !excused:
			return nil, fmt.Errorf("the token says that %s is not %t: %w\nhint: a key of ours is made inside the token and may only sign; this one was not made by signet. `signet key adopt` takes over another's", promise.name, promise.want, signers.ErrMismatch)
		}
		said = append(said, fmt.Sprintf("%s=%t", promise.name, promise.want == kept))
	}
	if other {
		return said, nil // found by its CKA_ID
	}
	return said, b.attestID(s, id, p)
}

// attestID holds CKA_ID against our id: a module that cuts it would have us
// destroy another's key.
func (b *Backend) attestID(s pkcs11.SessionHandle, id signers.KeyID, p pair) error {
	for _, o := range []pkcs11.ObjectHandle{p.private, p.public} {
		value, err := b.attribute(s, o, pkcs11.CKA_ID)
		if err != nil {
			return err
		}
		if !bytes.Equal(value, []byte(id)) {
			return fmt.Errorf("the token says that CKA_ID is %q: %w", value, signers.ErrMismatch)
		}
	}
	return nil
}

// public reads a public key, which must fit the algorithm.
func (b *Backend) public(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, alg signers.Algorithm) (crypto.PublicKey, error) {
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	read := b.publicPoint
	if p.Kind == signers.KindRSA {
		read = b.publicRSA
	}
	pub, err := read(s, o, p)
	if err != nil {
		return nil, err
	}
	return pub, alg.Fits(pub)
}

func (b *Backend) publicRSA(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, _ signers.Params) (crypto.PublicKey, error) {
	n, err := b.attribute(s, o, pkcs11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	e, err := b.attribute(s, o, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	if exp := new(big.Int).SetBytes(e); exp.BitLen() > 31 {
		return nil, fmt.Errorf("its public exponent has %d bits: %w", exp.BitLen(), signers.ErrMismatch)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

// publicPoint reads CKA_EC_POINT, which is a DER OCTET STRING on some modules
// and raw on others.
func (b *Backend) publicPoint(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, p signers.Params) (crypto.PublicKey, error) {
	point, err := b.attribute(s, o, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	raw := ed25519.PublicKeySize
	if p.Kind == signers.KindECDSA {
		raw = 1 + 2*((p.Curve.Params().BitSize+7)/8)
	}
	if point, err = b.cfg.Quirks.point(point, raw); err != nil {
		return nil, err
	}
	if p.Kind == signers.KindEd25519 {
		return ed25519.PublicKey(bytes.Clone(point)), nil
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(p.Curve, point)
	if err != nil {
		return nil, fmt.Errorf("its point is not on the curve: %w: %w", signers.ErrMismatch, err)
	}
	return pub, nil
}

// List returns the ids of all private keys whose label and id are the same
// and have our form.
func (b *Backend) List(ctx context.Context) (ids []signers.KeyID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.with(ctx, func(s *session) error {
		ids = nil
		objects, err := b.search(s.handle, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))
		if err != nil {
			return fmt.Errorf("pkcs11: list: %w", err)
		}
		for _, o := range objects {
			label, err := b.attribute(s.handle, o, pkcs11.CKA_LABEL)
			if err != nil {
				continue // destroyed meanwhile, or not ours to read
			}
			id, err := b.attribute(s.handle, o, pkcs11.CKA_ID)
			if err == nil && bytes.Equal(label, id) && signers.KeyID(id).Check() == nil {
				ids = append(ids, signers.KeyID(id))
			}
		}
		return nil
	})
	return ids, err
}

// ulong reads a CK_ULONG, which has the machine's own order and length.
func ulong(b []byte) uint64 {
	var n uint64
	for i := len(b) - 1; i >= 0; i-- { // little-endian: every platform we run on
		n = n<<8 | uint64(b[i])
	}
	return n
}
