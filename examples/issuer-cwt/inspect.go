package cwt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
	"github.com/signetd/signet/signers"
)

// sigStructure is what is signed (RFC 9052 section 4.4).
type sigStructure struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	External  []byte
	Payload   []byte
}

// header is the protected header: these three, and nothing else.
type header struct {
	Alg int64  `cbor:"1,keyasint"`
	Kid []byte `cbor:"4,keyasint"`
	Typ string `cbor:"16,keyasint"`
}

// strict reads no CBOR that could be read in two ways. That it was also written
// in the one deterministic way, again shows.
var strict = cbor.DecOptions{
	DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, IntDec: cbor.IntDecConvertSignedOrFail, MaxNestedLevels: 20,
}

func refused(format string, args ...any) error {
	return fmt.Errorf("cwt: "+format+": %w", append(args, plugins.ErrRefused)...)
}

// Inspect reads a draft, and the token if there is one. It shares nothing with
// Prepare but the tables.
func (issuer) Inspect(_ context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	var s sigStructure
	if err := read(d.ToBeSigned, &s); err != nil {
		return plugins.Grant{}, err
	}
	var h header
	if err := read(s.Protected, &h); err != nil {
		return plugins.Grant{}, err
	}
	alg, ok := coseAlgorithms[k.Algorithm]
	if s.Context != "Signature1" || len(s.External) > 0 || !ok || h.Alg != alg || k.ID == "" || string(h.Kid) != k.ID {
		return plugins.Grant{}, refused("not a Sig_structure of this key")
	}
	g, err := readClaims(s.Payload)
	if err != nil {
		return plugins.Grant{}, err
	}
	if kind, name, _ := strings.Cut(h.Typ, "/"); kind == "" || name == "" || strings.ContainsAny(h.Typ, " ") || strings.Contains(name, "/") {
		return plugins.Grant{}, refused("typ is not a media type")
	}
	g.Type = h.Typ
	return g, wrapped(d, s, k, t)
}

// wrapped wants the frame that the bytes call for, and the token that it makes.
func wrapped(d plugins.Draft, s sigStructure, k plugins.VerifyingKey, t plugins.Token) error {
	head := []byte{0xd2, 0x84} // tag 18, an array of four
	for _, part := range [][]byte{s.Protected, nil, s.Payload} {
		if part == nil {
			head = append(head, 0xa0) // no unprotected header
			continue
		}
		head = append(appendHead(head, len(part)), part...)
	}
	n, err := rawLength(k)
	if err != nil {
		return refused("%v", err)
	}
	want := plugins.Frame{Head: appendHead(head, n), Form: plugins.Raw, Encoding: plugins.Binary}
	if !want.Equal(d.Frame) {
		return refused("not the frame that the bytes call for")
	}
	if t == nil {
		return nil
	}
	sig, ok := bytes.CutPrefix(t, want.Head)
	if !ok || len(sig) != n {
		return refused("the token is not the draft's")
	}
	return verify(d.ToBeSigned, sig, k)
}

// appendHead writes the head of a byte string (RFC 8949 section 3), which has at
// most 128 KiB here.
func appendHead(b []byte, n int) []byte {
	size := uint32(n) //nolint:gosec // see above
	be := binary.BigEndian.AppendUint32(nil, size)
	switch {
	case size < 24:
		return append(b, 0x40|be[3])
	case size < 1<<8:
		return append(b, 0x58, be[3])
	case size < 1<<16:
		return append(append(b, 0x59), be[2:]...)
	}
	return append(append(b, 0x5a), be...)
}

func rawLength(k plugins.VerifyingKey) (int, error) {
	p, err := k.Algorithm.Params()
	if err != nil {
		return 0, err
	}
	if p.Kind == signers.KindECDSA {
		return 2 * ((p.Curve.Params().BitSize + 7) / 8), nil
	}
	return max(p.Bits/8, 64), nil // RSA's modulus, or Ed25519
}

func verify(tbs, sig []byte, k plugins.VerifyingKey) error {
	if n, err := k.Algorithm.RawLength(); err == nil && n == len(sig) {
		der, err := k.Algorithm.DERFromRaw(sig)
		if err != nil {
			return refused("the signature is none")
		}
		sig = der
	}
	if k.Algorithm.Verify(k.Public, tbs, sig) != nil {
		return refused("the signature does not verify")
	}
	return nil
}

// read decodes data, all of it, and wants it in the one form (RFC 8949 section
// 4.2.1).
func read(data []byte, to any) error {
	mode, err := strict.DecMode()
	if err != nil {
		return refused("%v", err)
	}
	if err := mode.Unmarshal(data, to); err != nil {
		return refused("not the CBOR that is wanted here")
	}
	again, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return refused("%v", err)
	}
	if written, err := again.Marshal(to); err != nil || !bytes.Equal(written, data) {
		return refused("not deterministic CBOR")
	}
	return nil
}

// readClaims reads the payload, whole.
func readClaims(payload []byte) (g plugins.Grant, err error) {
	var m map[any]any
	if err := read(payload, &m); err != nil {
		return g, err
	}
	var more []strictjson.Member
	for key, value := range m {
		switch name := key.(type) {
		case int64:
			if !claim(&g, name, value) {
				return g, refused("claim %d is not as it should be", name)
			}
		case string:
			text, err := asJSON(value)
			if err != nil || slices.Contains(registered, name) {
				return g, refused("a claim that has a name and no number is not as it should be")
			}
			more = append(more, strictjson.Member{Name: name, Value: text})
		default:
			return g, refused("a claim's key is neither number nor text")
		}
	}
	if g.Issuer == "" || g.Subject == "" || g.TokenID == "" || len(g.Audience) == 0 || g.IssuedAt.IsZero() || g.NotBefore.IsZero() || g.Expires.IsZero() {
		return g, refused("a claim is missing")
	}
	if len(more) > 0 {
		// Held against the daemon's own rules, such as its limits.
		if g.Claims, err = strictjson.Canonical(strictjson.Join(more), strictjson.Limits{Reserved: registered}); err != nil {
			return g, refused("claims: %v", err)
		}
	}
	return g, nil
}

// claim reads one claim that has a number, and reports whether it is well-formed.
func claim(g *plugins.Grant, number int64, value any) bool {
	text, isText := value.(string)
	seconds, isInt := value.(int64)
	when := time.Unix(seconds, 0).UTC()
	isTime := isInt && seconds > 0 && when.Year() <= 9999
	switch number {
	case claimIss:
		g.Issuer = text
		return isText
	case claimSub:
		g.Subject = text
		return isText
	case claimExp:
		g.Expires = when
		return isTime
	case claimNbf:
		g.NotBefore = when
		return isTime
	case claimIat:
		g.IssuedAt = when
		return isTime
	case claimCti:
		id, ok := value.([]byte)
		g.TokenID = string(id)
		return ok
	case claimScope:
		g.Scope = strings.Split(text, " ")
		return isText && !slices.Contains(g.Scope, "")
	case claimAud:
		return audience(g, value)
	}
	return false
}

// audience is one text, or an array of more than one.
func audience(g *plugins.Grant, value any) bool {
	if one, ok := value.(string); ok {
		g.Audience = []string{one}
		return one != ""
	}
	all, ok := value.([]any)
	for _, a := range all {
		text, isText := a.(string)
		if !isText || text == "" {
			return false
		}
		g.Audience = append(g.Audience, text)
	}
	return ok && len(all) > 1
}

// asJSON writes a value as the daemon's canonical JSON has it.
func asJSON(value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return []byte("null"), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case string:
		return strictjson.Quote(nil, v), nil
	case []any:
		items := make([][]byte, len(v))
		for i := range v {
			item, err := asJSON(v[i])
			if err != nil {
				return nil, err
			}
			items[i] = item
		}
		return append(append([]byte{'['}, bytes.Join(items, []byte{','})...), ']'), nil
	case map[any]any:
		return object(v)
	}
	return nil, refused("a claim of a kind that JSON has not")
}

func object(m map[any]any) ([]byte, error) {
	var members []strictjson.Member
	for key, value := range m {
		name, ok := key.(string)
		if !ok {
			return nil, refused("a member's name is not text")
		}
		text, err := asJSON(value)
		if err != nil {
			return nil, err
		}
		members = append(members, strictjson.Member{Name: name, Value: text})
	}
	return strictjson.Join(members), nil
}
