package pkcs11

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// Quirks are what vendors' modules do otherwise than the standard, or than
// each other. The zero value is a module that does as SoftHSM does.
type Quirks struct {
	InitializeArgs   string // C_Initialize's pReserved, which some modules want
	MaxSessions      int    // that the token has in all; 0: no limit known
	LoginEachSession bool   // C_Login is for a session, not for the token
	ReadOnlySessions bool   // sessions to sign with and keys made elsewhere; nothing can be made or destroyed

	// PublicReadOnly: the public object comes and goes with the private one,
	// and can't be destroyed by itself.
	PublicReadOnly bool

	EdDSAMechanism uint   // CKM_EDDSA, if it has another number
	EdDSAGenerate  uint   // CKM_EC_EDWARDS_KEY_PAIR_GEN, if it has another number
	EdDSAParams    string // CKA_EC_PARAMS of Ed25519: "oid", or "name", a PrintableString
	ECPoint        string // CKA_EC_POINT: "auto" tells by its length, "raw", "der"

	// Omit are attributes that the module refuses in the template of a new
	// key, by name. What the token then says of them is still held against
	// what a key of ours must be.
	Omit []string

	// Algorithms are those to use; all that the module offers if there are
	// none. Some modules offer what they can't do as a key of ours must.
	Algorithms []signers.Algorithm

	// Unattested are attributes that the module reports wrongly, by name. Only
	// those that [Quirks] may leave out: a key that may leave the token now is
	// never admitted.
	Unattested []string
}

// excusable are the attributes that a module may report wrongly. The others
// are what a key in an HSM is about.
var excusable = []string{
	"CKA_LOCAL", "CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE", "CKA_SIGN_RECOVER", "CKA_UNWRAP", "CKA_DERIVE",
}

// omissible are the attributes that a template can do without.
var omissible = map[string]uint{
	"CKA_SIGN_RECOVER": pkcs11.CKA_SIGN_RECOVER, "CKA_DECRYPT": pkcs11.CKA_DECRYPT, "CKA_UNWRAP": pkcs11.CKA_UNWRAP,
	"CKA_DERIVE": pkcs11.CKA_DERIVE, "CKA_ENCRYPT": pkcs11.CKA_ENCRYPT, "CKA_WRAP": pkcs11.CKA_WRAP,
	"CKA_VERIFY": pkcs11.CKA_VERIFY, "CKA_SENSITIVE": pkcs11.CKA_SENSITIVE, "CKA_EXTRACTABLE": pkcs11.CKA_EXTRACTABLE,
	"CKA_PRIVATE": pkcs11.CKA_PRIVATE, "CKA_PUBLIC_EXPONENT": pkcs11.CKA_PUBLIC_EXPONENT,
}

// Excusable returns the attributes that Quirks.Unattested may name.
func Excusable() []string { return slices.Clone(excusable) }

// Omissible returns the attributes that Quirks.Omit may name.
func Omissible() []string { return slices.Collect(maps.Keys(omissible)) }

func (q Quirks) check() error {
	for _, name := range q.Unattested {
		if !slices.Contains(excusable, name) {
			return fmt.Errorf("pkcs11: quirks: unattested: %q can't be left out: %w\nhint: these can: %s", name, signers.ErrUnsupported, strings.Join(excusable, ", "))
		}
	}
	for _, name := range q.Omit {
		if _, ok := omissible[name]; !ok {
			return fmt.Errorf("pkcs11: quirks: omit: no template has %q, or none does without it: %w", name, signers.ErrUnsupported)
		}
	}
	if !slices.Contains([]string{"", "oid", "name"}, q.EdDSAParams) {
		return fmt.Errorf("pkcs11: quirks: eddsa_params is %q: %w\nhint: oid or name", q.EdDSAParams, signers.ErrUnsupported)
	}
	if !slices.Contains([]string{"", "auto", "raw", "der"}, q.ECPoint) {
		return fmt.Errorf("pkcs11: quirks: ec_point is %q: %w\nhint: auto, raw or der", q.ECPoint, signers.ErrUnsupported)
	}
	return nil
}

func (q Quirks) sessionFlags() uint {
	if q.ReadOnlySessions {
		return pkcs11.CKF_SERIAL_SESSION
	}
	return pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION
}

// edwards changes the mechanism of Ed25519 to the module's.
func (q Quirks) edwards(m mechanism) (mechanism, error) {
	if q.EdDSAMechanism != 0 {
		m.id = q.EdDSAMechanism
	}
	if q.EdDSAGenerate != 0 {
		m.generate = q.EdDSAGenerate
	}
	if q.EdDSAParams != "name" {
		return m, nil
	}
	params, err := asn1.MarshalWithParams("edwards25519", "printable")
	m.params = params
	return m, err
}

// template leaves out of a template what the module refuses in it.
func (q Quirks) template(all []*pkcs11.Attribute) []*pkcs11.Attribute {
	return slices.DeleteFunc(all, func(a *pkcs11.Attribute) bool {
		return slices.ContainsFunc(q.Omit, func(name string) bool { return omissible[name] == a.Type })
	})
}

// point takes a CKA_EC_POINT of raw bytes out of its DER OCTET STRING. Only
// its length tells whether it is in one: a raw point can look like DER.
func (q Quirks) point(value []byte, raw int) ([]byte, error) {
	head := []byte{4, byte(raw & 0x7f)}
	if raw >= 128 {
		head = []byte{4, 0x81, byte(raw & 0xff)}
	}
	switch {
	case q.ECPoint != "der" && len(value) == raw:
		return value, nil
	case q.ECPoint != "raw" && len(value) == len(head)+raw && bytes.HasPrefix(value, head):
		return value[len(head):], nil
	}
	return nil, fmt.Errorf("its point has %d bytes, and is not as ec_point says: %w", len(value), signers.ErrMismatch)
}
