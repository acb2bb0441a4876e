package issuertest

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// A Vector is one grant, one key, and the bytes that must come of them. In JSON,
// []byte is base64.
type Vector struct {
	Name string    `json:"name"`
	Is   GrantFile `json:"grant"`
	Key  struct {
		ID        string `json:"id"`
		Algorithm string `json:"algorithm"`
		Public    []byte `json:"public"` // PKIX, DER
	} `json:"key"`
	Draft   DraftFile `json:"draft,omitzero"`
	Refused bool      `json:"refused,omitempty"` // instead of a draft
}

// A DraftFile is a draft in a file.
type DraftFile struct {
	ToBeSigned []byte `json:"to_be_signed"`
	Prefix     []byte `json:"prefix,omitempty"`
	Head       []byte `json:"head,omitempty"`
	Tail       []byte `json:"tail,omitempty"`
	Suffix     []byte `json:"suffix,omitempty"`
	Form       uint8  `json:"form"`
	Encoding   uint8  `json:"encoding"`
}

// A GrantFile is a grant in a file; times are seconds since 1970.
type GrantFile struct {
	Type        string            `json:"type"`
	Issuer      string            `json:"issuer"`
	TokenID     string            `json:"token_id"`
	Subject     string            `json:"subject"`
	Audience    []string          `json:"audience,omitempty"`
	Scope       []string          `json:"scope,omitempty"`
	IssuedAt    int64             `json:"issued_at"`
	NotBefore   int64             `json:"not_before"`
	Expires     int64             `json:"expires"`
	HolderKind  string            `json:"holder_kind,omitempty"`
	HolderValue string            `json:"holder_value,omitempty"`
	Claims      json.RawMessage   `json:"claims,omitempty"`
	Assertion   []byte            `json:"assertion,omitempty"`
	Serial      uint64            `json:"serial,omitempty"`
	Principals  []string          `json:"principals,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Extensions  map[string]string `json:"extensions,omitempty"`
}

// Grant is what the file says.
func (f GrantFile) Grant() plugins.Grant {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	var claims bytes.Buffer
	_ = json.Compact(&claims, f.Claims) // it was JSON to get here
	return plugins.Grant{
		Type: f.Type, Issuer: f.Issuer, TokenID: f.TokenID, Subject: f.Subject, Audience: f.Audience, Scope: f.Scope,
		IssuedAt: at(f.IssuedAt), NotBefore: at(f.NotBefore), Expires: at(f.Expires),
		Holder: plugins.Holder{Kind: f.HolderKind, Value: f.HolderValue}, Claims: claims.Bytes(), Assertion: f.Assertion,
		Serial: f.Serial, Principals: f.Principals, Options: f.Options, Extensions: f.Extensions,
	}
}

// ReadVectors reads one vector after the other. What it does not know, it
// refuses: a field that is misspelt would test nothing.
func ReadVectors(r io.Reader) ([]Vector, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var all []Vector
	for d.More() {
		var v Vector
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("vector %d: %w", len(all)+1, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// ReadGrant reads a grant from a file.
func ReadGrant(r io.Reader) (plugins.Grant, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var f GrantFile
	if err := d.Decode(&f); err != nil {
		return plugins.Grant{}, fmt.Errorf("grant: %w", err)
	}
	return f.Grant(), nil
}

func (v Vector) read() (g plugins.Grant, k plugins.VerifyingKey, d plugins.Draft, err error) {
	pub, err := x509.ParsePKIXPublicKey(v.Key.Public)
	if err != nil {
		return g, k, d, fmt.Errorf("key: %w", err)
	}
	k = plugins.VerifyingKey{ID: v.Key.ID, Algorithm: signers.Algorithm(v.Key.Algorithm), Public: pub}
	f := v.Draft
	d = plugins.Draft{ToBeSigned: f.ToBeSigned, Frame: plugins.Frame{
		Prefix: f.Prefix, Head: f.Head, Tail: f.Tail, Suffix: f.Suffix, Form: plugins.Form(f.Form), Encoding: plugins.Encoding(f.Encoding),
	}}
	return v.Is.Grant(), k, d, nil
}

// ExampleGrant is a grant that the format of this name carries, or most do.
func ExampleGrant(format string) plugins.Grant {
	at := time.Unix(1767323045, 0).UTC()
	kind := "application/at+" + format
	switch format {
	case "jwt":
		kind = "example+jwt" // at+jwt and JWT have rules of their own (RFC 9068, SPIFFE)
	case "ssh":
		return exampleCertificate(at)
	}
	return plugins.Grant{ //nolint:gosec // no credential: a token's id
		Type: kind, Issuer: "https://signet.example", TokenID: "pWcUhzO_rrgPmzPRF4hK5A", Subject: "ci/42",
		Audience: []string{"https://api.example"}, Scope: []string{"read", "write"},
		IssuedAt: at, NotBefore: at, Expires: at.Add(5 * time.Minute),
	}
}

// exampleCertificate has what every SSH certificate has, and no more.
func exampleCertificate(at time.Time) plugins.Grant {
	return plugins.Grant{ //nolint:gosec // no credential: a nonce and a public key
		Type: "user", TokenID: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", Subject: "ci/42", Serial: 42,
		Principals: []string{"deploy"}, IssuedAt: at, NotBefore: at, Expires: at.Add(5 * time.Minute),
		Holder: plugins.Holder{Kind: "sshkey", Value: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"},
	}
}
