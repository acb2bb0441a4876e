package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Follow calls do for each record after seen, looking for new ones at each
// tick, until ctx ends.
func Follow(ctx context.Context, dir string, seen uint64, tick <-chan time.Time, do func(Record) error) error {
	for {
		next, err := readAfter(dir, seen, do)
		if err != nil {
			return err
		}
		seen = next
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}

// readAfter reads the newest segments that hold records after seen.
func readAfter(dir string, seen uint64, do func(Record) error) (uint64, error) {
	files, err := segments(dir)
	if err != nil {
		return seen, err
	}
	from := len(files) - 1
	for from > 0 && firstSeq(files[from].path) > seen+1 {
		from--
	}
	for _, f := range files[max(0, from):] {
		err := lines(f.path, func(_ int, line []byte, _ int64) error {
			r, err := parse(line)
			if err != nil || r.Seq <= seen {
				return err
			}
			seen = r.Seq
			return do(r)
		})
		if err != nil && !errors.Is(err, errTorn) { // torn: a write under way
			return seen, fmt.Errorf("audit: %s: %w", f.path, err)
		}
	}
	return seen, nil
}

// firstSeq is the number of a segment's first record, or more than any if it
// has none yet.
func firstSeq(path string) uint64 {
	first := ^uint64(0)
	stop := errors.New("stop")
	_ = lines(path, func(_ int, line []byte, _ int64) error {
		if r, err := parse(line); err == nil {
			first = r.Seq
		}
		return stop
	})
	return first
}
