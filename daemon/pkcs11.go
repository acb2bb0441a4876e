//go:build cgo

package daemon

import (
	"context"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// openPKCS11 needs cgo: a module is a C library.
func openPKCS11(ctx context.Context, d *Daemon, b config.Backend) (signers.Backend, error) {
	return pkcs11.Open(ctx, pkcs11.Config{
		Module: b.PKCS11.Module, TokenLabel: b.PKCS11.TokenLabel, TokenSerial: b.PKCS11.TokenSerial,
		Sessions: b.PKCS11.Sessions, PIN: source(b.PKCS11.PIN), Log: d.log, Now: now,
	})
}
