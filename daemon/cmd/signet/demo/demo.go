// Package demo walks through the whole job in a throw-away directory: the real
// daemon over real sockets, real issuer processes, real keys. Each step says
// what it does, does it, and holds the result against what was promised.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

// Options say how to run the demo. The zero Options are not enough: Program,
// Out and Now are required.
type Options struct {
	Program string           // the signet binary to run as the daemon
	Signer  string           // "softkey" or "pkcs11" (on SoftHSM)
	JSON    bool             // print one object at the end, and nothing before
	Out     io.Writer        // where the walk is printed
	Now     func() time.Time // the clock
	Paint   func(string) string
	Keep    bool // leave the directory behind, to look at
}

// A Step is one part of the walk, as --json prints it.
type Step struct {
	Name    string         `json:"name"`
	Says    string         `json:"says"`
	Held    bool           `json:"held"`
	Error   string         `json:"error,omitempty"`
	Millis  int64          `json:"milliseconds"`
	Figures map[string]any `json:"figures,omitempty"`
}

// figures are what a step measured or made.
type figures = map[string]any

// ErrBroken says that a step did not hold.
var ErrBroken = errors.New("the demo did not hold")

// A walk is one run of the demo.
type walk struct {
	Options
	dir    string
	begun  time.Time
	steps  []Step
	daemon *process
	issuer *client.Client
	admin  signetv1.AdminClient
	conn   *grpc.ClientConn
	first  client.Token
}

// Run walks through the demo and returns ErrBroken unless every step held.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "signet-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	w := &walk{Options: o, dir: dir, begun: o.Now()}
	err = w.all(ctx)
	if stopErr := w.close(); err == nil {
		err = stopErr
	}
	if o.JSON {
		return errors.Join(err, w.report(err == nil))
	}
	if err == nil {
		w.farewell()
	}
	return err
}

// all takes every step in order and stops at the first that does not hold.
func (w *walk) all(ctx context.Context) error {
	for _, s := range []struct {
		name, says string
		do         func(context.Context) (figures, error)
	}{
		{"start", "start a daemon with a throw-away " + w.Signer + " key store, sockets and an issuer process of its own", w.start},
		{"key", "make a signing key inside the back-end; only its public half ever comes out", w.makeKey},
		{"issue", "ask for a token as the user who runs this demo; the daemon knows the caller from the kernel", w.issue},
		{"verify", "verify it from the published JWKS, with a library that did not make it", w.verify},
		{"refuse audience", "ask for an audience that the profile does not allow: refused", w.refuseAudience},
		{"refuse lifetime", "ask for a longer life than the profile's ceiling: refused", w.refuseLifetime},
		{"refuse caller", "ask for a profile that lists another user as its caller: refused", w.refuseCaller},
		{"rotate", "rotate the key while tokens are issued all the time; old tokens stay good", w.rotate},
		{"ledger", "check the ledger: every token and every refusal is in it, hash-chained", w.ledger},
		{"tamper", "flip one bit in a copy of the ledger; the check finds the place", w.tamper},
		{"stop", "stop the daemon; it ends its ledger cleanly", w.stop},
	} {
		if err := w.step(ctx, s.name, s.says, s.do); err != nil {
			return err
		}
	}
	return nil
}

// step takes one step and notes how it went.
func (w *walk) step(ctx context.Context, name, says string, do func(context.Context) (figures, error)) error {
	w.printf("%2d. %s\n", len(w.steps)+1, says)
	begun := w.Now()
	got, err := do(ctx)
	s := Step{Name: name, Says: says, Held: err == nil, Millis: w.Now().Sub(begun).Milliseconds(), Figures: got}
	if err != nil {
		s.Error = words(err)
	}
	w.steps = append(w.steps, s)
	if err != nil {
		w.printf("    did not hold: %s\n", s.Error)
		return fmt.Errorf("%w: step %q: %s%s", ErrBroken, name, s.Error, w.daemon.tail())
	}
	return nil
}

// show prints one line of a step's result.
func (w *walk) show(format string, args ...any) {
	w.printf("    "+format+"\n", args...)
}

func (w *walk) printf(format string, args ...any) {
	if !w.JSON {
		fmt.Fprintf(w.Out, format, args...)
	}
}

// report prints the walk as one JSON object.
func (w *walk) report(held bool) error {
	enc := json.NewEncoder(w.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{
		"held": held, "signer": w.Signer, "milliseconds": w.Now().Sub(w.begun).Milliseconds(), "steps": w.steps,
	})
}

func (w *walk) farewell() {
	w.printf("\n%s in %.1f s.\n\nNext, with a daemon of your own:\n", w.Paint("every step held"), w.Now().Sub(w.begun).Seconds())
	w.printf("  signet init ./ring                          # a commented configuration\n")
	w.printf("  export SIGNET_CONFIG=$PWD/ring/signet.yaml\n")
	w.printf("  signet serve &\n")
	w.printf("  signet key create demo --reason \"first key\"\n")
	w.printf("  signet issue demo --subject demo/me --audience https://api.example --ttl 5m\n")
}

// close ends whatever still runs and removes the directory.
func (w *walk) close() error {
	if w.issuer != nil {
		_ = w.issuer.Close()
	}
	if w.conn != nil {
		_ = w.conn.Close()
	}
	w.daemon.kill()
	if w.Keep {
		w.printf("\nleft behind: %s\n", w.dir)
		return nil
	}
	return os.RemoveAll(w.dir)
}

// words is an error as a person reads it, on one line.
func words(err error) string {
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Code().String() + ": " + st.Message()
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
