//go:build cgo

package daemon

import (
	"context"
	"log/slog"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// openModule needs cgo: a module is a C library.
func openModule(ctx context.Context, p config.PKCS11, log *slog.Logger) (signers.Backend, error) {
	token, err := p.Token()
	if err != nil {
		return nil, err
	}
	b, err := pkcs11.Open(ctx, pkcs11.Config{
		Module: token.Module, TokenLabel: token.Label, TokenSerial: token.Serial,
		Sessions: p.Sessions, PIN: source(p.PIN), KeepAlive: p.KeepAlive.D(), HangAfter: p.HangAfter.D(),
		Quirks: quirks(p.Quirks), Log: log, Now: now,
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func quirks(q config.Quirks) pkcs11.Quirks {
	return pkcs11.Quirks{
		InitializeArgs: q.InitializeArgs, MaxSessions: q.MaxSessions, LoginEachSession: q.Login == "session",
		ReadOnlySessions: q.ReadOnlySessions, PublicReadOnly: q.PublicReadOnly,
		EdDSAMechanism: uint(max(0, q.EdDSAMechanism)), EdDSAGenerate: uint(max(0, q.EdDSAGenerate)),
		EdDSAParams: q.EdDSAParams, ECPoint: q.ECPoint, Omit: q.Omit, Unattested: q.Unattested,
		Algorithms: algorithms(q.Algorithms),
	}
}

func algorithms(names []string) (all []signers.Algorithm) {
	for _, name := range names {
		all = append(all, signers.Algorithm(name))
	}
	return all
}
