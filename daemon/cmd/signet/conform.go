package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/faultwire"
	"github.com/signetd/signet/conformance/report"
	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/daemon"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
)

// conformOptions are the flags of `signet conform signer`.
type conformOptions struct {
	config     *string
	backend    string
	level      int
	algorithms []string
	slow, json bool
	yes        bool
	faultsAt   string
	junit      string
}

func newConform() *cobra.Command {
	c := &cobra.Command{Use: "conform", Short: "Hold a back-end or a plug-in against what every one promises"}
	c.AddCommand(newConformSigner(), newConformIssuer())
	return c
}

func newConformSigner() *cobra.Command {
	var o conformOptions
	c := &cobra.Command{
		Use:   "signer --backend NAME",
		Short: "Run the signer suite against a back-end of the configuration: a real HSM, too",
		Long: `Opens one back-end of the configuration, as the daemon does, and runs the suite
that every back-end passes. The daemon need not run. Keys are made under ids that
begin with check- and destroyed again; one that stays is named, and the exit
status is 1. The levels, each with those below it:

  0  open          it is there; nothing is made
  1  vectors       every algorithm, every length
  2  life          keys come and go, and are there after a restart
  3  faults        what goes wrong is over soon: a PKCS#11 module is run through
                   a shim that fails, hangs and lies; needs a C compiler (cc).
                   A fake of a cloud's KMS (conformance/cmd/fakekms) is told to
  4  misuse        what must be refused is
  5  concurrency   many at once

Against a cloud's KMS it first prints what the run costs at most, and goes on
with --yes alone. Keys there are scheduled for deletion, and gone when the
service's time is over.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	o.config = configFlag(c)
	f.StringVar(&o.backend, "backend", "", "the back-end's name; may be left out if there is one")
	f.IntVar(&o.level, "level", signertest.LevelConcurrency, "the highest level to run")
	f.StringSliceVar(&o.algorithms, "algorithm", nil, "an algorithm to check in depth; those of the configuration's keys if absent")
	f.BoolVar(&o.slow, "slow", false, "make RSA keys of 3072 and 4096 bits as well")
	f.BoolVar(&o.yes, "yes", false, "accept what a run against a cloud's KMS costs")
	f.StringVar(&o.faultsAt, "faults", "", "URL at which a fake of a cloud's KMS is told what goes wrong, for level 3")
	f.StringVar(&o.junit, "junit", "", "write JUnit XML to this file")
	f.BoolVar(&o.json, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error { return conformSigner(c, o) }
	return c
}

// conformSigner runs the suite and says what came of it.
func conformSigner(c *cobra.Command, o conformOptions) error {
	cfg, err := config.Load(*o.config)
	if err != nil {
		return err
	}
	run, err := newConformRun(cfg, o)
	if err != nil {
		return err
	}
	defer run.close()
	if err := o.agree(c.ErrOrStderr(), run); err != nil {
		return err
	}
	// An interrupt ends the suite after the check under way, which tidies up.
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.faultsAt != "" {
		if run.fake, err = faultwire.Dial(ctx, o.faultsAt); err != nil {
			return err
		}
	}
	before, err := run.list(ctx)
	if err != nil {
		return err
	}
	r := run.suite(ctx, c.ErrOrStderr())
	if err := run.leftBehind(context.WithoutCancel(ctx), before, &r); err != nil {
		return err
	}
	return o.write(c.OutOrStdout(), r)
}

// write writes the report where it is wanted, and is an error if a check failed.
func (o conformOptions) write(w io.Writer, r report.Report) error {
	if o.junit != "" {
		f, err := os.Create(o.junit)
		if err != nil {
			return err
		}
		if err := errors.Join(r.JUnit(f), f.Close()); err != nil {
			return err
		}
	}
	var err error
	if o.json {
		err = emit(w, r)
	} else {
		err = r.Table(w)
	}
	if n := r.Count(report.Failed); err == nil && n > 0 {
		err = exitCode{fmt.Errorf("%d checks failed", n), 1}
	}
	return err
}

// A conformRun is one run of the suite.
type conformRun struct {
	conformOptions
	backendConfig config.Backend
	algs          []signers.Algorithm
	dir           string // of the shim
	shim          *shim.Shim
	fake          *faultwire.Client
	current       signers.Backend
	log           *slog.Logger
}

func newConformRun(cfg *config.Config, o conformOptions) (*conformRun, error) {
	r := &conformRun{conformOptions: o, log: slog.New(slog.DiscardHandler)}
	var names []string
	for _, b := range cfg.Backends {
		names = append(names, b.Name)
		if b.Name == o.backend || o.backend == "" && len(cfg.Backends) == 1 {
			r.backendConfig = b
		}
	}
	if r.backendConfig.Name == "" {
		return nil, fmt.Errorf("back-end %q is not in the configuration\nhint: --backend is one of %s", o.backend, strings.Join(names, ", "))
	}
	for _, a := range o.algorithms {
		r.algs = append(r.algs, signers.Algorithm(a))
	}
	for _, k := range cfg.Keys {
		if k.Backend == r.backendConfig.Name && len(o.algorithms) == 0 {
			r.algs = append(r.algs, signers.Algorithm(k.Algorithm))
		}
	}
	slices.Sort(r.algs)
	r.algs = slices.Compact(r.algs)
	if len(r.algs) == 0 {
		return nil, fmt.Errorf("no key of the configuration is in back-end %q\nhint: name an algorithm: --algorithm ecdsa-p256-sha256", r.backendConfig.Name)
	}
	for _, a := range r.algs {
		if _, err := a.Params(); err != nil {
			return nil, fmt.Errorf("--algorithm: %w\nhint: such as ecdsa-p256-sha256, ed25519, rsa3072-pss-sha256", err)
		}
	}
	return r, r.interpose()
}

// interpose puts a shim in front of a PKCS #11 module, for the checks that have
// it misbehave. Without a compiler they are left out, and the report says so.
func (r *conformRun) interpose() error {
	if r.backendConfig.PKCS11 == nil || r.level < signertest.LevelFaults {
		return nil
	}
	token, err := r.backendConfig.PKCS11.Token()
	if err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "signet-conform-"); err != nil {
		return err
	}
	made, err := shim.Make(r.dir, token.Module)
	if errors.Is(err, shim.ErrCompiler) {
		return nil // the report says that the level was left out
	}
	if err != nil {
		return err
	}
	r.shim = made
	p := *r.backendConfig.PKCS11
	p.URI, p.Module, p.TokenLabel, p.TokenSerial = "", r.shim.Module, token.Label, token.Serial
	r.backendConfig.PKCS11 = &p
	return nil
}

func (r *conformRun) close() {
	if r.shim != nil {
		r.shim.Clear()
	}
	if r.current != nil {
		_ = r.current.Close() // the suite has its verdict
	}
	_ = os.RemoveAll(r.dir)
}

func (r *conformRun) open(ctx context.Context) (signers.Backend, error) {
	return daemon.OpenBackend(ctx, r.backendConfig, r.log)
}

// list describes the keys that are there, the half-made too.
func (r *conformRun) list(ctx context.Context) (all []string, err error) {
	b, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	defer b.Close() //nolint:errcheck // it has done what it was for
	surveyor, ok := b.(signers.Surveyor)
	if !ok {
		return nil, nil
	}
	held, err := surveyor.Survey(ctx)
	if errors.Is(err, signers.ErrUnsupported) {
		return nil, nil // it can't say, and nor can we
	}
	for _, h := range held {
		if h.Stray {
			all = append(all, fmt.Sprintf("%q, %s, which was cut off before it was named,", h.ID, h.Ref))
		} else {
			all = append(all, fmt.Sprintf("%q", h.ID))
		}
	}
	return all, err
}

// suite runs the checks up to the level, and shows how far it is.
func (r *conformRun) suite(ctx context.Context, progress io.Writer) report.Report {
	all := signertest.Checks(r.algs...) //nolint:contextcheck // a check tidies up after its context has ended
	checks := slices.DeleteFunc(all, func(c conformance.Check[signertest.Subject]) bool {
		return c.Level > r.level
	})
	return report.Run(ctx, report.Options{
		Suite: "signer", Subject: r.backendConfig.Name + " (" + r.backendConfig.Type + ")", Timeout: 10 * time.Minute, Now: daemon.Now,
		Began: func(name string, at, of int) { began(progress, name, at, of) },
		Ended: func(c report.Result) { ended(progress, c) },
	}, checks, r.subject)
}

// began and ended show how far a suite is.
func began(w io.Writer, name string, at, of int) {
	fmt.Fprintf(w, "%*d/%d %-30s ", len(fmt.Sprint(of)), at, of, name)
}

func ended(w io.Writer, c report.Result) {
	fmt.Fprintf(w, "%s %6.2f s\n", paint(w, outcomeColour(c.Outcome), fmt.Sprintf("%-7s", c.Outcome)), c.Seconds)
}

func outcomeColour(outcome string) string {
	switch outcome {
	case report.Passed:
		return "32" // green
	case report.Failed:
		return "31" // red
	}
	return "33" // yellow
}

// subject is a back-end for one check.
func (r *conformRun) subject(t conformance.T) signertest.Subject {
	if r.current != nil {
		_ = r.current.Close() // of the check before: a store of files has one owner
	}
	b, err := r.open(t.Context())
	if err != nil {
		t.Fatalf("the back-end can't be opened: %v", err)
	}
	r.current = b
	return signertest.Subject{
		Backend: b, Faults: r.faults(t), Slow: r.slow, RawMost: rawMost[r.backendConfig.Type],
		Reopen: func() (signers.Backend, error) { return r.open(context.WithoutCancel(t.Context())) },
	}
}

// rawMost is how long a message may be that a type of back-end hashes itself.
var rawMost = map[string]int{"awskms": 4096, "gcpkms": 64 << 10}

// faultsOfFake are what a fake of a cloud's KMS can do.
func (r *conformRun) faultsOfFake(t conformance.T) (all []signertest.Fault) {
	ctx := context.WithoutCancel(t.Context()) // what was begun is ended
	for _, name := range r.fake.Names {
		all = append(all, signertest.Fault{Name: name, Begin: func() func() {
			if err := r.fake.Begin(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return func() {
				if err := r.fake.End(ctx); err != nil {
					t.Errorf("end of %s: %v", name, err)
				}
			}
		}})
	}
	return all
}

// faults are what the shim, or the fake, can do.
func (r *conformRun) faults(t conformance.T) []signertest.Fault {
	if r.fake != nil {
		return r.faultsOfFake(t)
	}
	if r.shim == nil {
		return nil
	}
	var all []signertest.Fault
	for _, d := range shim.Drills() {
		all = append(all, signertest.Fault{Name: d.Name, Begin: func() func() { return r.shim.Begin(d) }})
	}
	return all
}

// leftBehind compares the keys that are there with those that were.
func (r *conformRun) leftBehind(ctx context.Context, before []string, to *report.Report) error {
	if r.current != nil {
		_ = r.current.Close() // a store of files has one owner
	}
	after, err := r.list(ctx)
	if err != nil {
		return fmt.Errorf("list what is left behind: %w", err)
	}
	result := report.Result{
		Name: "nothing-left-behind", Level: signertest.LevelOpen, Why: "a suite that is run on a real HSM must leave it as it was", Outcome: report.Passed,
	}
	for _, key := range after {
		if !slices.Contains(before, key) {
			result.Outcome = report.Failed
			result.Said = append(result.Said, fmt.Sprintf("key %s is there now and was not before\nhint: destroy it, by this name, with the vendor's tool, or see `signet key orphans`", key))
		}
	}
	to.Results = append(to.Results, result)
	return nil
}
