// Package awskms keeps keys in AWS KMS. A key is known by its alias, which is
// made last: a key without one is never used, and its tag says whose it was to
// be. Deletion takes days; what is scheduled for it can't sign from then on.
//
// Credentials come from the SDK's default chain (web identity, instance role),
// never from a configuration of ours.
package awskms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
	"github.com/signetd/signet/signers/handles"
)

// tagID is the tag that says which key of ours a KMS key is, or was to be: its
// alias without "alias/", since others in the account may have our ids.
const tagID = "signet:id"

// A Config says where keys are. A zero field has its default.
type Config struct {
	Region        string        // required
	AliasPrefix   string        // after "alias/"; "signet/"
	Endpoint      string        // another than the region's: a VPC endpoint's URL, or a fake on loopback
	AllowEndpoint bool          // Endpoint may be off loopback
	DeleteAfter   int           // days, 7 to 30, between Destroy and the end; 30
	Settle        time.Duration // for how long what was made may not be found; 30 s
	Timeout       time.Duration // of a request whose caller has set no deadline; 10 s
	Now           func() time.Time
	Log           *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.AliasPrefix, c.DeleteAfter = cmp.Or(c.AliasPrefix, "signet/"), cmp.Or(c.DeleteAfter, 30)
	c.Settle, c.Timeout = cmp.Or(c.Settle, 30*time.Second), cmp.Or(c.Timeout, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Region == "" || c.Now == nil:
		return c, errors.New("awskms: Config.Region and Now are required")
	case c.DeleteAfter < 7 || c.DeleteAfter > 30:
		return c, fmt.Errorf("awskms: %d days until deletion: not 7 to 30", c.DeleteAfter)
	case c.Endpoint != "":
		return c, c.checkEndpoint()
	}
	return c, nil
}

// checkEndpoint wants TLS and a flag for what is not on this machine.
func (c Config) checkEndpoint() error {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("awskms: endpoint %q is no URL\nhint: such as https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com", c.Endpoint)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch loopback := err == nil && ip.IsLoopback(); {
	case loopback:
		return nil
	case u.Scheme != "https":
		return fmt.Errorf("awskms: endpoint %q is off this machine and has no TLS\nhint: write https://", c.Endpoint)
	case !c.AllowEndpoint:
		return fmt.Errorf("awskms: endpoint %q is not on loopback\nhint: whoever answers there sees what is signed and with which credentials; allow_endpoint: true accepts that", c.Endpoint)
	}
	return nil
}

// A Backend is the keys of one account and region under one prefix. It
// implements signers.Backend, Lister, Surveyor and Metered.
type Backend struct {
	cfg    Config
	kms    *kms.Client
	http   *http.Transport
	making sync.Mutex // one creation or destruction at a time

	given handles.Book
	meter cost.Meter

	ctx      context.Context // ended by stop: of what goes on after a call
	stop     context.CancelFunc
	sweeping sync.WaitGroup
}

// connections is how many requests may be under way at a time without opening
// a new connection for each.
const connections = 256

// silence is after how long a request that has no answer is made again on
// another connection: one that leads nowhere would cost the whole deadline.
const silence = 3 * time.Second

// Open finds credentials and asks for one page of aliases, so that what is
// missing shows at start.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	client := awshttp.NewBuildableClient()
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(cfg.Region), config.WithRetryer(retryer), config.WithHTTPClient(client))
	if err != nil {
		return nil, fmt.Errorf("awskms: %w: %w", signers.ErrUnavailable, err)
	}
	if with, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		client = with // with the certificates of AWS_CA_BUNDLE
	}
	b := &Backend{cfg: cfg, http: client.GetTransport()} // a copy, which can be closed
	b.http.MaxIdleConns, b.http.MaxIdleConnsPerHost, b.http.ResponseHeaderTimeout = connections, connections, silence
	loaded.HTTPClient = &http.Client{
		Transport: atOnce{b.http}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	var elsewhere string // an endpoint that the environment names
	b.kms = kms.NewFromConfig(loaded, func(o *kms.Options) {
		elsewhere = aws.ToString(o.BaseEndpoint)
		o.BaseEndpoint = nil
		o.APIOptions = append(o.APIOptions, b.metered)
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	if err := b.reach(ctx, elsewhere); err != nil {
		b.stop()
		b.http.CloseIdleConnections()
		return nil, err
	}
	return b, nil
}

// reach asks for something. An endpoint that only the environment or a profile
// of the SDK names is refused: the configuration says where requests go.
func (b *Backend) reach(ctx context.Context, elsewhere string) error {
	if elsewhere != "" && elsewhere != b.cfg.Endpoint {
		return fmt.Errorf("awskms: AWS_ENDPOINT_URL, or endpoint_url of a profile, names %q\nhint: unset it; endpoint, with allow_endpoint, in the configuration names another endpoint, and nothing else does", elsewhere)
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	if _, err := b.kms.ListAliases(ctx, &kms.ListAliasesInput{Limit: aws.Int32(1)}); err != nil {
		return fmt.Errorf("awskms: region %s: %w", b.cfg.Region, meaning(err))
	}
	return nil
}

// retryer is the SDK's adaptive one, which also slows us down when the service
// throttles us. An answer that was cut off is asked for again, as one that was
// lost is.
func retryer() aws.Retryer {
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 6, 2*time.Second
			o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				var cut *smithy.DeserializationError
				return aws.BoolTernary(errors.As(err, &cut))
			}))
		})
	})
}

// within gives a request the deadline of those that have none.
func (b *Backend) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return deadline(ctx, b.cfg.Timeout)
}

// atLeisure is within for what may have to wait until the service has settled.
func (b *Backend) atLeisure(ctx context.Context) (context.Context, context.CancelFunc) {
	return deadline(ctx, 2*b.cfg.Settle+b.cfg.Timeout)
}

func deadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

func (b *Backend) alias(id signers.KeyID) *string {
	return aws.String("alias/" + b.cfg.AliasPrefix + string(id))
}

func (b *Backend) tag(id signers.KeyID) *string { return aws.String(b.cfg.AliasPrefix + string(id)) }

// Open finds a key by its alias.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	s, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	key, err := b.open(ctx, id, alg, s)
	if err != nil {
		return nil, fmt.Errorf("awskms: open %q: %w", id, err)
	}
	return key, nil
}

func (b *Backend) open(ctx context.Context, id signers.KeyID, alg signers.Algorithm, s spec) (*Key, error) {
	found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: b.alias(id)})
	if err != nil {
		return nil, meaning(err)
	}
	attested, err := admit(found.KeyMetadata, s)
	if err != nil {
		return nil, err
	}
	return b.handle(ctx, id, alg, s, aws.ToString(found.KeyMetadata.Arn), attested)
}

// begin checks a call's arguments and translates the algorithm.
func (b *Backend) begin(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (spec, error) {
	if err := errors.Join(ctx.Err(), id.Check(), b.alive()); err != nil {
		return spec{}, err
	}
	return specOf(alg)
}

// alive is ErrClosed after Close.
func (b *Backend) alive() error {
	if err := b.given.Open(); err != nil {
		return fmt.Errorf("awskms: %w", err)
	}
	return nil
}

// List lists the keys that have an alias of ours.
func (b *Backend) List(ctx context.Context) (ids []signers.KeyID, err error) {
	if err := errors.Join(ctx.Err(), b.alive()); err != nil {
		return nil, err
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	pages := kms.NewListAliasesPaginator(b.kms, &kms.ListAliasesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("awskms: list: %w", meaning(err))
		}
		for _, a := range page.Aliases {
			name, ok := strings.CutPrefix(aws.ToString(a.AliasName), "alias/"+b.cfg.AliasPrefix)
			if id := signers.KeyID(name); ok && id.Check() == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Close ends after the signatures under way.
func (b *Backend) Close() error {
	b.given.Close()
	b.stop()
	b.sweeping.Wait()
	b.http.CloseIdleConnections()
	return nil
}
