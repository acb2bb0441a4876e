package signers_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/signetd/signet/signers"
)

var ecdsaLengths = map[signers.Algorithm]int{signers.ECDSAP256: 64, signers.ECDSAP384: 96, signers.ECDSAP521: 132}

func TestRawLength(t *testing.T) {
	for _, alg := range all {
		got, err := alg.RawLength()
		want := ecdsaLengths[alg]
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%s.RawLength(): got %d, %v, want %d", alg, got, err, want)
		}
		if want == 0 && !errors.Is(err, signers.ErrMismatch) {
			t.Errorf("%s.RawLength(): got %v, want ErrMismatch", alg, err)
		}
	}
}

// TestRawAndDERAreTheSameSignature for any two numbers but zero.
func TestRawAndDERAreTheSameSignature(t *testing.T) {
	for alg, n := range ecdsaLengths {
		rapid.Check(t, func(t *rapid.T) {
			raw := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "raw")
			raw[rapid.IntRange(0, n/2-1).Draw(t, "in R")] |= 1
			raw[rapid.IntRange(n/2, n-1).Draw(t, "in S")] |= 1
			der, err := alg.DERFromRaw(raw)
			if err != nil {
				t.Fatalf("DERFromRaw(%x): %v", raw, err)
			}
			back, err := alg.RawFromDER(der)
			if err != nil || !bytes.Equal(back, raw) {
				t.Fatalf("%x became %x and came back as %x, %v", raw, der, back, err)
			}
		})
	}
}

func TestRealSignaturesConvert(t *testing.T) {
	message := []byte("a message")
	for alg, n := range ecdsaLengths {
		k := keyFor(t, alg)
		for range 50 {
			der := sign(t, k, alg, message)
			raw, err := alg.RawFromDER(der)
			if err != nil || len(raw) != n {
				t.Fatalf("%s.RawFromDER(%x): got %d bytes, %v, want %d", alg, der, len(raw), err, n)
			}
			back, err := alg.DERFromRaw(raw)
			if err != nil || !bytes.Equal(back, der) {
				t.Fatalf("%s.DERFromRaw(%x): got %x, %v, want %x", alg, raw, back, err, der)
			}
			if err := alg.Verify(k.Public(), message, back); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestRawFromDERRefuses(t *testing.T) {
	tests := []struct{ name, der string }{
		{"nothing", ""},
		{"an empty sequence", "3000"},
		{"one number", "3003020101"},
		{"three numbers", "3009020101020101020101"},
		{"trailing bytes", "300602010102010100"},
		{"trailing bytes inside", "30080201010201010500"},
		{"a negative R", "30060201ff020101"},
		{"a negative S", "30060201010201ff"},
		{"a zero R", "3006020100020101"},
		{"a zero S", "3006020101020100"},
		{"a padded number", "300702020001020101"},
		{"a length in the long form", "308106020101020101"},
		{"an indefinite length", "30800201010201010000"},
		{"a set", "3106020101020101"},
		{"strings in place of numbers", "3006040101040101"},
		{"a number longer than P-256", "30260221" + "01" + "0000000000000000000000000000000000000000000000000000000000000000" + "020101"},
		{"R‖S", "0101010101010101010101010101010101010101010101010101010101010101" + "0101010101010101010101010101010101010101010101010101010101010101"},
	}
	for _, tt := range tests {
		der, err := hex.DecodeString(tt.der)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := signers.ECDSAP256.RawFromDER(der); !errors.Is(err, signers.ErrBadSignature) {
			t.Errorf("RawFromDER of %s: got %x, %v, want ErrBadSignature", tt.name, raw, err)
		}
	}
}

func TestDERFromRawRefusesOtherLengths(t *testing.T) {
	for alg, n := range ecdsaLengths {
		for _, bad := range []int{0, 1, n / 2, n - 1, n + 1, 2 * n} {
			if _, err := alg.DERFromRaw(make([]byte, bad)); !errors.Is(err, signers.ErrBadSignature) {
				t.Errorf("%s.DERFromRaw of %d bytes: got %v, want ErrBadSignature", alg, bad, err)
			}
		}
	}
}

// FuzzRawFromDER: there is one DER form only, so what is accepted comes back
// byte for byte.
func FuzzRawFromDER(f *testing.F) {
	for alg := range ecdsaLengths {
		f.Add(string(alg), sign(f, keyFor(f, alg), alg, []byte("seed")))
	}
	f.Fuzz(func(t *testing.T, name string, der []byte) {
		alg := signers.Algorithm(name)
		raw, err := alg.RawFromDER(der)
		if err != nil {
			return
		}
		back, err := alg.DERFromRaw(raw)
		if err != nil || !bytes.Equal(back, der) {
			t.Errorf("%s: %x became %x and came back as %x, %v", alg, der, raw, back, err)
		}
	})
}
