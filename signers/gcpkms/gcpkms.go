// Package gcpkms keeps keys in Google Cloud KMS. A key of ours is a CryptoKey
// of the same id; its one version that is not destroyed is the key. Names are
// never free again there, and a version is destroyed weeks after it was asked
// for: from then on it can't sign.
//
// Credentials are the default ones (workload identity, the attached service
// account), never of a configuration of ours.
package gcpkms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/handles"
)

// label marks the keys that are ours.
const label = "signet"

var keyRing = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+$`)

// A Config says where keys are. A zero field has its default.
type Config struct {
	KeyRing    string        // projects/P/locations/L/keyRings/R; required
	Protection string        // "HSM", the default, or "SOFTWARE"
	Endpoint   string        // a fake's host:port, on loopback and without TLS
	Timeout    time.Duration // of a request whose caller has set no deadline; 10 s
	Generation time.Duration // for how long a new version may be generated; 60 s
	Now        func() time.Time
	Log        *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.Protection = cmp.Or(c.Protection, "HSM")
	c.Timeout, c.Generation = cmp.Or(c.Timeout, 10*time.Second), cmp.Or(c.Generation, time.Minute)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Now == nil:
		return c, errors.New("gcpkms: Config.Now is required")
	case !keyRing.MatchString(c.KeyRing):
		return c, fmt.Errorf("gcpkms: key ring %q: not projects/P/locations/L/keyRings/R", c.KeyRing)
	case c.Protection != "HSM" && c.Protection != "SOFTWARE":
		return c, fmt.Errorf("gcpkms: protection %q: not HSM or SOFTWARE", c.Protection)
	}
	if addr, err := netip.ParseAddrPort(c.Endpoint); c.Endpoint != "" && (err != nil || !addr.Addr().IsLoopback()) {
		return c, fmt.Errorf("gcpkms: endpoint %q is not an address on loopback\nhint: it has no TLS and no credentials: it is for tests", c.Endpoint)
	}
	return c, nil
}

// A Backend is the keys of one key ring. It implements signers.Backend, Lister
// and Surveyor.
type Backend struct {
	cfg    Config
	kms    *kms.KeyManagementClient
	making sync.Mutex // one creation or destruction at a time
	given  handles.Book
	close  func() error
}

// Open finds credentials and asks for one key, so that what is missing shows at
// start.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var options []option.ClientOption
	if cfg.Endpoint != "" {
		options = append(options, option.WithEndpoint(cfg.Endpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: %w: %w\nhint: the default credentials are looked for as `gcloud auth application-default print-access-token` does", signers.ErrUnavailable, err)
	}
	retried(client.CallOptions)
	b := &Backend{cfg: cfg, kms: client, close: sync.OnceValue(client.Close)}
	ctx, cancel := b.within(ctx, cfg.Timeout)
	defer cancel()
	_, err = client.ListCryptoKeys(ctx, &kmspb.ListCryptoKeysRequest{Parent: cfg.KeyRing, PageSize: 1}).Next()
	if err != nil && !errors.Is(err, iterator.Done) {
		return nil, errors.Join(fmt.Errorf("gcpkms: %s: %w", cfg.KeyRing, meaning(err)), client.Close())
	}
	return b, nil
}

// within gives a request the deadline of those that have none.
func (b *Backend) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// alive is ErrClosed after Close.
func (b *Backend) alive() error {
	if err := b.given.Open(); err != nil {
		return fmt.Errorf("gcpkms: %w", err)
	}
	return nil
}

func (b *Backend) name(id signers.KeyID) string { return b.cfg.KeyRing + "/cryptoKeys/" + string(id) }

// begin checks a call's arguments and translates the algorithm.
func (b *Backend) begin(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (algorithm, error) {
	if err := errors.Join(ctx.Err(), id.Check(), b.alive()); err != nil {
		return 0, err
	}
	return algorithmOf(alg)
}

// Open finds a key's version.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	a, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := b.within(ctx, b.cfg.Timeout)
	defer cancel()
	key, err := b.open(ctx, id, alg, a)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: open %q: %w", id, err)
	}
	return key, nil
}

func (b *Backend) open(ctx context.Context, id signers.KeyID, alg signers.Algorithm, a algorithm) (*Key, error) {
	live, err := b.versions(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(live) == 0 {
		return nil, signers.ErrNotFound
	}
	if len(live) > 1 {
		return nil, fmt.Errorf("%d versions can sign: %w\nhint: one of them is not ours: see who made it in the audit log", len(live), signers.ErrMismatch)
	}
	v, err := b.generated(ctx, live[0])
	if err != nil {
		return nil, err
	}
	if err := b.admit(v, a); err != nil {
		return nil, err
	}
	return b.handle(ctx, id, alg, v)
}

// versions are those of a key that are not destroyed, nor on their way there.
func (b *Backend) versions(ctx context.Context, id signers.KeyID) (live []*kmspb.CryptoKeyVersion, err error) {
	all := b.kms.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: b.name(id)})
	for {
		v, err := all.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return live, nil
		case err != nil:
			return nil, meaning(err)
		}
		switch v.GetState() { //nolint:exhaustive // the others can't come back by themselves
		case kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED,
			kmspb.CryptoKeyVersion_PENDING_GENERATION, kmspb.CryptoKeyVersion_PENDING_IMPORT:
			live = append(live, v)
		}
	}
}

// generated waits until a version is.
func (b *Backend) generated(ctx context.Context, v *kmspb.CryptoKeyVersion) (*kmspb.CryptoKeyVersion, error) {
	for pause := 20 * time.Millisecond; v.GetState() == kmspb.CryptoKeyVersion_PENDING_GENERATION; pause = min(2*pause, time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("it is still being generated: %w", ctx.Err())
		}
		id := strings.TrimPrefix(v.GetName(), b.cfg.KeyRing+"/cryptoKeys/")
		id, _, _ = strings.Cut(id, "/")
		live, err := b.versions(ctx, signers.KeyID(id))
		if err != nil {
			return nil, err
		}
		if len(live) != 1 {
			return nil, signers.ErrNotFound
		}
		v = live[0]
	}
	return v, nil
}

// Destroy schedules every version of a key for destruction; from then on none
// can sign. An absent key is fine.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check(), b.alive()); err != nil {
		return err
	}
	b.making.Lock()
	defer b.making.Unlock()
	b.given.End(id)
	ctx, cancel := b.within(ctx, b.cfg.Generation)
	defer cancel()
	live, err := b.versions(ctx, id)
	if errors.Is(err, signers.ErrNotFound) {
		return nil
	}
	for _, v := range live {
		err = errors.Join(err, b.destroy(ctx, v))
	}
	if err != nil {
		return fmt.Errorf("gcpkms: destroy %q: %w", id, err)
	}
	return nil
}

func (b *Backend) destroy(ctx context.Context, v *kmspb.CryptoKeyVersion) error {
	v, err := b.generated(ctx, v) // or it could not be destroyed
	if errors.Is(err, signers.ErrNotFound) {
		return nil
	}
	if err == nil {
		_, err = b.kms.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: v.GetName()})
		err = meaning(err)
	}
	return err
}

// List lists the keys of ours that have a version. Each is asked for: the
// service keeps the names of those that are gone.
func (b *Backend) List(ctx context.Context) (ids []signers.KeyID, err error) {
	if err := errors.Join(ctx.Err(), b.alive()); err != nil {
		return nil, err
	}
	ctx, cancel := b.within(ctx, b.cfg.Generation)
	defer cancel()
	all := b.kms.ListCryptoKeys(ctx, &kmspb.ListCryptoKeysRequest{Parent: b.cfg.KeyRing})
	for {
		k, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return ids, nil
		}
		if err != nil {
			return nil, fmt.Errorf("gcpkms: list: %w", meaning(err))
		}
		id := signers.KeyID(strings.TrimPrefix(k.GetName(), b.cfg.KeyRing+"/cryptoKeys/"))
		if k.GetLabels()[label] == "" || id.Check() != nil {
			continue
		}
		live, err := b.versions(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("gcpkms: list: %w", err)
		}
		if len(live) > 0 {
			ids = append(ids, id)
		}
	}
}

// Close ends after the signatures under way.
func (b *Backend) Close() error {
	b.given.Close()
	return b.close()
}
