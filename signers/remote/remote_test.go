package remote

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
	signersv1 "github.com/signetd/signet/signers/api/v1"
	"github.com/signetd/signet/signers/softkey"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fake is a process that is none: a server in this one, on a real socket.
type fake struct {
	server *grpc.Server
	holds  *server
	conn   *grpc.ClientConn
	over   chan struct{}
	once   sync.Once
	served sync.WaitGroup
}

func (f *fake) Conn() grpc.ClientConnInterface { return f.conn }
func (f *fake) PID() int                       { return 1 }
func (f *fake) Ended() <-chan struct{}         { return f.over }
func (f *fake) Kill() {
	f.once.Do(func() {
		f.server.Stop()
		if b := f.holds.backend.Load(); b != nil {
			_ = (*b).Close() // a process that ends lets go of its files
		}
		close(f.over)
	})
}

func (f *fake) Close() {
	<-f.over
	f.served.Wait()
	_ = f.conn.Close()
}

// A floor starts fakes; the keys in dir outlive them.
type floor struct {
	dir     string // of the keys
	secret  string // an identity: a passphrase takes seconds on purpose
	open    Opener
	starts  atomic.Int64
	present atomic.Pointer[fake]
}

func (w *floor) opener(ctx context.Context, kind string, settings []byte) (signers.Backend, error) {
	if w.open != nil {
		return w.open(ctx, kind, settings)
	}
	return softkey.Open(ctx, softkey.Options{Dir: w.dir, Secret: func(context.Context) ([]byte, error) {
		return []byte(w.secret), nil
	}})
}

func (w *floor) start(context.Context) (Link, error) {
	path := filepath.Join(filepath.Dir(w.dir), "s"+time.Now().Format("150405.000000000"))
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	f := &fake{
		server: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage)), holds: newServer(w.opener, time.Now), over: make(chan struct{}),
	}
	signersv1.RegisterBackendServer(f.server, f.holds)
	f.served.Go(func() { _ = f.server.Serve(l) })
	f.conn, err = grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	w.starts.Add(1)
	w.present.Store(f)
	return f, err
}

func (w *floor) options() Options {
	return Options{Name: "hsm", Type: "softkey", Start: w.start, Now: time.Now, Log: slog.New(slog.DiscardHandler), Poll: 20 * time.Millisecond}
}

func newFloor(t *testing.T) *floor {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &floor{dir: filepath.Join(t.TempDir(), "k"), secret: id.String()}
}

func start(t *testing.T, w *floor) *Backend {
	t.Helper()
	b, err := Open(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestThePromisesOfABackend(t *testing.T) {
	conformance.Run(t, signertest.Checks(signers.ECDSAP256, signers.Ed25519), func(t *testing.T) signertest.Subject {
		w := newFloor(t)
		return signertest.Subject{
			Backend: start(t, w),
			Reopen:  func() (signers.Backend, error) { return Open(context.Background(), w.options()) },
		}
	})
}

// TestAProcessThatEndsIsStartedAgain kills the process under load: callers see
// a delay and no error.
func TestAProcessThatEndsIsStartedAgain(t *testing.T) {
	w := newFloor(t)
	b := start(t, w)
	k, err := b.Create(t.Context(), "survivor", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 20 {
				if i == 7 && n%10 == 5 {
					w.present.Load().Kill()
				}
				sig, err := k.Sign(t.Context(), []byte("message"))
				if err != nil {
					t.Errorf("Sign: %v", err)
				} else if err := signers.ECDSAP256.Verify(k.Public(), []byte("message"), sig); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := w.starts.Load(); n != 3 {
		t.Errorf("%d processes were started, want 3", n)
	}
	if r := b.Report(); r.State != "ready" || r.Recoveries["process"] != 2 {
		t.Errorf("Report: got %+v, want ready, started again twice", r)
	}
}

// A stub is a back-end that says of itself what a test wants.
type stub struct {
	signers.Backend
	state atomic.Pointer[string]
}

func (s *stub) Report() signers.Report { return signers.Report{State: *s.state.Load()} }

// kept is a back-end that outlives its process.
type kept struct{ signers.Backend }

func (kept) Close() error { return nil }

func TestAProcessThatIsStuckIsEnded(t *testing.T) {
	w := newFloor(t)
	inner, err := w.opener(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	ready, stuck := "ready", "stuck"
	var last atomic.Pointer[stub]
	w.open = func(context.Context, string, []byte) (signers.Backend, error) {
		s := &stub{Backend: kept{inner}}
		s.state.Store(&ready)
		last.Store(s)
		return s, nil
	}
	b := start(t, w)
	k, err := b.Create(t.Context(), "waits", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	first := w.present.Load()
	last.Load().state.Store(&stuck)
	<-first.Ended()
	if _, err := k.Sign(t.Context(), nil); err != nil {
		t.Errorf("Sign after a stuck process: %v", err)
	}
}

func TestAWrongPINIsNotTriedAgain(t *testing.T) {
	w := newFloor(t)
	refuse := false
	good := w.opener
	w2 := &floor{dir: w.dir, secret: w.secret}
	w2.open = func(ctx context.Context, kind string, settings []byte) (signers.Backend, error) {
		if refuse {
			return nil, signers.ErrDenied
		}
		return good(ctx, kind, settings)
	}
	b := start(t, w2)
	k, err := b.Create(t.Context(), "locked", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	refuse = true
	w2.present.Load().Kill()
	for range 3 {
		if _, err := k.Sign(t.Context(), nil); !errors.Is(err, signers.ErrDenied) {
			t.Errorf("Sign: got %v, want ErrDenied", err)
		}
	}
	if n := w2.starts.Load(); n != 2 {
		t.Errorf("%d processes were started, want 2: the second was refused", n)
	}
	if r := b.Report(); r.State != "refused" {
		t.Errorf("Report: got %q, want refused", r.State)
	}
}

func TestErrorsKeepTheirKindOnTheWire(t *testing.T) {
	for _, row := range table {
		err := fromCall(onTheWire(row.err))
		if !errors.Is(err, row.err) || err.Error() != row.err.Error() {
			t.Errorf("%v became %v", row.err, err)
		}
	}
	if err := fromCall(onTheWire(errors.New("odd"))); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("an unknown error: got %v, want ErrUnavailable", err)
	}
}
