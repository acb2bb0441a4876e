package sshcert_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/sshcert"
	"github.com/signetd/signet/signers"
)

const vectors = "../../conformance/vectors/ssh/"

// order is PROTOCOL.certkeys'.
var order = []string{
	"type", "nonce", "key", "serial", "kind", "keyid", "principals", "after", "before", "options", "extensions", "reserved", "ca", "tail",
}

// readVector reads a file over what good.txt says.
func readVector(t testing.TB, file string) map[string]string {
	t.Helper()
	v := map[string]string{}
	for _, f := range []string{filepath.Join(vectors, "good.txt"), file} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(l, "\n"), ": ")
			v[strings.TrimSuffix(name, ":")] = value
		}
	}
	return v
}

var words = regexp.MustCompile(`(\d+\*)?"[^"]*"|\S+`)

// bytesOf reads the notation of the vectors' README.
func bytesOf(t testing.TB, text string, ca []byte) []byte {
	t.Helper()
	fields := words.FindAllString(text, -1)
	out, rest := group(t, fields, ca)
	if len(rest) > 0 {
		t.Fatalf("%q: a bracket too many", text)
	}
	return out
}

func group(t testing.TB, fields []string, ca []byte) (out []byte, rest []string) {
	t.Helper()
	for len(fields) > 0 {
		f := fields[0]
		fields = fields[1:]
		times := 1
		if n, what, ok := strings.Cut(f, "*"); ok && !strings.HasPrefix(f, `"`) {
			times, _ = strconv.Atoi(n)
			f = what
		}
		var one []byte
		switch {
		case f == "CA":
			one = str(ca)
		case f == "(":
			one, fields = group(t, fields, ca)
			one = str(one)
		case f == ")":
			return out, fields
		case strings.HasPrefix(f, `"`):
			one = str([]byte(strings.Trim(f, `"`)))
		default:
			var err error
			if one, err = hex.DecodeString(f); err != nil {
				t.Fatalf("%q: %v", f, err)
			}
		}
		out = append(out, slices.Repeat(one, times)...)
	}
	return out, nil
}

func str(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

// blob is a public key as SSH writes it.
func blob(t testing.TB, authorized string) []byte {
	t.Helper()
	_, encoded, _ := strings.Cut(authorized, " ")
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// body is a vector's bytes to sign.
func body(t testing.TB, v map[string]string, ca []byte) []byte {
	t.Helper()
	if whole, ok := v["body"]; ok {
		return bytesOf(t, whole, ca)
	}
	var b []byte
	for _, field := range order {
		b = append(b, bytesOf(t, v[field], ca)...)
	}
	return b
}

// judge is what becomes of a vector: the body is inspected, and a certificate
// is taken apart.
func judge(t testing.TB, v map[string]string, k plugins.VerifyingKey) error {
	t.Helper()
	ca := blob(t, line(t, k.Public))
	tbs := body(t, v, ca)
	in := sshcert.NewInspector()
	signature, finished := v["signature"]
	if !finished {
		_, err := in.Inspect(tbs, k)
		return err
	}
	prefix, ok := v["prefix"]
	if !ok {
		prefix = strings.Trim(v["type"], `"`) + " "
	}
	whole := append(tbs, bytesOf(t, signature, ca)...)
	suffix := strings.ReplaceAll(v["suffix"], `\n`, "\n")
	_, _, err := in.Parse(plugins.Token(prefix+base64.StdEncoding.EncodeToString(whole)+suffix), k, nil)
	return err
}

func TestTheVectors(t *testing.T) {
	files, err := filepath.Glob(vectors + "*.txt")
	if err != nil || len(files) < 90 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	cas := map[string]ca{}
	outcomes := map[string]int{}
	for _, file := range files {
		v := readVector(t, file)
		alg := v["algorithm"]
		if alg == "" {
			alg = string(signers.Ed25519)
		}
		if _, ok := cas[alg]; !ok {
			cas[alg] = newCA(t, signers.Algorithm(alg))
		}
		err := judge(t, v, cas[alg].VerifyingKey)
		outcomes[v["expect"]]++
		switch v["expect"] {
		case "accepted":
			if err != nil {
				t.Errorf("%s (%s): %v", filepath.Base(file), v["why"], err)
			}
		case "inspect refuses", "parse refuses":
			if v["says"] == "" || !errors.Is(err, plugins.ErrRefused) || !strings.Contains(fmt.Sprint(err), v["says"]) {
				t.Errorf("%s (%s): got %v, want ErrRefused with %q", filepath.Base(file), v["why"], err, v["says"])
			}
		default:
			t.Errorf("%s: expects %q", file, v["expect"])
		}
	}
	if len(outcomes) != 3 {
		t.Errorf("outcomes: got %v, want three kinds", slices.Collect(maps.Keys(outcomes)))
	}
}
