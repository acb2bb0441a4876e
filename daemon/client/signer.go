package client

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/signers"
)

// ErrDigest is what Sign(digest) always answers: the daemon reads what it
// signs, and a digest can't be read.
var ErrDigest = errors.New("signet does not sign digests\nhint: call SignMessage (crypto.MessageSigner) with the whole message")

// A Signer adapts one profile's current key version to crypto.MessageSigner,
// for libraries that write a token themselves and ask for a signature.
type Signer struct {
	client  *Client
	profile string
	key     PublicKey
}

var _ crypto.MessageSigner = (*Signer)(nil)

// Signer fetches a profile's current key version. Take one for each token, or
// again after [IsRotated]: the kid in the token must be one that signs.
func (c *Client) Signer(ctx context.Context, profile string) (*Signer, error) {
	keys, _, err := c.PublicKeys(ctx, profile)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.State == "signing" {
			return &Signer{c, profile, k}, nil
		}
	}
	return nil, status.Errorf(codes.FailedPrecondition, "profile %q: no version signs\nhint: operators: signet key activate", profile)
}

// Public returns the public key that will sign.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public }

// KeyID returns the kid to write into the token.
func (s *Signer) KeyID() string { return s.key.Kid }

// Sign always returns ErrDigest.
func (s *Signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, ErrDigest }

// SignMessage has the daemon sign message, a whole token body. The signature is
// in the form of crypto.Signer: DER for ECDSA. The key's algorithm is fixed, so
// opts must name its hash or none.
func (s *Signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg := signers.Algorithm(s.key.Algorithm)
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	if opts != nil && opts.HashFunc() != 0 && opts.HashFunc() != p.Hash {
		return nil, fmt.Errorf("client: the key signs with %s, not %v: %w", alg, opts.HashFunc(), signers.ErrMismatch)
	}
	sig, err := s.client.Sign(context.Background(), s.profile, message)
	if err != nil {
		return nil, err
	}
	if p.Kind == signers.KindECDSA {
		return alg.DERFromRaw(sig.Bytes)
	}
	return sig.Bytes, nil
}

// IsRotated reports whether err says that the version named in a token body no
// longer signs: fetch the keys again and write the body anew.
func IsRotated(err error) bool {
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.FailedPrecondition && len(st.Message()) >= 11 && st.Message()[:11] == "key rotated"
}

// SignFresh fetches the current key, has write make the token body for it, and
// signs; when the key was rotated in between it does so once more.
func (c *Client) SignFresh(ctx context.Context, profile string, write func(PublicKey) ([]byte, error)) ([]byte, Signature, error) {
	for attempt := 0; ; attempt++ {
		signer, err := c.Signer(ctx, profile)
		if err != nil {
			return nil, Signature{}, err
		}
		body, err := write(signer.key)
		if err != nil {
			return nil, Signature{}, err
		}
		sig, err := c.Sign(ctx, profile, body)
		if err == nil || attempt > 0 || !IsRotated(err) {
			return body, sig, err
		}
	}
}
