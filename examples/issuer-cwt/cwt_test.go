package cwt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// inProcess is the issuer without its process; conformance/foreign has both.
type inProcess struct{ plugins.Issuer }

func (inProcess) PID() int     { return 1 }
func (inProcess) Faults() int  { return 0 }
func (inProcess) Close() error { return nil }

func grant() plugins.Grant {
	g := issuertest.ExampleGrant(Format)
	g.Claims = []byte(`{"a":[1,-2,true,{"b":"c"}],"team":"x"}`)
	return g
}

func TestCWTKeepsTheContract(t *testing.T) {
	f, err := os.Open("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vectors, err := issuertest.ReadVectors(f)
	if err != nil || len(vectors) == 0 {
		t.Fatal("no vectors", err)
	}
	again := func(context.Context) (issuertest.Running, error) { return inProcess{New()}, nil }
	conformance.Run(t, issuertest.PluginChecks(), func(*testing.T) issuertest.Plugin {
		return issuertest.Plugin{Issuer: inProcess{New()}, Inspector: New(), Again: again, Grant: grant(), Vectors: vectors, Deadline: time.Second}
	})
}

// sign makes a token, as the daemon does.
func sign(t *testing.T, g plugins.Grant) (*ecdsa.PrivateKey, plugins.VerifyingKey, plugins.Draft, plugins.Token) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: "k1", Algorithm: signers.ECDSAP256, Public: key.Public()}
	d, err := New().Prepare(t.Context(), g, k)
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write(d.ToBeSigned)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.Frame.Join(k.Algorithm, sig)
	if err != nil {
		t.Fatal(err)
	}
	return key, k, d, token
}

// TestAnotherLibraryVerifies has go-cose, which knows nothing of this package,
// take a token apart.
func TestAnotherLibraryVerifies(t *testing.T) {
	key, _, _, token := sign(t, grant())
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(token); err != nil {
		t.Fatal(err)
	}
	v, err := cose.NewVerifier(cose.AlgorithmES256, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(nil, v); err != nil {
		t.Error(err)
	}
	var claims map[any]any
	if err := cbor.Unmarshal(m.Payload, &claims); err != nil || claims[uint64(2)] != "ci/42" || claims["team"] != "x" {
		t.Errorf("claims: got %v, %v", claims, err)
	}
	m.Payload[len(m.Payload)-1] ^= 1
	if m.Verify(nil, v) == nil {
		t.Error("a changed payload verifies")
	}
}

// FuzzInspect: what is accepted is what Prepare writes, byte for byte.
func FuzzInspect(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: "k1", Algorithm: signers.ECDSAP256, Public: key.Public()}
	d, err := New().Prepare(f.Context(), grant(), k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.ToBeSigned, d.Frame.Head)
	f.Add([]byte{0x84, 0x6a}, []byte{0xd2})
	f.Fuzz(func(t *testing.T, tbs, head []byte) {
		in := plugins.Draft{ToBeSigned: tbs, Frame: plugins.Frame{Head: head, Form: plugins.Raw, Encoding: plugins.Binary}}
		g, err := New().Inspect(t.Context(), in, k, nil)
		if err != nil {
			if !errors.Is(err, plugins.ErrRefused) {
				t.Fatalf("got %v, want ErrRefused", err)
			}
			return
		}
		again, err := New().Prepare(t.Context(), g, k)
		if err != nil || !bytes.Equal(again.ToBeSigned, tbs) || !again.Frame.Equal(in.Frame) {
			t.Fatalf("%x is accepted and written again as %x, %v", tbs, again.ToBeSigned, err)
		}
	})
}
