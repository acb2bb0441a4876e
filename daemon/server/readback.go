package server

import (
	"bytes"
	"context"
	"fmt"

	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
)

// A Reader holds what an issuer drafted, and the token that came of it, against
// what policy granted. Whatever it dislikes is the issuer's doing, not the
// caller's: ErrTampered.
type Reader interface {
	// Draft returns nil if d says exactly g for key k, in exactly the frame that
	// its bytes call for.
	Draft(ctx context.Context, d plugins.Draft, g plugins.Grant, k plugins.VerifyingKey) error

	// Token returns nil if t, the draft of l joined, still does, and carries sig.
	Token(ctx context.Context, t plugins.Token, l Joined) error
}

// A Joined is what a finished token was made of.
type Joined struct {
	Draft     plugins.Draft
	Grant     plugins.Grant
	Key       plugins.VerifyingKey
	Signature []byte // as signers.Algorithm.Verify takes it; it was verified once
}

// BuiltIn reads formats that the daemon knows itself.
type BuiltIn struct{ plugins.Inspector }

// Draft implements Reader.
func (b BuiltIn) Draft(_ context.Context, d plugins.Draft, granted plugins.Grant, vk plugins.VerifyingKey) error {
	says, err := b.Inspect(d.ToBeSigned, vk)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTampered, err)
	}
	if !says.Equal(granted) {
		return fmt.Errorf("%w: field %s", ErrTampered, says.Diff(granted))
	}
	frame, err := b.Frame(d.ToBeSigned)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTampered, err)
	}
	if !frame.Equal(d.Frame) {
		return fmt.Errorf("%w: frame", ErrTampered)
	}
	return nil
}

// Token takes the token apart: its bytes must be the very bytes and the very
// signature that the key verified.
func (b BuiltIn) Token(_ context.Context, t plugins.Token, j Joined) error {
	tbs, back, err := b.Parse(t, j.Key, j.Grant.Assertion)
	if err != nil {
		return fmt.Errorf("%w: the finished token: %w", ErrTampered, err)
	}
	if !bytes.Equal(tbs, j.Draft.ToBeSigned) {
		return fmt.Errorf("%w: the finished token carries other bytes", ErrTampered)
	}
	if bytes.Equal(j.Signature, back) {
		return nil
	}
	// A signature that reads back as other bytes must verify itself.
	if err := j.Key.Algorithm.Verify(j.Key.Public, tbs, back); err != nil {
		return fmt.Errorf("%w: the finished token: %w", ErrTampered, err)
	}
	return nil
}

// Foreign reads formats that the daemon doesn't know, through a second process
// that is not told the grant. That process is of the issuer's author: what it
// says guards against mistakes. That the bytes are nothing that a verifier of
// another format would take is the daemon's own judgement.
type Foreign struct {
	Inspector plugins.ForeignInspector // nil only with Blind
	Blind     bool                     // every key of the format allows it
	Resembles func(toBeSigned []byte) string
}

// Draft implements Reader.
func (f Foreign) Draft(ctx context.Context, d plugins.Draft, g plugins.Grant, k plugins.VerifyingKey) error {
	if what := f.Resembles(d.ToBeSigned); what != "" {
		return fmt.Errorf("%w: the bytes are also %s", ErrTampered, what)
	}
	return f.equal(ctx, d, g, k, nil)
}

// Token implements Reader.
func (f Foreign) Token(ctx context.Context, t plugins.Token, j Joined) error {
	return f.equal(ctx, j.Draft, j.Grant, j.Key, t)
}

func (f Foreign) equal(ctx context.Context, d plugins.Draft, g plugins.Grant, k plugins.VerifyingKey, t plugins.Token) error {
	if f.Inspector == nil {
		if f.Blind {
			return nil
		}
		return fmt.Errorf("%w: nothing reads the format back", ErrTampered)
	}
	says, err := f.Inspector.Inspect(ctx, d, k, t)
	if err != nil {
		return unread(err)
	}
	if !says.Equal(g) {
		return fmt.Errorf("%w: field %s", ErrTampered, says.Diff(g))
	}
	return nil
}

// verifying is the public half of a key version, as formats know it.
func verifying(k *keyring.Key) plugins.VerifyingKey {
	return plugins.VerifyingKey{ID: k.Kid(), Algorithm: k.Algorithm(), Public: k.Public()}
}
