package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// What a session, a login or a handle that was lost looks like. The order in
// which a lost session shows is SESSION_HANDLE_INVALID, USER_NOT_LOGGED_IN,
// OBJECT_HANDLE_INVALID or KEY_HANDLE_INVALID, depending on the module.
var lost = map[uint]bool{
	pkcs11.CKR_SESSION_HANDLE_INVALID: true,
	pkcs11.CKR_SESSION_CLOSED:         true,
	pkcs11.CKR_USER_NOT_LOGGED_IN:     true,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:  true,
	pkcs11.CKR_KEY_HANDLE_INVALID:     true,
	pkcs11.CKR_OPERATION_ACTIVE:       true,
	pkcs11.CKR_DEVICE_ERROR:           true,
	pkcs11.CKR_GENERAL_ERROR:          true,
}

// recoverable reports whether a fresh session may mend err.
func recoverable(err error) bool {
	var rv pkcs11.Error
	return errors.As(err, &rv) && lost[uint(rv)]
}

// recover replaces a session, logs in again if the login is gone, and finds
// the key again. The key that is found must be the one that was lost: a stale
// handle may name another.
func (b *Backend) recover(ctx context.Context, s *session, k *Key) error {
	if err := b.replace(s); err != nil {
		return err
	}
	if err := b.relogin(ctx, s); err != nil {
		return err
	}
	found, err := b.find(s.handle, k.id, k.mech)
	if err != nil {
		return fmt.Errorf("pkcs11: key %q: find it again: %w", k.id, err)
	}
	pub, err := b.public(s.handle, found.public, k.alg)
	if err != nil {
		return fmt.Errorf("pkcs11: key %q: read it again: %w", k.id, err)
	}
	if !equalKeys(k.public, pub) {
		return fmt.Errorf("pkcs11: key %q: the token has another key by this id now: %w", k.id, signers.ErrMismatch)
	}
	k.handle.Store(uint64(found.private))
	b.cfg.Log.WarnContext(ctx, "pkcs11 session replaced")
	return nil
}

// replace opens a new session in the place of one that failed, and only then
// closes the old one: the login goes with the last session.
func (b *Backend) replace(s *session) error {
	fresh, err := b.openSession()
	if err != nil {
		return err
	}
	_ = b.module.ctx.CloseSession(s.handle) // it may be gone already
	s.handle = fresh
	return nil
}

// relogin logs in if the session is not logged in any more. A PIN that was
// refused once is not tried again.
func (b *Backend) relogin(ctx context.Context, s *session) error {
	b.loginMu.Lock()
	defer b.loginMu.Unlock()
	info, err := b.module.ctx.GetSessionInfo(s.handle)
	if err != nil {
		return fmt.Errorf("pkcs11: %w", failed("C_GetSessionInfo", err))
	}
	if info.State == pkcs11.CKS_RW_USER_FUNCTIONS || info.State == pkcs11.CKS_RO_USER_FUNCTIONS {
		return nil
	}
	return b.login(ctx, s.handle)
}
