package guard

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"

	"github.com/signetd/signet/signers"
)

// A pace spreads signatures out, in the order of their arrival, so that a
// service with a quota has nothing to throttle. A nil pace holds nobody up.
type pace struct {
	limiter     *rate.Limiter
	what, limit string // for who is refused
}

// newPace allows n a second, nil for no limit. A tenth of them may come at
// once: services count by the second too.
func newPace(what, limit string, n int) *pace {
	if n <= 0 {
		return nil
	}
	return &pace{rate.NewLimiter(rate.Limit(n), max(1, n/10)), what, limit}
}

// wait returns when it is ctx's turn. Who could not wait so long is refused at
// once, and has taken nobody's place.
func (p *pace) wait(ctx context.Context) error {
	if p == nil || p.limiter.Wait(ctx) == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // it gave up by itself
	}
	return fmt.Errorf("over %.0f signatures a second %s: %w\nhint: retry with back-off; %s allows more", float64(p.limiter.Limit()), p.what, signers.ErrBusy, p.limit)
}
