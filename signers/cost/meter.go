package cost

import (
	"context"
	"maps"
	"sync"

	"github.com/signetd/signet/signers"
)

// A Meter counts requests. The zero Meter is ready.
type Meter struct {
	mu    sync.Mutex
	usage signers.Usage
}

type priceKey struct{}

// Priced says what a request that is made with ctx costs. The service's SDK
// stands between whoever knows that and the meter.
func Priced(ctx context.Context, usd float64) context.Context {
	return context.WithValue(ctx, priceKey{}, usd)
}

// Count counts an attempt, of which usd is the price where ctx has none. Only
// what was done is paid for.
func (m *Meter) Count(ctx context.Context, operation string, outcome signers.Outcome, usd float64) {
	if priced, ok := ctx.Value(priceKey{}).(float64); ok {
		usd = priced
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.usage.Requests == nil {
		m.usage.Requests = map[signers.Request]int64{}
	}
	m.usage.Requests[signers.Request{Operation: operation, Outcome: outcome}]++
	if outcome == signers.Done {
		m.usage.USD += usd
	}
}

// Retry counts that an attempt is made again.
func (m *Meter) Retry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.usage.Retries++
}

// Usage is what was counted so far.
func (m *Meter) Usage() signers.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.usage
	u.Requests = maps.Clone(u.Requests)
	return u
}
