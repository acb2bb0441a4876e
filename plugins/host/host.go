// Package host is the daemon's end of the connection to an issuer process: it
// starts the process with nothing it was not given, holds it to its word, ends
// it at the first fault and starts it again.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/plugins/wire"
)

// The errors that callers branch on. A grant that the format cannot carry is
// plugins.ErrRefused.
var (
	// ErrDown says that there is no issuer process at present: it ended, or
	// was ended, and the next one is not ready yet. Trying again is safe.
	ErrDown = errors.New("the issuer process is down")

	// ErrChecksum says that the binary is not the one that was pinned.
	ErrChecksum = errors.New("the binary is not the pinned one")
)

// A Spec says what to run and how much of it to bear.
type Spec struct {
	Name   string // for logs and errors
	Format string // what Describe must say; Name if empty; AnyFormat for a suite

	// Self is the daemon's own binary: /proc/self/exe, opened at start. Run
	// with LaunchArgs it calls sandbox.Exec. It is also what a stock issuer
	// runs, when Path is empty. The host keeps its own copy of the descriptor.
	Self       *os.File
	LaunchArgs []string // "signet", "launch", "--" if empty

	// Handshake is what the two ends tell each other to be sure of themselves;
	// an issuer's, if empty. Environment names variables of the daemon's own
	// that the process gets, beside go-plugin's: none, for an issuer.
	Handshake   Handshake
	Environment []string

	Path   string   // absolute path of an issuer that is not in Self
	SHA256 string   // what Digest returns for Path and Runtime; required with Path
	Args   []string // after the program's name

	// Runtime is what an interpreter at Path reads: files and directories, by
	// absolute path. Nobody but root or this user may write there.
	Runtime []string

	// PlainGRPC leaves out the TLS of go-plugin, whose P-521 certificates other
	// languages' gRPC may refuse. The socket's directory is private all the
	// same, and who listens is checked.
	PlainGRPC bool

	// Confine is what the kernel keeps the process to. The host adds the
	// socket's directory and Runtime.
	Confine sandbox.Confinement

	// Launcher starts a process whose Confine has a uid of its own; nil if none does.
	Launcher *sandbox.Remote

	// Children is where the host keeps the process among others, while it runs; may be nil.
	Children *sandbox.Children

	Deadline     time.Duration // for one Prepare, a restart included; default 1 s
	StartTimeout time.Duration // from start to Describe; default 10 s
	MaxAnswer    int           // one draft, in bytes; default and most wire.MaxDraft
	Restart      Restart

	inspects bool // it reads back, and is never asked to draft: LaunchInspector

	TempDir string           // where sockets go, in a directory for each process; default os.TempDir
	Now     func() time.Time // required
	Rand    io.Reader        // for jitter; default crypto/rand
	Log     *slog.Logger     // required
}

// AnyFormat is the Format of a process that may make any: for a suite, which
// has no keys.
const AnyFormat = "*"

// A Handshake is go-plugin's, which keeps a person from starting the process by
// hand and wondering. It is no secret.
type Handshake struct {
	Version    uint
	Key, Value string
}

// Restart says how often an issuer that ends is started again. A zero field
// has its default.
type Restart struct {
	Min, Max time.Duration // the pause before the next start, doubled each time: 100 ms to 10 s
	Crashes  int           // more than this many within Window: it stays down; 5
	Window   time.Duration // 1 min
}

// check fills in the defaults and refuses what cannot be run.
func (s Spec) check() (Spec, error) {
	if s.Name == "" || s.Now == nil || s.Log == nil {
		return s, errors.New("host: Name, Now and Log are required")
	}
	if s.Self == nil {
		return s, fmt.Errorf("host: issuer %q: Self is required: the daemon's own binary starts every issuer", s.Name)
	}
	if s.Path == "" && s.SHA256 != "" {
		return s, fmt.Errorf("host: issuer %q: sha256 without a path\nhint: name the file that it belongs to", s.Name)
	}
	if s.Path != "" && !filepath.IsAbs(s.Path) {
		return s, fmt.Errorf("host: issuer %q: path %q is not absolute\nhint: write the whole path, from /", s.Name, s.Path)
	}
	if s.Path != "" && s.SHA256 == "" {
		return s, fmt.Errorf("host: issuer %q: sha256 is required\nhint: sha256sum %s", s.Name, s.Path)
	}
	if err := s.Confine.Check(sandbox.Probe()); err != nil {
		return s, fmt.Errorf("host: issuer %q: %w", s.Name, err)
	}
	if s.Confine.UID != 0 && s.Launcher == nil {
		return s, fmt.Errorf("host: issuer %q: a uid of its own needs a launcher", s.Name)
	}
	s = s.withDefaults()
	if len(s.TempDir) > MaxTempDir {
		return s, fmt.Errorf("host: issuer %q: %q is too long for a unix socket in it, the limit is %d bytes\nhint: choose a shorter directory (runtime_dir)", s.Name, s.TempDir, MaxTempDir)
	}
	return s, nil
}

// MaxTempDir is the longest Spec.TempDir, in bytes: it leaves room for go-plugin's names within the 107 bytes of a unix
// socket's address.
const MaxTempDir = 107 - len("/plugin-dir1234567890/plugin1234567890")

func (s Spec) withDefaults() Spec {
	if s.Format == "" {
		s.Format = s.Name
	}
	if s.Handshake == (Handshake{}) {
		s.Handshake = Handshake{wire.Version, wire.CookieKey, wire.CookieValue}
	}
	if len(s.LaunchArgs) == 0 {
		s.LaunchArgs = []string{"signet", "launch", "--"}
	}
	if s.TempDir == "" {
		s.TempDir = os.TempDir()
	}
	if s.MaxAnswer <= 0 || s.MaxAnswer > wire.MaxDraft {
		s.MaxAnswer = wire.MaxDraft
	}
	orDuration(&s.Deadline, time.Second)
	orDuration(&s.StartTimeout, 10*time.Second)
	s.Restart = s.Restart.withDefaults()
	return s
}

func (r Restart) withDefaults() Restart {
	orDuration(&r.Min, 100*time.Millisecond)
	orDuration(&r.Max, 10*time.Second)
	orDuration(&r.Window, time.Minute)
	if r.Crashes <= 0 {
		r.Crashes = 5
	}
	return r
}

func orDuration(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

// argv is what the issuer sees as its arguments.
func (s Spec) argv() []string {
	name := s.LaunchArgs[0]
	if s.Path != "" {
		name = s.Path
	}
	return append([]string{name}, s.Args...)
}

// Launch starts an issuer and returns once it has described itself. It does
// not try twice: at start-up a person is watching. From then on the Process
// keeps it running.
func Launch(ctx context.Context, spec Spec) (_ *Process, err error) {
	p, err := newProcess(spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	first, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	p.described = first.described
	p.publish(first)
	p.running.Go(func() { p.keepRunning(first) })
	return p, nil
}
