package jwt

import (
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/signetd/signet/plugins"
)

// JWKS writes public keys as a JWK Set (RFC 7517), in the order given, each
// with kid, use and the one alg that it verifies.
func JWKS(keys []plugins.VerifyingKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(keys))}
	for _, k := range keys {
		alg, err := AlgorithmName(k.Algorithm)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public, KeyID: k.ID, Algorithm: alg, Use: "sig"})
	}
	out, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("jwt: JWK Set: %w", err)
	}
	return out, nil
}
