package kmskill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/keyring/filestore"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/awskms"
	"github.com/signetd/signet/signers/gcpkms"
)

// settle is for how long a child believes that the service may not find what
// was just made.
const settle = 400 * time.Millisecond

// A killer is a store at whose Nth save, before or after, the process dies.
type killer struct {
	keyring.Store
	at, saves int // at: 2*N before, 2*N+1 after; -1: never
}

func (k *killer) step() {
	if k.saves == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
	k.saves++
}

// Save implements keyring.Store.
func (k *killer) Save(ctx context.Context, name string, e keyring.Entry, prev keyring.Revision) (keyring.Revision, error) {
	k.step()
	defer k.step()
	return k.Store.Save(ctx, name, e, prev)
}

// child is the process that is killed. It says how many steps its saves were,
// and lives until its standard input ends.
func child() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	backend, err := openBackend(ctx, os.Getenv("KMSKILL_CLOUD"), os.Getenv("KMSKILL_AT"))
	if err != nil {
		return err
	}
	store, err := filestore.Open(os.Getenv("KMSKILL_DIR"), filestore.Options{})
	if err != nil {
		return err
	}
	at, err := strconv.Atoi(os.Getenv("KMSKILL_SAVE"))
	if err != nil {
		return err
	}
	k := &killer{store, at, 0}
	ring, err := keyring.Open(ctx, k, map[string]signers.Backend{"kms": backend}, keyring.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return err
	}
	if err := operations[os.Getenv("KMSKILL_DO")](ctx, ring); err != nil {
		return err
	}
	fmt.Println(k.saves)
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, ring.Close(), backend.Close(), store.Close())
}

func openBackend(ctx context.Context, cloud, at string) (signers.Backend, error) {
	if cloud == "gcp" {
		return gcpkms.Open(ctx, gcpkms.Config{KeyRing: fakegcpkms.Ring, Endpoint: at, Now: time.Now})
	}
	return awskms.Open(ctx, awskms.Config{
		Region: fakekms.Region, Endpoint: at, Now: time.Now, Settle: settle, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// operations can all be done again after they were cut off anywhere.
var operations = map[string]func(context.Context, *keyring.Ring) error{"create": create, "rotate": rotate}

// create makes the first version and has it sign.
func create(ctx context.Context, r *keyring.Ring) error {
	_, err := r.Create(ctx, "pay", keyring.Spec{Backend: "kms", Algorithm: signers.ECDSAP256, Format: "jwt"})
	if err != nil && !errors.Is(err, keyring.ErrExists) {
		return err
	}
	e, err := entry(r)
	if err == nil && e.Versions[0].State == keyring.Published {
		_, err = r.Activate(ctx, "pay", 1, keyring.Activation{Early: true})
	}
	return err
}

// rotate makes the next version, has it sign, and destroys the old one.
func rotate(ctx context.Context, r *keyring.Ring) error {
	e, err := entry(r)
	if err != nil {
		return err
	}
	if e.Versions[0].State == keyring.Signing {
		staged := len(e.Versions) > 1 && e.Versions[1].State == keyring.Published
		if !staged {
			if _, err := r.Rotate(ctx, "pay"); err != nil {
				return err
			}
		}
		if _, err := r.Activate(ctx, "pay", 2, keyring.Activation{Early: true}); err != nil {
			return err
		}
		if e, err = entry(r); err != nil {
			return err
		}
	}
	old := e.Versions[0]
	if old.State == keyring.Retired {
		if old, err = r.Revoke(ctx, "pay", 1); err != nil {
			return err
		}
	}
	if old.State != keyring.Destroyed {
		_, err = r.Destroy(ctx, "pay", 1, old.Kid)
	}
	return err
}

func entry(r *keyring.Ring) (keyring.Entry, error) {
	all := r.List()
	if len(all) != 1 {
		return keyring.Entry{}, fmt.Errorf("%d keys on record, want one", len(all))
	}
	return all[0], nil
}
