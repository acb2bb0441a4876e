package paseto_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/signers"
)

// A vector is one file of conformance/vectors/paseto-bodies.
type vector struct {
	file   string
	fields map[string]string
	pieces []string
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("../../conformance/vectors/paseto-bodies/*.txt")
	if err != nil || len(files) < 90 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	var all []vector
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{file: filepath.Base(file), fields: map[string]string{}}
		for line := range strings.Lines(string(data)) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch {
			case !ok:
				t.Fatalf("%s: not a field: %q", file, line)
			case name == "piece":
				v.pieces = append(v.pieces, value)
			default:
				v.fields[name] = value
			}
		}
		all = append(all, v)
	}
	return all
}

// encode is a PAE writer of its own, that writes a wrong one if told to.
func (v vector) encode(t testing.TB, k, other plugins.VerifyingKey) []byte {
	t.Helper()
	var out []byte
	switch count := v.fields["count"]; count {
	case "none":
	case "":
		out = binary.LittleEndian.AppendUint64(out, uint64(len(v.pieces)))
	default:
		out = binary.LittleEndian.AppendUint64(out, parse(t, count))
	}
	at, length, _ := strings.Cut(v.fields["length"], " ")
	for i, p := range v.pieces {
		raw := v.piece(p, k, other)
		n := uint64(len(raw))
		if at == strconv.Itoa(i) {
			n = parse(t, length)
		}
		out = append(binary.LittleEndian.AppendUint64(out, n), raw...)
	}
	tail, err := hex.DecodeString(v.fields["tail"])
	if err != nil {
		t.Fatalf("%s: %v", v.file, err)
	}
	return append(out, tail...)
}

func parse(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// piece is one piece with its names replaced.
func (vector) piece(p string, k, other plugins.VerifyingKey) []byte {
	switch p {
	case "POINT":
		return point(k)
	case "OTHERPOINT":
		return point(other)
	case "NEGATED":
		negated := point(k)
		negated[0] ^= 1
		return negated
	case "WHOLEPOINT":
		whole, _ := k.Public.(*ecdsa.PublicKey).Bytes()
		return whole
	}
	return []byte(strings.ReplaceAll(strings.ReplaceAll(p, "OTHERKID", other.ID), "KID", k.ID))
}

// point is the key as PASERK has it: a v3 key, compressed.
func point(k plugins.VerifyingKey) []byte {
	text, err := paseto.PublicPASERK(k.Public)
	if err != nil {
		return nil
	}
	raw, _ := rawURL.DecodeString(strings.TrimPrefix(text, "k3.public."))
	return bytes.Clone(raw)
}

// TestHostileBodies has the inspector read every vector of ours.
func TestHostileBodies(t *testing.T) {
	v3, _ := newKey(t, signers.ECDSAP384)
	otherV3, _ := newKey(t, signers.ECDSAP384)
	v4, _ := newKey(t, signers.Ed25519)
	seen := map[string]int{}
	for _, v := range readVectors(t) {
		k := map[string]plugins.VerifyingKey{"v3": v3, "v4": v4}[v.fields["key"]]
		err := outcome(t, v, k, otherV3)
		expect := v.fields["expect"]
		seen[expect]++
		switch expect {
		case "accepted", "parses":
			if err != nil {
				t.Errorf("%s: %v", v.file, err)
			}
		case "inspect refuses", "parse refuses":
			if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(fmt.Sprint(err), v.fields["says"]) {
				t.Errorf("%s (%s): got %v, want ErrRefused with %q", v.file, v.fields["why"], err, v.fields["says"])
			}
		default:
			t.Errorf("%s: no such outcome: %q", v.file, expect)
		}
	}
	if len(seen) != 4 {
		t.Errorf("outcomes: got %v, want all four", seen)
	}
}

// outcome is what the layer that a vector is for says of it.
func outcome(t *testing.T, v vector, k, other plugins.VerifyingKey) error {
	t.Helper()
	in := paseto.NewInspector()
	if token, ok := v.fields["token"]; ok {
		_, _, err := in.Parse(plugins.Token(strings.ReplaceAll(token, `\n`, "\n")), k, nil)
		return err
	}
	tbs := v.encode(t, k, other)
	_, err := in.Inspect(tbs, k)
	if kid, named := in.KeyID(tbs); named == nil && kid == "" {
		t.Errorf("%s: KeyID: no kid and no error", v.file)
	}
	return err
}

// FuzzInspect holds that what is accepted says the same when it is written
// again, is no longer for it, and parses back out of its token.
func FuzzInspect(f *testing.F) {
	keys := fuzzKeys(f)
	for _, v := range readVectors(f) {
		if _, token := v.fields["token"]; !token {
			f.Add(v.fields["key"] == "v3", v.encode(f, keys[v.fields["key"] == "v3"], keys[true]))
		}
	}
	f.Fuzz(func(t *testing.T, isV3 bool, tbs []byte) { writtenAgain(t, keys[isV3], tbs) })
}

// FuzzMessage is FuzzInspect for bodies whose PAE is sound: what is in the
// pieces is reached more often.
func FuzzMessage(f *testing.F) {
	keys := fuzzKeys(f)
	for _, v := range readVectors(f) {
		if len(v.pieces) == 4 {
			f.Add(v.pieces[1], v.pieces[2], []byte(v.pieces[3]))
		}
	}
	f.Fuzz(func(t *testing.T, message, footer string, assertion []byte) {
		k := keys[len(message)%2 == 0]
		pieces := [][]byte{[]byte("v4.public."), []byte(message), []byte(strings.ReplaceAll(footer, "KID", k.ID)), assertion}
		if k.Algorithm == signers.ECDSAP384 {
			pieces[0] = []byte("v3.public.")
			pieces = append([][]byte{point(k)}, pieces...)
		}
		writtenAgain(t, k, paseto.PAE(pieces...))
	})
}

// writtenAgain holds a body that is accepted against what the issuer writes
// for the same grant.
func writtenAgain(t *testing.T, k plugins.VerifyingKey, tbs []byte) {
	t.Helper()
	in := paseto.NewInspector()
	g, err := in.Inspect(tbs, k)
	if err != nil {
		return
	}
	d, err := paseto.New().Prepare(t.Context(), g, k)
	if err != nil {
		t.Fatalf("accepted, and not to be written again: %v", err)
	}
	again, err := in.Inspect(d.ToBeSigned, k)
	if err != nil || !again.Equal(g) {
		t.Fatalf("written again it says another %s, %v", again.Diff(g), err)
	}
	if len(d.ToBeSigned) > len(tbs) {
		t.Errorf("canonical and longer: %d bytes were %d", len(d.ToBeSigned), len(tbs))
	}
	frame, err := in.Frame(tbs)
	if err != nil {
		t.Fatalf("accepted, and without a frame: %v", err)
	}
	parsesBack(t, frame, tbs, g, k)
}

// parsesBack joins some signature to a frame: the token must hold the very
// bytes that were accepted.
func parsesBack(t *testing.T, frame plugins.Frame, tbs []byte, g plugins.Grant, k plugins.VerifyingKey) {
	t.Helper()
	size := map[signers.Algorithm]int{signers.Ed25519: 64, signers.ECDSAP384: 96}[k.Algorithm]
	token, err := frame.JoinWritten(bytes.Repeat([]byte{1}, size))
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := paseto.NewInspector().Parse(token, k, g.Assertion)
	if err != nil || !bytes.Equal(back, tbs) {
		t.Errorf("the token holds %q, %v; want %q", back, err, tbs)
	}
}

// FuzzParse holds that a token that parses is written the same again.
func FuzzParse(f *testing.F) {
	keys := fuzzKeys(f)
	for _, v := range readVectors(f) {
		if token, ok := v.fields["token"]; ok {
			f.Add(v.fields["key"] == "v3", token, []byte("x"))
		}
	}
	f.Fuzz(func(t *testing.T, isV3 bool, token string, assertion []byte) {
		k, in := keys[isV3], paseto.NewInspector()
		tbs, sig, err := in.Parse(plugins.Token(token), k, assertion)
		if err != nil || len(tbs) > 40<<10 {
			return
		}
		frame, err := in.Frame(tbs)
		if err != nil {
			t.Fatalf("it parses, and its bytes have no frame: %v", err)
		}
		again, err := frame.Join(k.Algorithm, sig)
		if err != nil || string(again) != token {
			t.Errorf("got %q, %v; want %q", again, err, token)
		}
	})
}

// FuzzPASERK holds that a key has one text.
func FuzzPASERK(f *testing.F) {
	for _, k := range fuzzKeys(f) {
		text, err := paseto.PublicPASERK(k.Public)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := paseto.ParsePASERK(text)
		if err != nil {
			return
		}
		if again, err := paseto.PublicPASERK(k.Public); err != nil || again != text {
			t.Errorf("got %q, %v; want %q", again, err, text)
		}
	})
}

// fuzzKeys are the same in every process of a fuzzer: a corpus names them.
func fuzzKeys(t testing.TB) map[bool]plugins.VerifyingKey {
	t.Helper()
	keys := map[bool]plugins.VerifyingKey{}
	for isV3, text := range map[bool]string{
		true:  "k3.public.AvvLfGnuHGBXm-ejNBNIeNnFxb811VLatjwBQDl-0UzvY313IJJcRGmeow5yh0xy-w",
		false: "k4.public.Hrnbu7wEfAP9cGBOAHHwmH4Wsot1ciXBHwBBXQ4gsaI",
	} {
		k, err := paseto.ParsePASERK(text)
		if err != nil {
			t.Fatal(err)
		}
		keys[isV3] = k
	}
	return keys
}
