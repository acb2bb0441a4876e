package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"iter"
	"slices"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/plugins/sshcert"
)

// PublicKeys answers from memory, never from a back-end: an unknown kid can
// make verifiers ask at any rate.
func (s *Signer) PublicKeys(_ context.Context, r *signetv1.PublicKeysRequest) (*signetv1.PublicKeysReply, error) {
	reply, err := s.Pipeline.publicKeys(r.GetProfile())
	if err != nil {
		return nil, s.Pipeline.onTheWire(err)
	}
	return reply, nil
}

func (p *Pipeline) publicKeys(profile string) (*signetv1.PublicKeysReply, error) {
	keys, err := p.keysOf(profile)
	if err != nil {
		return nil, err
	}
	reply := &signetv1.PublicKeysReply{}
	var set []plugins.VerifyingKey
	for name, format := range keys {
		versions, err := p.Ring.Verifiers(name)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			der, err := x509.MarshalPKIXPublicKey(v.Public)
			if err != nil {
				return nil, fmt.Errorf("key %q version %d: %w", name, v.Number, err)
			}
			reply.Keys = append(reply.Keys, &signetv1.PublicKey{
				Key: name, Version: uint32(v.Number), Kid: v.Kid, //nolint:gosec // version numbers start at 1 and count rotations
				Algorithm: string(v.Algorithm), State: string(v.State), Public: der,
			})
			// A key is published in the form of its own format alone: another
			// format's verifiers must not come by it.
			switch format {
			case jwt.Format:
				set = append(set, plugins.VerifyingKey{ID: v.Kid, Algorithm: v.Algorithm, Public: v.Public})
			case paseto.Format:
				text, err := paseto.PublicPASERK(v.Public)
				if err != nil {
					return nil, fmt.Errorf("key %q version %d: %w", name, v.Number, err)
				}
				reply.Paserk = append(reply.Paserk, text)
			case sshcert.Format:
				line, err := sshcert.AuthorizedKey(v.Public)
				if err != nil {
					return nil, fmt.Errorf("key %q version %d: %w", name, v.Number, err)
				}
				reply.SshCa = append(reply.SshCa, fmt.Sprintf("%s %s@%d", line, name, v.Number))
			}
		}
	}
	reply.Jwks, err = jwt.JWKS(set)
	return reply, err
}

// keysOf names the keys of one profile, or of all that may be published, and the
// format of each.
func (p *Pipeline) keysOf(profile string) (iter.Seq2[string, string], error) {
	if profile != "" {
		found, ok := p.Gate.Profile(profile)
		if !ok {
			return nil, fmt.Errorf("profile %q: %w", profile, keyring.ErrUnknownKey)
		}
		return func(yield func(string, string) bool) {
			if found.Key != "" { // else nobody verifies its tokens but the daemon
				yield(found.Key, found.Format)
			}
		}, nil
	}
	return func(yield func(string, string) bool) {
		for _, e := range p.Ring.List() {
			if p.published(e) && !yield(e.Name, e.Format) {
				return
			}
		}
	}, nil
}

// published: a plug-in's keys are handed to whoever asks for its profile, and
// are in no list: a verifier of another format must not come by them. One whose
// plug-in is gone is not published either.
func (p *Pipeline) published(e keyring.Entry) bool {
	f, served := p.Formats[e.Format]
	_, builtIn := f.Reader.(BuiltIn)
	return !e.Blind && (builtIn || !served && slices.Contains([]string{jwt.Format, paseto.Format, sshcert.Format}, e.Format))
}
