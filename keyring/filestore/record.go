package filestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/signetd/signet/keyring"
)

// A record is what a file holds.
type record struct {
	// SHA256 is that of the file, with zeros in its own place. A bit that
	// flipped in a date or a state would read well and mean something else.
	SHA256   string           `json:"sha256"`
	Revision keyring.Revision `json:"revision"`
	Key      keyring.Entry    `json:"key"`
}

var noSum = strings.Repeat("0", hex.EncodedLen(sha256.Size))

func (r record) encode() ([]byte, error) {
	r.SHA256 = noSum
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	data = append(data, '\n')
	return bytes.Replace(data, []byte(noSum), []byte(sum(data)), 1), nil
}

// decode is strict: an unknown field may be a newer version's promise, and what
// was not written by encode is not believed.
func decode(data []byte) (record, error) {
	var r record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return record{}, fmt.Errorf("%w: bytes after the record", ErrDamaged)
	}
	if len(r.SHA256) != len(noSum) || sum(bytes.Replace(data, []byte(r.SHA256), []byte(noSum), 1)) != r.SHA256 {
		return record{}, fmt.Errorf("%w: its sha256 does not match", ErrDamaged)
	}
	if r.Revision == 0 {
		return record{}, fmt.Errorf("%w: revision 0", ErrDamaged)
	}
	return r, nil
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
