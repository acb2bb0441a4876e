package pkcs11

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// findToken finds the token by label or serial, every time: slot numbers
// change when a token is made again.
func (b *Backend) findToken() error {
	slots, err := b.module.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("pkcs11: %w", failed("C_GetSlotList", err))
	}
	var seen []string
	var slot uint
	fits := 0
	for _, s := range slots {
		info, err := b.module.ctx.GetTokenInfo(s)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		seen = append(seen, fmt.Sprintf("%q (serial %s)", info.Label, info.SerialNumber))
		if b.wants(info) {
			slot, b.serial = s, info.SerialNumber
			fits++
		}
	}
	switch fits {
	case 1:
		b.slot.Store(uint64(slot))
		return nil
	case 0:
		return fmt.Errorf("pkcs11: no token with label %q and serial %q: %w\nhint: the module has %s", b.cfg.TokenLabel, b.cfg.TokenSerial, signers.ErrUnavailable, list(seen))
	}
	return fmt.Errorf("pkcs11: %d tokens fit label %q: %w\nhint: name one by token_serial: %s", fits, b.cfg.TokenLabel, signers.ErrUnavailable, list(seen))
}

func (b *Backend) wants(info pkcs11.TokenInfo) bool {
	return (b.cfg.TokenLabel == "" || info.Label == b.cfg.TokenLabel) &&
		(b.cfg.TokenSerial == "" || info.SerialNumber == b.cfg.TokenSerial) &&
		b.cfg.TokenLabel+b.cfg.TokenSerial != ""
}

func list(seen []string) string {
	if len(seen) == 0 {
		return "no token that is initialised"
	}
	return strings.Join(seen, ", ")
}

// askMechanisms notes what the token offers; nothing is assumed.
func (b *Backend) askMechanisms() error {
	offered, err := b.module.ctx.GetMechanismList(uint(b.slot.Load()))
	if err != nil {
		return fmt.Errorf("pkcs11: %w", failed("C_GetMechanismList", err))
	}
	b.mechs = map[uint]bool{}
	for _, m := range offered {
		b.mechs[m.Mechanism] = true
	}
	return nil
}

// login logs in, once: tokens lock after a few wrong PINs, so one that was
// refused is never tried again, and one that may be the last is not tried.
func (b *Backend) login(ctx context.Context, s pkcs11.SessionHandle) error {
	if b.denied != nil {
		return b.denied
	}
	info, err := b.module.ctx.GetTokenInfo(uint(b.slot.Load()))
	if err != nil {
		return fmt.Errorf("pkcs11: %w", failed("C_GetTokenInfo", err))
	}
	if err := safeToTry(info); err != nil {
		return err
	}
	pin, err := b.cfg.PIN(ctx)
	if err != nil {
		return fmt.Errorf("pkcs11: read the PIN: %w", err)
	}
	err = b.module.loginOnce(s, pin)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("pkcs11: log in to %q: %w", info.Label, err)
	if refusesPIN(err) {
		b.denied = err
	}
	return err
}

// safeToTry reads the flags that say how near the token is to locking.
func safeToTry(info pkcs11.TokenInfo) error {
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("pkcs11: token %q: its user PIN is locked: %w\nhint: its security officer can set a new one", info.Label, signers.ErrDenied)
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("pkcs11: token %q: one more wrong PIN locks it, so none is tried: %w\nhint: log in with the right PIN by another tool, which resets the count", info.Label, signers.ErrDenied)
	}
	return nil
}
