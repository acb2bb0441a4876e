package daemon

import (
	"context"
	"fmt"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/secret"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/softkey"
)

// openers is the table of back-ends: a new one is one line.
var openers = map[string]func(context.Context, *Daemon, config.Backend) (signers.Backend, error){
	"softkey": openSoftkey,
	"pkcs11":  openPKCS11,
}

// openBackends opens every back-end of the configuration.
func (d *Daemon) openBackends(ctx context.Context) error {
	for _, b := range d.cfg.Backends {
		open, ok := openers[b.Type]
		if !ok {
			return fmt.Errorf("back-end %q: type %q is not known", b.Name, b.Type)
		}
		backend, err := open(ctx, d, b)
		if err != nil {
			return fmt.Errorf("back-end %q: %w", b.Name, err)
		}
		d.backends[b.Name] = backend
		d.atStop(backend.Close)
	}
	return nil
}

func openSoftkey(ctx context.Context, _ *Daemon, b config.Backend) (signers.Backend, error) {
	opts := softkey.Options{Dir: b.Softkey.Dir}
	if !b.Softkey.Memory {
		opts.Secret = source(b.Softkey.Secret)
	}
	backend, err := softkey.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	if f := b.Softkey.UnsafeFaults; f != nil {
		backend.SetFaults(softkey.Faults{Delay: f.Delay.D(), Sessions: f.Sessions})
	}
	return backend, nil
}

// source reads a secret when it is needed, never before and never twice from
// memory: a later login reads it again from its place.
func source(s *config.Secret) func(context.Context) ([]byte, error) {
	return secret.Source{Credential: s.Credential, File: s.File, Command: s.Command}.Read
}
