package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// A BadRecord says where the chain breaks and why.
type BadRecord struct {
	File   string
	Line   int
	Reason string
}

// Error names the place as FILE:LINE.
func (b *BadRecord) Error() string {
	return fmt.Sprintf("%s:%d: %s\nhint: the ledger was changed from here on, or the record before was; compare with a copy kept elsewhere", b.File, b.Line, b.Reason)
}

// ErrHead says that a ledger holds together but lacks a head that was noted
// elsewhere: its end was cut off, or it was written anew.
var ErrHead = errors.New("the head that was noted is not in the ledger")

// A Report is what Verify found in a ledger that holds together.
type Report struct {
	Records     uint64          `json:"records"`
	Segments    int             `json:"segments"`
	Head        string          `json:"head"` // SHA-256 of the last record, hex
	Kinds       map[Kind]uint64 `json:"kinds"`
	OpenIntents int             `json:"open_intents"` // without an outcome since the last start
	Unfinished  bool            `json:"unfinished"`   // the last line has no end: a crash, or a write under way
}

// VerifyOptions are what Verify may be told. The zero VerifyOptions are good.
type VerifyOptions struct {
	Head     string                                      // a head noted elsewhere, which must be in the ledger
	Progress func(segment, segments int, records uint64) // called after each segment
}

// Verify checks every link of the ledger in dir: a changed, missing, added or
// moved record is a *BadRecord. Memory is bounded; the ledger may be in use.
func Verify(dir string) (Report, error) { return VerifyWith(dir, VerifyOptions{}) }

// VerifyWith is Verify with options.
func VerifyWith(dir string, o VerifyOptions) (Report, error) {
	files, err := segments(dir)
	if err != nil {
		return Report{}, err
	}
	if len(files) == 0 {
		return Report{}, fmt.Errorf("audit: no ledger in %q\nhint: it is in state_dir/ledger unless the configuration says otherwise", dir)
	}
	if files[0].number != 1 {
		return Report{}, fmt.Errorf("audit: %s is missing, the first segment there is %s\nhint: restore it from a backup", segmentName(1), segmentName(files[0].number))
	}
	var w walker
	r := Report{Segments: len(files)}
	seen := o.Head == ""
	for i, f := range files {
		err := lines(f.path, func(n int, line []byte, _ int64) error {
			err := w.next(f.path, n, line)
			seen = seen || hex.EncodeToString(w.prev[:]) == o.Head
			return err
		})
		if errors.Is(err, errTorn) && i == len(files)-1 {
			r.Unfinished, err = true, nil
		}
		if err != nil {
			return Report{}, fmt.Errorf("audit: %w", err)
		}
		if o.Progress != nil {
			o.Progress(i+1, len(files), w.seq)
		}
	}
	r.Records, r.Head, r.Kinds, r.OpenIntents = w.seq, hex.EncodeToString(w.prev[:]), w.counts, len(w.open)
	if !seen {
		return r, fmt.Errorf("audit: %w\nhint: compare with a copy kept elsewhere", ErrHead)
	}
	return r, nil
}
