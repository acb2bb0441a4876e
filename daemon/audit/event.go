package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// An Event is what one record says: ids and hashes, never a token, a signature
// or a claim.
type Event struct {
	Op       string // "issue", "sign", "key.rotate", …
	Caller   string
	Profile  string
	Key      string
	Version  int
	Kid      string
	TokenID  string // jti
	Subject  string // written as its SHA-256: it may name a person
	Audience []string
	Expires  int64 // Unix seconds
	Rule     string
	Reason   string
	Hash     []byte // SHA-256 of the bytes to be signed
}

// A Kind says what a record is about.
type Kind string

// The kinds of record.
const (
	KindIntent      Kind = "intent"       // a key is about to sign
	KindOutcome     Kind = "outcome"      // a token is about to leave
	KindFailed      Kind = "failed"       // no token came of an intent
	KindDenied      Kind = "denied"       // a request was refused
	KindRecord      Kind = "record"       // something an operator did
	KindStart       Kind = "start"        // the daemon started
	KindStop        Kind = "stop"         // the daemon ended cleanly
	KindUncleanStop Kind = "unclean_stop" // the daemon found that it had not
	KindRepair      Kind = "repair"       // the ledger was broken, and goes on
)

// maxField bounds each string of a record, in bytes: a caller must not be able
// to fill the ledger with one request.
const maxField = 512

// A line is a record before it is chained.
type line struct {
	kind   Kind
	event  Event
	intent uint64 // the intent that an outcome belongs to
	token  []byte // SHA-256 of the finished token
}

// append writes the record as one line of JSON with fixed member order,
// without the newline, and returns the record's hash: of all that stands
// before its "hash" member. Written by hand: this is on the way of every token.
func (l *line) append(b []byte, seq uint64, at time.Time, prev [sha256.Size]byte) ([]byte, [sha256.Size]byte) {
	start := len(b)
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","kind":"`...)
	b = append(b, l.kind...)
	b = append(b, '"')
	if l.intent != 0 {
		b = strconv.AppendUint(append(b, `,"intent":`...), l.intent, 10)
	}
	b = l.event.append(b)
	b = appendHex(b, "token_hash", l.token)
	b = appendHex(b, "prev", prev[:])
	sum := sha256.Sum256(b[start:])
	b = appendHex(b, hashMember, sum[:])
	return append(b, '}'), sum
}

// hashMember is each record's last member; the next record's prev equals it.
const hashMember = "hash"

// hashSuffix is how long the end of a line is: ,"hash":"64 digits"}
const hashSuffix = len(`,"`+hashMember+`":""}`) + 2*sha256.Size

// hashOf recomputes a line's hash and holds it against the one it carries.
func hashOf(line []byte) ([sha256.Size]byte, error) {
	if len(line) < hashSuffix {
		return [sha256.Size]byte{}, errors.New("not a record: too short")
	}
	body := line[:len(line)-hashSuffix]
	sum := sha256.Sum256(body)
	if want := append(appendHex(nil, hashMember, sum[:]), '}'); !bytes.Equal(line[len(body):], want) {
		return [sha256.Size]byte{}, errors.New("the record does not have its own hash: it was changed")
	}
	return sum, nil
}

func (e *Event) append(b []byte) []byte {
	b = appendText(b, "op", e.Op)
	b = appendText(b, "caller", e.Caller)
	b = appendText(b, "profile", e.Profile)
	b = appendText(b, "key", e.Key)
	if e.Version != 0 {
		b = strconv.AppendInt(append(b, `,"version":`...), int64(e.Version), 10)
	}
	b = appendText(b, "kid", e.Kid)
	b = appendText(b, "jti", e.TokenID)
	if e.Subject != "" {
		sum := sha256.Sum256([]byte(e.Subject))
		b = appendHex(b, "subject_hash", sum[:])
	}
	b = appendList(b, e.Audience)
	if e.Expires != 0 {
		b = strconv.AppendInt(append(b, `,"exp":`...), e.Expires, 10)
	}
	b = appendText(b, "rule", e.Rule)
	b = appendText(b, "reason", e.Reason)
	return appendHex(b, "tbs_hash", e.Hash)
}

func appendHex(b []byte, name string, sum []byte) []byte {
	if len(sum) == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(hex.AppendEncode(b, sum), '"')
}

func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return appendQuoted(b, value)
}

// maxList bounds the entries of a list, empty ones too.
const maxList = 16

// appendList writes the audiences, at most as many as fit in one field, and
// marks that there were more.
func appendList(b []byte, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, `,"aud":[`...)
	size := 0
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if size += len(s); i == maxList || i > 0 && size > maxField {
			b = append(b, `"…"`...)
			break
		}
		b = appendQuoted(b, s)
	}
	return append(b, ']')
}

// appendQuoted writes a JSON string that can't break a line: control
// characters are escaped, bytes that are not UTF-8 are replaced, and what is
// too long is cut and marked.
func appendQuoted(b []byte, s string) []byte {
	cut := len(s) > maxField
	if cut {
		s = s[:maxField]
	}
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029:
			b = append(b, `\u`...)
			const digits = "0123456789abcdef"
			b = append(b, digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	if cut {
		b = append(b, "…"...)
	}
	return append(b, '"')
}
