package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/conformance/report"
	"github.com/signetd/signet/daemon"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
)

// issuerOptions are the flags of `signet conform issuer`.
type issuerOptions struct {
	conformOptions
	plugin, inspector config.Program
	stock             string
	grant             string
	vectors           []string
	deadline          time.Duration
	accept            []string
	verbose           bool
}

func newConformIssuer() *cobra.Command {
	var o issuerOptions
	c := &cobra.Command{
		Use:   "issuer --plugin PATH",
		Short: "Run the issuer suite against a plug-in, over the wire, as the daemon would",
		Long: `Starts a plug-in as the daemon does, contained and pinned, and holds it against
what every issuer promises. Neither a daemon nor a configuration is needed, and no
key is used but those that the suite makes for itself. The levels, each with those
below it:

  0  handshake     it starts, and says what it is
  1  pure          the same in, the same out, in two processes; golden vectors
  2  refuses       what it can't carry, it refuses
  3  inspectable   what it drafts reads back as the grant, and nothing else does
  4  inputs        huge, deep and broken grants and drafts harm nobody
  5  signatures    every algorithm's signature fits; a wrong one is seen
  6  concurrency   many at once
  7  deadlines     answers in time, and callers that leave

The plug-in reads back itself (Inspect), in a second process, or --inspector names
another program that does. plugins/README.md teaches how to write either.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.plugin.Path, "plugin", "", "the program, or the interpreter")
	f.StringVar(&o.plugin.SHA256, "sha256", "", "its pin; as `signet plugin digest` prints it now, if absent")
	f.StringSliceVar(&o.plugin.Args, "arg", nil, "an argument of the program; may be repeated")
	f.StringSliceVar(&o.plugin.Runtime, "runtime", nil, "a path that an interpreter reads; may be repeated")
	f.BoolVar(&o.plugin.PlainGRPC, "plain-grpc", false, "speak gRPC without TLS")
	f.StringVar(&o.inspector.Path, "inspector", "", "another program that reads back")
	f.StringVar(&o.inspector.SHA256, "inspector-sha256", "", "its pin")
	f.StringVar(&o.stock, "stock", "", "instead of a plug-in, the issuer of a format that is compiled in")
	f.StringVar(&o.grant, "grant", "", "a JSON file with a grant that the format carries; an example if absent")
	f.StringSliceVar(&o.vectors, "vectors", nil, "a JSON file with golden vectors; may be repeated")
	f.DurationVar(&o.deadline, "deadline", time.Second, "how long a draft may take")
	f.IntVar(&o.level, "level", issuertest.LevelDeadlines, "the highest level to run")
	f.StringSliceVar(&o.accept, "accept-missing", nil, "a containment that this machine may lack, as in the configuration; may be repeated")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show what the plug-in writes")
	f.StringVar(&o.junit, "junit", "", "write JUnit XML to this file")
	f.BoolVar(&o.json, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error { return conformIssuer(c, o) }
	return c
}

func conformIssuer(c *cobra.Command, o issuerOptions) error {
	r, err := newIssuerRun(o, c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer r.close()
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return o.write(c.OutOrStdout(), r.suite(ctx, c.ErrOrStderr()))
}

// An issuerRun is one run of the suite.
type issuerRun struct {
	issuerOptions
	open    *daemon.Plugin
	grant   *plugins.Grant // nil: an example
	vectors []issuertest.Vector
	undo    []func() error // of the check before
}

func newIssuerRun(o issuerOptions, log io.Writer) (_ *issuerRun, err error) {
	r := &issuerRun{issuerOptions: o}
	if (o.plugin.Path == "") == (o.stock == "") {
		return nil, errors.New("nothing to check, or two things\nhint: --plugin PATH, or --stock jwt")
	}
	if err := r.readFiles(); err != nil {
		return nil, err
	}
	to := slog.New(slog.DiscardHandler)
	if o.verbose {
		to = slog.New(slog.NewTextHandler(log, nil))
	}
	limits := config.Issuers{Deadline: config.Duration(o.deadline.String()), AcceptMissing: o.accept}
	if o.stock != "" {
		if _, ok := daemon.StockInspector(o.stock); !ok {
			return nil, fmt.Errorf("the format %q is not compiled in\nhint: --plugin PATH for anyone else's", o.stock)
		}
		r.open, err = daemon.OpenStock(limits, to)
		return r, err
	}
	if err := r.pin(&r.plugin); err != nil {
		return nil, err
	}
	p := config.Plugin{
		Name: "plugin", Path: r.plugin.Path, SHA256: r.plugin.SHA256, Args: r.plugin.Args, Runtime: r.plugin.Runtime, PlainGRPC: r.plugin.PlainGRPC,
	}
	if r.inspector.Path != "" {
		if err := r.pin(&r.inspector); err != nil {
			return nil, err
		}
		p.Inspector = &r.inspector
	}
	r.open, err = daemon.OpenPlugin(p, limits, to)
	return r, err
}

// pin completes a program: a person at a terminal may leave out what the
// configuration must say.
func (r *issuerRun) pin(p *config.Program) (err error) {
	if p.Path, err = filepath.Abs(p.Path); err != nil {
		return err
	}
	for i := range p.Runtime {
		if p.Runtime[i], err = filepath.Abs(p.Runtime[i]); err != nil {
			return err
		}
	}
	if p.SHA256 == "" {
		p.SHA256, err = host.Digest(p.Path, p.Runtime)
	}
	return err
}

// readFiles reads the grant and the vectors.
func (r *issuerRun) readFiles() error {
	if r.issuerOptions.grant != "" {
		f, err := os.Open(r.issuerOptions.grant)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // opened for reading
		g, err := issuertest.ReadGrant(f)
		if err != nil {
			return fmt.Errorf("%s: %w\nhint: plugins/README.md has the form", f.Name(), err)
		}
		r.grant = &g
	}
	for _, name := range r.issuerOptions.vectors {
		f, err := os.Open(name) //nolint:gosec // the person names it
		if err != nil {
			return err
		}
		more, err := issuertest.ReadVectors(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w\nhint: plugins/README.md has the form", name, err)
		}
		r.vectors = append(r.vectors, more...)
	}
	return nil
}

func (r *issuerRun) close() {
	r.endProcesses()
	_ = r.open.Close()
}

// endProcesses ends those of the check before.
func (r *issuerRun) endProcesses() {
	for _, undo := range r.undo {
		_ = undo() // the suite has its verdict
	}
	r.undo = nil
}

func (r *issuerRun) suite(ctx context.Context, progress io.Writer) report.Report {
	checks := slices.DeleteFunc(issuertest.PluginChecks(), func(c conformance.Check[issuertest.Plugin]) bool { return c.Level > r.level })
	name := r.stock
	if name == "" {
		name = filepath.Base(r.plugin.Path)
	}
	return report.Run(ctx, report.Options{
		Suite: "issuer", Subject: name, Timeout: 2 * time.Minute, Now: daemon.Now,
		Began: func(name string, at, of int) { began(progress, name, at, of) },
		Ended: func(c report.Result) { ended(progress, c) },
	}, checks, r.subject)
}

// subject is a plug-in for one check: its own processes, so that a fault shows
// where it belongs.
func (r *issuerRun) subject(t conformance.T) issuertest.Plugin {
	r.endProcesses()
	s := issuertest.Plugin{
		Deadline: r.deadline, Vectors: r.vectors,
		Kid: r.kid(), Again: func(ctx context.Context) (issuertest.Running, error) { return r.launch(ctx) },
	}
	p, err := r.launch(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	r.undo = append(r.undo, p.Close)
	about, err := p.Describe(t.Context())
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	s.Issuer, s.Grant = p, issuertest.ExampleGrant(about.Format)
	if r.grant != nil {
		s.Grant = *r.grant
	}
	s.Inspector = r.reader(t, about)
	return s
}

func (r *issuerRun) launch(ctx context.Context) (*host.Process, error) {
	format := r.stock
	if format == "" {
		format = host.AnyFormat
	}
	return r.open.Launch(ctx, format)
}

// kid is how a stock format names keys. One that it has no name for it must
// refuse by itself.
func (r *issuerRun) kid() func(crypto.PublicKey) (string, error) {
	return func(pub crypto.PublicKey) (string, error) {
		kid, err := daemon.StockKid(r.stock, pub)
		if err != nil {
			kid = ""
		}
		return cmp.Or(kid, "a-key"), nil
	}
}

// reader is who reads back, nil if nobody does.
func (r *issuerRun) reader(t conformance.T, about plugins.Description) plugins.ForeignInspector {
	t.Helper()
	if in, ok := daemon.StockInspector(r.stock); ok {
		return in
	}
	if !about.Inspects && r.inspector.Path == "" {
		return nil
	}
	in, err := r.open.LaunchInspector(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	r.undo = append(r.undo, in.Close)
	return in
}
