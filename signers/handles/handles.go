// Package handles keeps count of the handles of keys that a back-end has given
// out, for back-ends behind a network: those of a destroyed key end, though its
// id is used again, and Close waits for the signatures under way.
package handles

import (
	"context"
	"sync"

	"github.com/signetd/signet/signers"
)

// A Book is a back-end's. Its zero value is ready.
type Book struct {
	mu     sync.Mutex
	keys   map[signers.KeyID]*Life
	closed bool
	busy   sync.WaitGroup
}

// A Life is shared by the handles of one key, which end together.
type Life struct {
	book *Book
	gone bool
}

// Open returns ErrClosed after Close.
func (b *Book) Open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return signers.ErrClosed
	}
	return nil
}

// Of is the life of the key called id, for a handle that was opened.
func (b *Book) Of(id signers.KeyID) *Life {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys[id] == nil {
		b.set(id)
	}
	return b.keys[id]
}

// New is the life of a key that was just made: no older handle shares it.
func (b *Book) New(id signers.KeyID) *Life {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(id)
	return b.keys[id]
}

func (b *Book) set(id signers.KeyID) {
	if b.keys == nil {
		b.keys = map[signers.KeyID]*Life{}
	}
	b.keys[id] = &Life{book: b}
}

// End ends the handles of a key that is being destroyed.
func (b *Book) End(id signers.KeyID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.keys[id]; l != nil {
		l.gone = true
	}
	delete(b.keys, id)
}

// Close lets no signature begin, and waits for those under way.
func (b *Book) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.busy.Wait()
}

// Enter counts a signature as under way until leave is called. It is ErrClosed
// after Close, and ErrNotFound once the key was destroyed.
func (l *Life) Enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, signers.ErrClosed
	case l.gone:
		return nil, signers.ErrNotFound
	}
	b.busy.Add(1)
	return b.busy.Done, nil
}

// Ended reports whether the key was destroyed.
func (l *Life) Ended() bool {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	return l.gone
}
