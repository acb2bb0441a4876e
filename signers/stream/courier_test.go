package stream

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAClientThatDoesNotReadIsHeldBack sends without end and reads nothing: no
// more is taken than may be unanswered.
func TestAClientThatDoesNotReadIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		reads := make(chan struct{})
		c := Courier[int, int]{
			Recv: func() ([]int, error) {
				if taken.Add(1000) > 100_000 {
					return nil, io.EOF
				}
				return make([]int, 1000), nil
			},
			Send:   func([]int) error { <-reads; return nil },
			Handle: func(_ context.Context, i int) int { return i },
			Now:    time.Now, Timeout: time.Second,
		}
		done := make(chan error, 1)
		go func() { done <- c.Run(t.Context(), nil) }()
		synctest.Wait()
		if n := taken.Load(); n > 2000 {
			t.Errorf("%d items were taken of a client that reads nothing, want one batch", n)
		}
		close(reads)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := taken.Load(); n < 100_000 {
			t.Errorf("%d items were taken of a client that reads, want all", n)
		}
	})
}
