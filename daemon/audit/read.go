package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Record is one line of the ledger, as readers see it.
type Record struct {
	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	Kind        Kind      `json:"kind"`
	Intent      uint64    `json:"intent,omitempty"`
	Op          string    `json:"op,omitempty"`
	Caller      string    `json:"caller,omitempty"`
	Profile     string    `json:"profile,omitempty"`
	Key         string    `json:"key,omitempty"`
	Version     int       `json:"version,omitempty"`
	Kid         string    `json:"kid,omitempty"`
	TokenID     string    `json:"jti,omitempty"`
	SubjectHash string    `json:"subject_hash,omitempty"`
	Audience    []string  `json:"aud,omitempty"`
	Expires     int64     `json:"exp,omitempty"`
	Rule        string    `json:"rule,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Hash        string    `json:"tbs_hash,omitempty"`
	TokenHash   string    `json:"token_hash,omitempty"`
	Prev        string    `json:"prev"`
	Own         string    `json:"hash"`
}

// maxLine bounds a record, in bytes: some fields of maxField, escaped.
const maxLine = 64 << 10

func segmentName(number int) string { return fmt.Sprintf("ledger-%08d.jsonl", number) }

// A segment is one file of a ledger.
type segment struct {
	number int
	path   string
}

// segments lists a ledger's files in order. A gap between them is an error:
// a file is missing.
func segments(dir string) ([]segment, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "ledger-*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	slices.Sort(paths)
	all := make([]segment, 0, len(paths))
	for i, path := range paths {
		digits := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "ledger-"), ".jsonl")
		n, err := strconv.Atoi(digits)
		if err != nil || filepath.Base(path) != segmentName(n) {
			return nil, fmt.Errorf("audit: %q is not the name of a segment\nhint: move it away", path)
		}
		if i > 0 && n != all[i-1].number+1 {
			return nil, fmt.Errorf("audit: %s is missing between %s and %s\nhint: restore it from a backup", segmentName(all[i-1].number+1), segmentName(all[i-1].number), segmentName(n))
		}
		all = append(all, segment{n, path})
	}
	return all, nil
}

// errTorn says that a file's last line has no end.
var errTorn = errors.New("the last record is unfinished")

// lines calls do for each line of a file, without its newline, with the
// offset behind it.
func lines(path string, do func(number int, line []byte, end int64) error) error {
	f, err := os.Open(path) //nolint:gosec // a ledger that the operator names
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	r := bufio.NewReaderSize(f, maxLine)
	var end int64
	for number := 1; ; number++ {
		line, err := r.ReadSlice('\n')
		end += int64(len(line))
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return errTorn
			}
			return nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("line %d has more than %d bytes", number, maxLine)
		}
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if err := do(number, line[:len(line)-1], end); err != nil {
			return err
		}
	}
}

// parse reads one line. It is strict: the ledger has no other form.
func parse(line []byte) (Record, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("not a record: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Record{}, errors.New("bytes after the record")
	}
	return r, nil
}

// readEnd reads a segment and says where it ends. Its own links are checked;
// Verify checks the whole ledger.
func readEnd(path string, first bool) (Tail, int64, error) {
	var w walker
	if !first {
		w.unknownStart = true
	}
	var size int64
	err := lines(path, func(n int, line []byte, end int64) error {
		size = end
		return w.next(path, n, line)
	})
	tail := Tail{Seq: w.seq, Hash: w.prev, Clean: w.last == KindStop, OpenIntents: len(w.open)}
	if errors.Is(err, errTorn) {
		info, statErr := os.Stat(path)
		if statErr != nil {
			return Tail{}, 0, fmt.Errorf("audit: %w", statErr)
		}
		tail.Torn, tail.Clean = info.Size()-size, false
		tail.Note = fmt.Sprintf("%d bytes of an unfinished record were dropped", tail.Torn)
		err = nil
	}
	return tail, size, err
}

// A walker follows the chain record by record.
type walker struct {
	unknownStart bool // the record before the first is not known
	seq          uint64
	prev         [sha256.Size]byte
	last         Kind
	open         map[uint64]bool // intents without an outcome
	counts       map[Kind]uint64
}

// next checks a record's place in the chain and takes it in.
func (w *walker) next(path string, number int, line []byte) error {
	sum, err := hashOf(line)
	var r Record
	if err == nil {
		r, err = parse(line)
	}
	if err == nil {
		err = w.follows(r)
	}
	if err != nil {
		return &BadRecord{File: filepath.Base(path), Line: number, Reason: err.Error()}
	}
	if w.counts == nil {
		w.counts, w.open = map[Kind]uint64{}, map[uint64]bool{}
	}
	w.seq, w.prev, w.last = r.Seq, sum, r.Kind
	w.counts[r.Kind]++
	switch r.Kind {
	case KindIntent:
		w.open[r.Seq] = true
	case KindOutcome, KindFailed:
		delete(w.open, r.Intent)
	case KindUncleanStop, KindStart:
		clear(w.open) // counted by the record itself
	case KindDenied, KindRecord, KindStop, KindRepair:
	default:
		return &BadRecord{File: filepath.Base(path), Line: number, Reason: fmt.Sprintf("kind %q is not known", r.Kind)}
	}
	return nil
}

func (w *walker) follows(r Record) error {
	if w.unknownStart {
		w.unknownStart = false
		prev, err := hex.DecodeString(r.Prev)
		if err != nil || len(prev) != sha256.Size {
			return errors.New("prev is not a SHA-256")
		}
		return nil
	}
	if r.Seq != w.seq+1 {
		return fmt.Errorf("record %d follows record %d: a record is missing, or out of its place", r.Seq, w.seq)
	}
	if r.Prev != hex.EncodeToString(w.prev[:]) {
		return fmt.Errorf("record %d does not hold the hash of the one before it", r.Seq)
	}
	return nil
}

// ReadTail returns the ledger's last n records, oldest first.
func ReadTail(dir string, n int) ([]Record, error) {
	files, err := segments(dir)
	if err != nil {
		return nil, err
	}
	var tail []Record
	for i := len(files) - 1; i >= 0 && len(tail) < n; i-- {
		var here []Record
		err := lines(files[i].path, func(_ int, line []byte, _ int64) error {
			r, err := parse(line)
			here = append(here, r)
			return err
		})
		if err != nil && !errors.Is(err, errTorn) {
			return nil, fmt.Errorf("audit: %s: %w\nhint: signet audit verify", files[i].path, err)
		}
		tail = append(here, tail...)
	}
	return tail[max(0, len(tail)-n):], nil
}
