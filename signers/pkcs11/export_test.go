package pkcs11

import "github.com/signetd/signet/signers"

// LoseSessions closes the sessions behind the back-end's back, as a token does
// that was reset: the login goes with the last.
func (b *Backend) LoseSessions() {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, s := range b.pool.idle {
		_ = b.module.ctx.CloseSession(s.handle)
	}
	_ = b.module.ctx.CloseSession(b.admin.handle)
}

// StaleHandle makes a key's handle one that names nothing.
func StaleHandle(k any) {
	at := *k.(*Key).place.Load()
	at.handle = 1 << 40
	k.(*Key).place.Store(&at)
}

// SessionCount is how many sessions the token has open.
func (b *Backend) SessionCount() int {
	b.pool.busy.Wait()
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	return len(b.pool.idle) + 1
}

// RenewBesideOthers takes the fourth rung as if another token had signed
// meanwhile, and reports whether it was taken.
func (b *Backend) RenewBesideOthers() bool {
	good, life := b.module.good.Load(), b.module.life.Load()
	b.module.good.Add(1)
	b.renew(good)
	return b.module.life.Load() != life
}

// ID is the key's id.
func (k *Key) ID() signers.KeyID { return k.id }
