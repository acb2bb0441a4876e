package tokens

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// A group has callers that write at the same time share one transaction, and so
// one fsync. The caller that finds nobody writing writes for all that wait: a
// lone one waits for no company, as it would in bbolt's own Batch.
type group struct {
	db *bbolt.DB

	mu      sync.Mutex
	queue   []*change
	writing bool
}

// A change is one caller's part of a transaction. It returns why it changed
// nothing, which is that caller's affair, or a fault, which undoes everybody's.
type change struct {
	do      func(*bbolt.Tx) (refused, fault error)
	refused error
	done    chan error
}

// errLead is not an error: it tells a caller that waits to write from now on.
var errLead = errors.New("tokens: lead")

// run makes a change and returns when it is on disk, or why it was not made.
func (g *group) run(do func(*bbolt.Tx) (refused, fault error)) error {
	c := &change{do: do, done: make(chan error, 1)}
	g.mu.Lock()
	g.queue = append(g.queue, c)
	if g.writing {
		g.mu.Unlock()
		if err := <-c.done; !errors.Is(err, errLead) {
			return err
		}
		g.mu.Lock()
	}
	g.writing = true
	batch := g.queue // c is in it
	g.queue = nil
	g.mu.Unlock()
	g.commit(batch)
	g.handOver()
	return <-c.done
}

func (g *group) commit(batch []*change) {
	fault := g.db.Update(func(tx *bbolt.Tx) (fault error) {
		for _, c := range batch {
			if c.refused, fault = c.do(tx); fault != nil {
				return fault
			}
		}
		return nil
	})
	for _, c := range batch {
		if fault != nil {
			c.refused = fault
		}
		c.done <- c.refused
	}
}

// handOver makes the first caller that waits the writer.
func (g *group) handOver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writing = len(g.queue) > 0; g.writing {
		g.queue[0].done <- errLead
	}
}
