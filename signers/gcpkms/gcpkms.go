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
	"slices"
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
	"github.com/signetd/signet/signers/cost"
	"github.com/signetd/signet/signers/handles"
)

// label marks the keys that are ours: its value is the id that the key was made
// for. A key that is only called so is not ours.
const label = "signet"

var (
	keyRing    = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+$`)
	connection = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/ekmConnections/[^/]+$`)
)

// A Config says where keys are. A zero field has its default.
type Config struct {
	KeyRing    string        // projects/P/locations/L/keyRings/R; required
	Protection string        // that every key must have: "HSM", the default, "SOFTWARE", "EXTERNAL" or "EXTERNAL_VPC"
	Connection string        // projects/P/locations/L/ekmConnections/C: where EXTERNAL_VPC keys are made
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
	case !slices.Contains([]string{"HSM", "SOFTWARE", "EXTERNAL", "EXTERNAL_VPC"}, c.Protection):
		return c, fmt.Errorf("gcpkms: protection %q: not HSM, SOFTWARE, EXTERNAL or EXTERNAL_VPC", c.Protection)
	case c.Connection != "" && (c.Protection != "EXTERNAL_VPC" || !connection.MatchString(c.Connection)):
		return c, fmt.Errorf("gcpkms: connection %q: not projects/P/locations/L/ekmConnections/C, with protection EXTERNAL_VPC", c.Connection)
	}
	if addr, err := netip.ParseAddrPort(c.Endpoint); c.Endpoint != "" && (err != nil || !addr.Addr().IsLoopback()) {
		return c, fmt.Errorf("gcpkms: endpoint %q is not an address on loopback\nhint: it has no TLS and no credentials: it is for tests", c.Endpoint)
	}
	return c, nil
}

// A Backend is the keys of one key ring. It implements signers.Backend, Lister,
// Surveyor, Adopter, Prover and Metered.
type Backend struct {
	cfg    Config
	kms    *kms.KeyManagementClient
	making sync.Mutex // one creation or destruction at a time
	given  handles.Book
	meter  *cost.Meter
	close  func() error
}

// Open finds credentials and asks for one key, so that what is missing shows at
// start.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	watched := &line{now: cfg.Now}
	options := watched.options()
	meter := &cost.Meter{}
	options = append(options, option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(metered(meter))))
	if cfg.Endpoint != "" {
		options = append(options, option.WithEndpoint(cfg.Endpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: %w: %w\nhint: the default credentials are looked for as `gcloud auth application-default print-access-token` does", signers.ErrUnavailable, err)
	}
	retried(client.CallOptions, meter)
	b := &Backend{cfg: cfg, kms: client, meter: meter, close: sync.OnceValue(client.Close)}
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
	v, err := b.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if v, err = b.generated(ctx, id, v); err != nil {
		return nil, err
	}
	if err := b.admit(v, a); err != nil {
		return nil, err
	}
	return b.handle(ctx, id, alg, v)
}

// find is the one version of a key that is not destroyed, nor on its way there;
// of an adopted key the version that its id names.
func (b *Backend) find(ctx context.Context, id signers.KeyID) (*kmspb.CryptoKeyVersion, error) {
	all, err := b.every(ctx, id)
	if err != nil {
		return nil, err
	}
	live := slices.DeleteFunc(slices.Clone(all), func(v *kmspb.CryptoKeyVersion) bool { return !living(v) })
	switch {
	case len(live) == 0:
		return nil, gone(all)
	case len(live) > 1:
		return nil, fmt.Errorf("%d versions can sign: %w\nhint: one of them is not ours, or was restored: see who did it in the audit log, and disable or destroy it", len(live), signers.ErrMismatch)
	}
	return live[0], nil
}

// gone says why a key has no version that can sign: the last one may still be
// saved.
func gone(all []*kmspb.CryptoKeyVersion) error {
	if len(all) == 0 {
		return signers.ErrNotFound
	}
	switch v := all[len(all)-1]; v.GetState() { //nolint:exhaustive // the others are gone for good
	case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
		return fmt.Errorf("it is scheduled for destruction on %s: %w\nhint: until then this saves it: gcloud kms keys versions restore %s, then enable", v.GetDestroyTime().AsTime().Format("2006-01-02"), signers.ErrNotFound, flags(v))
	case kmspb.CryptoKeyVersion_GENERATION_FAILED:
		return fmt.Errorf("it was never generated (%s): %w", v.GetGenerationFailureReason(), signers.ErrNotFound)
	}
	return signers.ErrNotFound
}

// flags name a version to gcloud.
func flags(v *kmspb.CryptoKeyVersion) string {
	p := strings.Split(v.GetName(), "/") // projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N
	if len(p) != 10 {
		return v.GetName()
	}
	return fmt.Sprintf("%s --key %s --keyring %s --location %s --project %s", p[9], p[7], p[5], p[3], p[1])
}

// living reports whether a version is not destroyed, nor on its way there.
func living(v *kmspb.CryptoKeyVersion) bool {
	switch v.GetState() { //nolint:exhaustive // the others can't come back by themselves
	case kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED,
		kmspb.CryptoKeyVersion_PENDING_GENERATION, kmspb.CryptoKeyVersion_PENDING_IMPORT:
		return true
	}
	return false
}

// versions are those of a key that are not destroyed, nor on their way there.
func (b *Backend) versions(ctx context.Context, id signers.KeyID) ([]*kmspb.CryptoKeyVersion, error) {
	all, err := b.every(ctx, id)
	return slices.DeleteFunc(all, func(v *kmspb.CryptoKeyVersion) bool { return !living(v) }), err
}

// every is all versions of a key, the oldest first; of an adopted one, its own.
// Only FULL has the attestation.
func (b *Backend) every(ctx context.Context, id signers.KeyID) (all []*kmspb.CryptoKeyVersion, err error) {
	key, number := adopted(id)
	pages := b.kms.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: b.name(key), View: kmspb.CryptoKeyVersion_FULL})
	for {
		v, err := pages.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return all, nil
		case err != nil:
			return nil, meaning(err)
		}
		if number == "" || strings.HasSuffix(v.GetName(), "/"+number) {
			all = append(all, v)
		}
	}
}

// generated waits until a version is.
func (b *Backend) generated(ctx context.Context, id signers.KeyID, v *kmspb.CryptoKeyVersion) (*kmspb.CryptoKeyVersion, error) {
	for pause := 20 * time.Millisecond; v.GetState() == kmspb.CryptoKeyVersion_PENDING_GENERATION; pause = min(2*pause, time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("it is still being generated: %w", ctx.Err())
		}
		var err error
		if v, err = b.find(ctx, id); err != nil {
			return nil, err
		}
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
		err = errors.Join(err, b.destroy(ctx, id, v))
	}
	if err != nil {
		return fmt.Errorf("gcpkms: destroy %q: %w", id, err)
	}
	return nil
}

func (b *Backend) destroy(ctx context.Context, id signers.KeyID, v *kmspb.CryptoKeyVersion) error {
	v, err := b.generated(ctx, id, v) // or it could not be destroyed
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
		if k.GetLabels()[label] != string(id) || id.Check() != nil {
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
