package cwt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
	"github.com/signetd/signet/signers"
)

// Describe names the format and the algorithms that COSE has numbers for.
func (issuer) Describe(context.Context) (plugins.Description, error) {
	d := plugins.Description{Format: Format}
	for _, a := range signers.Algorithms() {
		if _, ok := coseAlgorithms[a]; ok {
			d.Algorithms = append(d.Algorithms, a)
		}
	}
	return d, nil
}

// Prepare writes the Sig_structure (RFC 9052 section 4.4), and the token up to
// where the signature's bytes begin.
func (issuer) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	draft, err := prepare(g, k)
	if err != nil && !errors.Is(err, plugins.ErrRefused) {
		err = fmt.Errorf("%w: %w", err, plugins.ErrRefused)
	}
	return draft, err
}

func prepare(g plugins.Grant, k plugins.VerifyingKey) (d plugins.Draft, err error) {
	alg, ok := coseAlgorithms[k.Algorithm]
	if !ok {
		return d, fmt.Errorf("cwt: COSE has no number for the algorithm: %w", plugins.ErrRefused)
	}
	if err := carries(g, k); err != nil {
		return d, err
	}
	claims, err := claims(g)
	if err != nil {
		return d, err
	}
	mode, err := cbor.CoreDetEncOptions().EncMode() // RFC 8949 section 4.2.1
	if err != nil {
		return d, err
	}
	protected, err := mode.Marshal(map[int64]any{1: alg, 4: []byte(k.ID), 16: g.Type}) // RFC 9596 for 16
	if err != nil {
		return d, err
	}
	payload, err := mode.Marshal(claims)
	if err != nil {
		return d, err
	}
	if d.ToBeSigned, err = mode.Marshal([]any{"Signature1", protected, []byte{}, payload}); err != nil {
		return d, err
	}
	d.Frame, err = frame(mode, protected, payload, k)
	return d, err
}

// frame is a COSE_Sign1_Tagged whose signature is still to come: its head says
// how long it will be, which the key tells.
func frame(mode cbor.EncMode, protected, payload []byte, k plugins.VerifyingKey) (f plugins.Frame, err error) {
	length, err := signatureLength(k)
	if err != nil {
		return f, err
	}
	whole, err := mode.Marshal(cbor.Tag{Number: 18, Content: []any{protected, map[int64]any{}, payload, make([]byte, length)}})
	if err != nil {
		return f, err
	}
	return plugins.Frame{Head: whole[:len(whole)-length], Form: plugins.Raw, Encoding: plugins.Binary}, nil
}

func signatureLength(k plugins.VerifyingKey) (int, error) {
	p, err := k.Algorithm.Params()
	if err != nil {
		return 0, err
	}
	switch p.Kind {
	case signers.KindRSA:
		return p.Bits / 8, nil
	case signers.KindEd25519:
		return 64, nil
	case signers.KindECDSA:
		return k.Algorithm.RawLength()
	}
	return 0, fmt.Errorf("cwt: %q: a kind of key without a length: %w", p.Kind, plugins.ErrRefused)
}

// carries refuses a grant that a CWT can't carry whole.
func carries(g plugins.Grant, k plugins.VerifyingKey) error {
	for _, f := range []struct {
		ok   bool
		what string
	}{
		{k.ID != "", "kid is missing"},
		{mediaType(g.Type), "typ is not a media type, such as application/at+cwt (RFC 9596 section 2)"},
		{g.Issuer != "" && g.Subject != "" && g.TokenID != "", "iss, sub or cti is missing"},
		{len(g.Audience) > 0 && !slices.Contains(g.Audience, ""), "aud is missing"},
		{inRange(g.IssuedAt) && inRange(g.NotBefore) && inRange(g.Expires), "iat, nbf or exp is not a time between 1970 and 9999"},
		{!slices.ContainsFunc(g.Scope, func(s string) bool { return s == "" || strings.ContainsRune(s, ' ') }), "a scope is empty or has a space"},
		{g.Holder == plugins.Holder{}, "a holder is a JWK's or a certificate's thumbprint, for which RFC 8747 has no member"},
		{len(g.Assertion) == 0, "a CWT has no assertion that is not in it"},
		{g.Serial == 0 && len(g.Principals) == 0 && len(g.Options) == 0 && len(g.Extensions) == 0, "a CWT has no serial, principals, options or extensions"},
	} {
		if !f.ok {
			return fmt.Errorf("cwt: %s: %w", f.what, plugins.ErrRefused)
		}
	}
	return nil
}

func mediaType(s string) bool {
	kind, name, ok := strings.Cut(s, "/")
	return ok && kind != "" && name != "" && !strings.ContainsAny(name, "/ ") && !strings.Contains(kind, " ")
}

func inRange(t time.Time) bool {
	return t.Unix() > 0 && t.Year() <= 9999 && t.Nanosecond() == 0
}

// claims is the payload: registered claims by number, the others by name.
func claims(g plugins.Grant) (map[any]any, error) {
	m := map[any]any{
		claimIss: g.Issuer, claimSub: g.Subject, claimExp: g.Expires.Unix(), claimNbf: g.NotBefore.Unix(),
		claimIat: g.IssuedAt.Unix(), claimCti: []byte(g.TokenID), claimAud: g.Audience,
	}
	if len(g.Audience) == 1 {
		m[claimAud] = g.Audience[0]
	}
	if len(g.Scope) > 0 {
		m[claimScope] = strings.Join(g.Scope, " ")
	}
	if len(g.Claims) == 0 {
		return m, nil
	}
	canonical, err := strictjson.Canonical(g.Claims, strictjson.Limits{Reserved: registered})
	if err != nil {
		return nil, fmt.Errorf("cwt: claims: %w: %w", err, plugins.ErrRefused)
	}
	if !bytes.Equal(canonical, g.Claims) || len(canonical) == len("{}") {
		return nil, fmt.Errorf("cwt: claims are not canonical: %w", plugins.ErrRefused)
	}
	return m, further(m, canonical)
}

// further adds the claims that have no number.
func further(m map[any]any, claims []byte) error {
	d := json.NewDecoder(bytes.NewReader(claims))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return err
	}
	for name, value := range all {
		if slices.Contains(registered, name) {
			return fmt.Errorf("cwt: claim %q is not a further claim: %w", name, plugins.ErrRefused)
		}
		m[name] = whole(value)
	}
	return nil
}

// whole turns JSON's numbers, which are whole here, into CBOR's.
func whole(value any) any {
	switch v := value.(type) {
	case json.Number:
		n, _ := v.Int64() // strictjson has seen that it is one
		return n
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	}
	return value
}
