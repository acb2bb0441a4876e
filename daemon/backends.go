package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/secret"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/awskms"
	"github.com/signetd/signet/signers/gcpkms"
	"github.com/signetd/signet/signers/guard"
	"github.com/signetd/signet/signers/remote"
	"github.com/signetd/signet/signers/softkey"
)

// openers is the table of back-ends: a new one is one line.
var openers = map[string]func(context.Context, *Daemon, config.Backend) (signers.Backend, error){
	"softkey": openSoftkey,
	"pkcs11":  openPKCS11,
	"awskms":  openAWSKMS,
	"gcpkms":  openGCPKMS,
}

// openBackends opens every back-end of the configuration, each behind a guard.
func (d *Daemon) openBackends(ctx context.Context) error {
	for _, b := range d.cfg.Backends {
		guarded, err := d.openBackend(ctx, b)
		if err != nil {
			return fmt.Errorf("back-end %q: %w", b.Name, err)
		}
		d.backends[b.Name], d.guards[b.Name] = guarded, guarded
		d.atStop(guarded.Close)
		d.lookAfter(guarded, b) //nolint:contextcheck // for as long as the back-end is open
	}
	return nil
}

func (d *Daemon) openBackend(ctx context.Context, b config.Backend) (*guard.Backend, error) {
	open, ok := openers[b.Type]
	if !ok {
		return nil, fmt.Errorf("type %q is not known", b.Type)
	}
	limits, err := d.limits(b)
	if err != nil {
		return nil, err
	}
	return guard.Open(ctx, limits, func(ctx context.Context) (signers.Backend, error) { return open(ctx, d, b) })
}

// OpenBackend opens one back-end of a configuration, guarded, for a command that
// needs no daemon. Close it.
func OpenBackend(ctx context.Context, b config.Backend, log *slog.Logger) (*guard.Backend, error) {
	d := &Daemon{log: log, modules: map[string]*host.Launcher{}}
	var err error
	if d.self, err = os.Open("/proc/self/exe"); err != nil {
		return nil, fmt.Errorf("own binary: %w", err)
	}
	defer d.self.Close() //nolint:errcheck // whoever runs it has a copy
	g, err := d.openBackend(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("back-end %q: %w", b.Name, err)
	}
	return g, nil
}

// lookAfter has a back-end's health checked, with a key of the first algorithm
// that it is there for.
func (d *Daemon) lookAfter(g *guard.Backend, b config.Backend) {
	if b.Health.Off {
		return
	}
	for _, k := range d.cfg.Keys {
		if k.Backend == b.Name {
			g.Watch(guard.Check{
				Algorithm: signers.Algorithm(k.Algorithm), Every: b.Health.Every.D(), Timeout: b.Health.Timeout.D(), Now: now,
			})
			return
		}
	}
}

func openAWSKMS(ctx context.Context, d *Daemon, b config.Backend) (signers.Backend, error) {
	a := b.AWSKMS
	backend, err := awskms.Open(ctx, awskms.Config{
		Region: a.Region, AliasPrefix: a.AliasPrefix, Endpoint: a.Endpoint, AllowEndpoint: a.AllowEndpoint,
		DeleteAfter: a.DeleteAfter, Settle: a.Settle.D(), Now: now, Log: d.log,
	})
	if err != nil {
		return nil, err
	}
	return backend, nil
}

func openGCPKMS(ctx context.Context, d *Daemon, b config.Backend) (signers.Backend, error) {
	g := b.GCPKMS
	backend, err := gcpkms.Open(ctx, gcpkms.Config{
		KeyRing: g.KeyRing, Protection: g.Protection, Connection: g.Connection, Endpoint: g.Endpoint, Generation: g.Generation.D(), Now: now, Log: d.log,
	})
	if err != nil {
		return nil, err
	}
	return backend, nil
}

// openPKCS11 opens an HSM: in this process, or in one of its own.
func openPKCS11(ctx context.Context, d *Daemon, b config.Backend) (signers.Backend, error) {
	if b.PKCS11.Isolation != "process" {
		return openModule(ctx, *b.PKCS11, d.log)
	}
	settings, err := json.Marshal(b.PKCS11)
	if err != nil {
		return nil, err
	}
	confine, err := d.moduleConfinement(b.Name, *b.PKCS11)
	if err != nil {
		return nil, err
	}
	launcher, err := host.NewLauncher(host.Spec{
		Name: b.Name, Self: d.self, Confine: confine, Children: &d.children, Args: []string{"backend", b.Type},
		Handshake:   host.Handshake{Version: remote.Version, Key: remote.CookieKey, Value: remote.CookieValue},
		Environment: append(b.PKCS11.Environment, moduleEnvironment...),
		TempDir:     d.sockDir, Log: d.log, Now: now,
	})
	if err != nil {
		return nil, err
	}
	backend, err := remote.Open(ctx, remote.Options{
		Name: b.Name, Type: b.Type, Settings: settings, Now: now, Log: d.log,
		Start: func(ctx context.Context) (remote.Link, error) { return launcher.Start(ctx) },
	})
	if err != nil {
		launcher.Close()
		return nil, err
	}
	d.atStop(func() error { launcher.Close(); return nil })
	d.modules[b.Name] = launcher
	return backend, nil
}

// moduleEnvironment are the variables by which modules find their own
// configuration, and systemd's for credentials. None holds a secret.
var moduleEnvironment = []string{
	"CREDENTIALS_DIRECTORY", "HOME", "SOFTHSM2_CONF", "YUBIHSM_PKCS11_CONF", "P11NETHSM_CONFIG_FILE",
	"ChrystokiConfigurationPath", "TPM2_PKCS11_STORE", "TPM2_PKCS11_TCTI", "P11_KIT_SERVER_ADDRESS",
}

// OpenRemote opens a back-end inside the process that is there for it alone.
func OpenRemote(ctx context.Context, kind string, settings []byte) (signers.Backend, error) {
	if kind != "pkcs11" {
		return nil, fmt.Errorf("back-end type %q does not run in a process of its own: %w", kind, signers.ErrUnsupported)
	}
	var p config.PKCS11
	if err := json.Unmarshal(settings, &p); err != nil {
		return nil, err
	}
	return openModule(ctx, p, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// Now is the clock of a process that the daemon started.
func Now() time.Time { return now() }

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
