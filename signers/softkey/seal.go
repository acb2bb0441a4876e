package softkey

import (
	"bytes"
	"crypto"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/signetd/signet/signers"
)

// A key file is an age file. Inside, one line with a name and a MAC, then a
// record as JSON:
//
//	signet-softkey-1 <hex of HMAC-SHA256 over the record>
//	{"id":"pay-1","algorithm":"ed25519","pkcs8":"MC4CAQAw…"}
//
// age hides the record and notices any change, but anybody who knows the public
// half of the identity can write an age file. The MAC is made with a key that
// comes from the private half, so nobody without the secret can slip a key of
// his own into the directory, or one key under the name of another.

const (
	magic   = "signet-softkey-1 "
	maxFile = 64 << 10 // a 4096-bit RSA key takes less than 8 KB
)

// errDamaged is any key file that is not as Create wrote it.
var errDamaged = errors.New("key file is damaged, or was not made with this secret\nhint: restore the file from a backup; to give the key up, destroy it")

type record struct {
	ID        signers.KeyID     `json:"id"`
	Algorithm signers.Algorithm `json:"algorithm"`
	PKCS8     []byte            `json:"pkcs8"`
}

// A seal closes and opens key files.
type seal struct {
	identity  age.Identity
	recipient age.Recipient
	macKey    []byte
}

// newSeal takes one age identity, as age-keygen writes it.
func newSeal(text string) (*seal, error) {
	identities, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil || len(identities) != 1 {
		// Not err: it quotes what it could not read, and that is the secret.
		return nil, errors.New("not exactly one age identity\nhint: make one with age-keygen, and keep only its AGE-SECRET-KEY line")
	}
	s := &seal{identity: identities[0]}
	var private string
	switch i := identities[0].(type) {
	case *age.X25519Identity:
		s.recipient, private = i.Recipient(), i.String()
	case *age.HybridIdentity:
		s.recipient, private = i.Recipient(), i.String()
	default:
		return nil, fmt.Errorf("an age identity of type %T is not supported\nhint: make one with age-keygen", i)
	}
	s.macKey, err = hkdf.Key(sha256.New, []byte(private), nil, "signet softkey 1 key file", sha256.Size)
	return s, err
}

// close turns a key into the contents of its file.
func (s *seal) close(e *entry) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(e.priv)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(record{ID: e.id, Algorithm: e.alg, PKCS8: der})
	if err != nil {
		return nil, err
	}
	plain := append([]byte(magic+hex.EncodeToString(s.mac(body))+"\n"), body...)
	return encrypt(plain, s.recipient)
}

// open returns errDamaged for everything that close did not make for id.
func (s *seal) open(id signers.KeyID, file []byte) (*entry, error) {
	plain, err := decrypt(file, s.identity)
	if err != nil {
		return nil, errDamaged // err says only which check failed
	}
	line, body, _ := bytes.Cut(plain, []byte("\n"))
	sum, ok := bytes.CutPrefix(line, []byte(magic))
	mac, err := hex.DecodeString(string(sum))
	if !ok || err != nil || !hmac.Equal(mac, s.mac(body)) {
		return nil, errDamaged
	}
	e, err := parseRecord(body)
	if err != nil || e.id != id {
		return nil, errDamaged
	}
	return e, nil
}

func (s *seal) mac(body []byte) []byte {
	h := hmac.New(sha256.New, s.macKey)
	h.Write(body)
	return h.Sum(nil)
}

func parseRecord(body []byte) (*entry, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var r record
	if err := dec.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one record")
	}
	if err := r.ID.Check(); err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(r.PKCS8)
	if err != nil {
		return nil, err
	}
	priv, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", parsed)
	}
	return newEntry(r.ID, r.Algorithm, priv)
}

func encrypt(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(file []byte, with age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
