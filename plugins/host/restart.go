package host

import (
	"encoding/binary"
	"io"
	"time"
)

// A budget counts crashes and says how long to wait after each.
type budget struct {
	restart Restart
	now     func() time.Time
	rand    io.Reader
	crashes []time.Time // within the window, oldest first
}

// crash records one more and returns the pause before the next start, or
// false if there have been too many.
func (b *budget) crash() (time.Duration, bool) {
	now := b.now()
	recent := b.crashes[:0]
	for _, t := range b.crashes {
		if now.Sub(t) < b.restart.Window {
			recent = append(recent, t)
		}
	}
	b.crashes = append(recent, now)
	if len(b.crashes) > b.restart.Crashes {
		return 0, false
	}
	return b.jitter(b.pause(len(b.crashes))), true
}

// pause is Min after the first crash and doubles up to Max.
func (b *budget) pause(n int) time.Duration {
	d := b.restart.Min
	for range n - 1 {
		if d >= b.restart.Max/2 {
			return b.restart.Max
		}
		d *= 2
	}
	return min(d, b.restart.Max)
}

// jitter takes up to half of d away, so that issuers that ended together do
// not start together.
func (b *budget) jitter(d time.Duration) time.Duration {
	var r [2]byte
	if _, err := io.ReadFull(b.rand, r[:]); err != nil {
		return d
	}
	return d - d/2*time.Duration(binary.BigEndian.Uint16(r[:]))>>16
}
