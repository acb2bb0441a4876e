// Package plugins says what a token format is: an [Issuer] turns a [Grant]
// into a [Draft], in a process of its own, and an [Inspector] reads the draft
// back inside the daemon before anything is signed.
//
// An issuer never sees a finished token, holds no key and has no way to ask
// for a signature: the daemon signs [Draft.ToBeSigned] and joins the signature
// to the [Frame] itself.
package plugins

import (
	"context"
	"crypto"
	"errors"
	"time"

	"github.com/signetd/signet/signers"
)

// An Issuer knows one token format. Its methods are pure: the same arguments
// give the same result; nothing is read from clock, network or disk. They may
// be called at the same time.
type Issuer interface {
	// Describe says which format this is and which algorithms it can use.
	Describe(ctx context.Context) (Description, error)

	// Prepare returns the exact bytes to sign for a grant, and the frame
	// that turns a signature into the token. It returns ErrRefused if the
	// format cannot carry the grant, whole.
	Prepare(ctx context.Context, g Grant, k VerifyingKey) (Draft, error)
}

// A Description names a format and what it can sign with.
type Description struct {
	Format     string // "jwt", "paseto", "ssh"
	Algorithms []signers.Algorithm
	Inspects   bool // the process serves Inspect: see ForeignInspector
}

// A ForeignInspector reads back drafts of a format that the daemon has no
// [Inspector] for. An Issuer of such a format has this method too, and the
// daemon asks it of a second process, which was not told the grant: that guards
// against an author's mistakes, not against the author.
//
// Like an Issuer it is pure, and may be called at the same time.
type ForeignInspector interface {
	// Inspect returns everything that draft d says, Profile left empty, or
	// ErrRefused unless its ToBeSigned is exactly one well-formed token body of
	// the format for key k and its Frame the one that those bytes call for. A
	// token, nil before there is a signature, must be d's own, joined: the same
	// bytes, and a signature that verifies with k.
	Inspect(ctx context.Context, d Draft, k VerifyingKey, t Token) (Grant, error)
}

// A Grant is what policy allowed, complete: an issuer adds nothing to it and
// leaves nothing out. Times are whole seconds, UTC.
type Grant struct {
	Profile    string   // the profile's name; not written into the token
	Type       string   // the token's type: typ of a JWT, the certificate type of SSH
	Issuer     string   // iss; empty for SSH, whose issuer is the key
	TokenID    string   // jti; unguessable, chosen by the daemon; the nonce of SSH, base64url
	Subject    string   // sub; the key id of SSH
	Audience   []string // aud; never empty, but for SSH
	Scope      []string // scope, RFC 8693 section 4.2; may be empty
	IssuedAt   time.Time
	NotBefore  time.Time
	Expires    time.Time // never zero
	Holder     Holder
	Claims     []byte            // further claims that policy allowed: one canonical JSON object, or nil
	Assertion  []byte            // PASETO's implicit assertion: signed, and not in the token
	Serial     uint64            // SSH
	Principals []string          // SSH
	Options    map[string]string // SSH critical options
	Extensions map[string]string // SSH
}

// A Holder binds a token to whoever may use it (RFC 7800). The zero Holder
// binds it to nobody.
type Holder struct {
	Kind  string // "", "jkt" (RFC 9449), "x5t#S256" (RFC 8705), "sshkey"
	Value string // a thumbprint; for sshkey the key itself, as authorized_keys has it, without a comment
}

// A VerifyingKey is the public half of the key version that will sign.
type VerifyingKey struct {
	ID        string // kid
	Algorithm signers.Algorithm
	Public    crypto.PublicKey
}

// A Draft is a token without its signature.
type Draft struct {
	ToBeSigned []byte
	Frame      Frame
}

// A Token is a finished token, in the form its bearer sends.
type Token []byte

// An Inspector reads bytes of one format back, inside the daemon, before they
// are signed and once more when the token is finished.
type Inspector interface {
	// KeyID returns the kid that the bytes name, before the key is known, or
	// ErrRefused when they name none. The bytes are otherwise unchecked.
	KeyID(toBeSigned []byte) (string, error)

	// Inspect returns everything that the bytes say, Profile left empty, or
	// ErrRefused for bytes that are not exactly one well-formed token body of
	// the format for key k: its algorithm and kid included.
	Inspect(toBeSigned []byte, k VerifyingKey) (Grant, error)

	// Frame computes the frame that belongs to toBeSigned. The daemon
	// requires an issuer's frame to equal it.
	Frame(toBeSigned []byte) (Frame, error)

	// Parse takes a finished token of key k apart again: the bytes that were
	// signed and the signature in the form signers.Algorithm.Verify accepts.
	// assertion is Grant.Assertion, which a token does not carry.
	Parse(t Token, k VerifyingKey, assertion []byte) (toBeSigned, signature []byte, err error)
}

// ErrRefused says that a format cannot carry a grant or that bytes are not a
// token of the format. Its text is safe to show to the caller.
var ErrRefused = errors.New("issuer refused")
