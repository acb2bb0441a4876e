package pkcs11

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// A search costs some tokens a look at every object: with 10,000 keys a third
// of a second, for each key that is opened. Listing them all then costs less
// than searching for a few. Other tokens, behind a network, search at once and
// take long to list. So a listing is made after a search was slow, and is given
// up once it has cost as much as many such searches.
const (
	slowSearch   = 50 * time.Millisecond
	listingWorth = 20               // searches
	listingFresh = time.Minute      // and no other is made meanwhile
	listingAgain = 10 * time.Minute // after one that was given up
)

// A listing is which objects of a token had which CKA_ID at one moment.
type listing struct {
	life, login int64
	until       time.Time
	private     map[string][]pkcs11.ObjectHandle
	public      map[string][]pkcs11.ObjectHandle
}

// A lister makes listings, one at a time.
type lister struct {
	mu     sync.Mutex
	next   time.Time // none before
	latest atomic.Pointer[listing]
}

// lookup locates the pair called id to use it, from a listing if there is one.
// What is asked whether it exists is found with locate: a listing may be old.
func (b *Backend) lookup(s *session, id signers.KeyID) (pair, error) {
	if p, ok := b.listed(s, id); ok {
		return p, nil
	}
	begun := monotonic()
	byID, err := b.byID(s.handle, id)
	if err != nil {
		return pair{}, err
	}
	if took := time.Duration(monotonic() - begun); took > slowSearch && b.list(s, took*listingWorth) {
		if p, ok := b.listed(s, id); ok {
			return p, nil
		}
	}
	if len(byID) == 0 {
		return pair{}, signers.ErrNotFound
	}
	return b.pairOf(s.handle, id, byID)
}

// listed is the pair that the latest listing has under id, if the token still
// says so of both halves: a handle may be another object's by now.
func (b *Backend) listed(s *session, id signers.KeyID) (pair, bool) {
	l := b.lister.latest.Load()
	if l == nil || l.life != s.life || l.login != s.login || b.cfg.Now().After(l.until) {
		return pair{}, false
	}
	private, public := l.private[string(id)], l.public[string(id)]
	if len(private) != 1 || len(public) != 1 {
		return pair{}, false
	}
	p := pair{private[0], public[0]}
	return p, b.attestID(s.handle, id, p) == nil
}

// list makes a listing, unless there was one lately, another session is at it,
// or it costs too much.
func (b *Backend) list(s *session, budget time.Duration) bool {
	l := &b.lister
	now := b.cfg.Now()
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	if now.Before(l.next) {
		return false
	}
	l.next = now.Add(listingAgain)
	made := &listing{life: s.life, login: s.login, until: now.Add(listingFresh)}
	end := monotonic() + int64(budget)
	var err error
	if made.private, err = b.listClass(s, pkcs11.CKO_PRIVATE_KEY, end); err == nil {
		made.public, err = b.listClass(s, pkcs11.CKO_PUBLIC_KEY, end)
	}
	if err != nil {
		b.cfg.Log.Info("pkcs11 objects are looked for one by one", slog.Any("error", err))
		return false
	}
	l.next = made.until
	l.latest.Store(made)
	return true
}

// listClass reads the CKA_ID of every object of a class.
func (b *Backend) listClass(s *session, class uint, end int64) (map[string][]pkcs11.ObjectHandle, error) {
	objects, err := b.search(s.handle, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
	if err != nil {
		return nil, err
	}
	all := make(map[string][]pkcs11.ObjectHandle, len(objects))
	read := 0
	for page := range slices.Chunk(objects, idsMost) {
		if monotonic() > end {
			return nil, fmt.Errorf("reading %d of %d ids took longer than to search for %d keys", read, len(objects), listingWorth)
		}
		s.expect(b.cfg.HangAfter)
		for i, id := range b.module.ids(s.handle, page) {
			if id != nil { // else it was destroyed meanwhile, or is not ours to read: it is searched for
				all[string(id)] = append(all[string(id)], page[i])
			}
		}
		read += len(page)
	}
	return all, nil
}
