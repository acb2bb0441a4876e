package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/serve"
	"github.com/signetd/signet/signers"
)

// A mirror is an issuer that reads back what stub drafts; what it does is said
// by the bytes.
type mirror struct{ stub }

func (mirror) Inspect(_ context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	subject, by, _ := strings.Cut(string(d.ToBeSigned), " by ")
	switch {
	case subject == "panic":
		panic("grant")
	case subject == "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case subject == "broken":
		return plugins.Grant{Subject: "\xff"}, nil
	case by != k.ID:
		return plugins.Grant{}, fmt.Errorf("of another key: %w", plugins.ErrRefused)
	}
	return plugins.Grant{Profile: "of its own", Subject: subject, TokenID: string(t), Expires: time.Unix(2e9, 0)}, nil
}

// An oddMirror answers Inspect as it likes.
type oddMirror struct {
	raw
	answer func(context.Context) *pluginsv1.InspectReply
}

func (*oddMirror) Describe(context.Context, *pluginsv1.DescribeRequest) (*pluginsv1.DescribeReply, error) {
	return &pluginsv1.DescribeReply{Format: "test", Algorithms: []string{string(signers.Ed25519)}, Inspects: true}, nil
}

func (m *oddMirror) Inspect(ctx context.Context, _ *pluginsv1.InspectRequest) (*pluginsv1.InspectReply, error) {
	return m.answer(ctx), nil
}

// mirrors are the processes that read back in these tests.
var mirrors = map[string]func(){
	"mirror": func() { serve.Main(mirror{stub{describe: honest}}) },
	"mirror hangs": func() {
		serveRaw(&oddMirror{answer: func(context.Context) *pluginsv1.InspectReply { select {} }})
	},
	"mirror says nothing": func() {
		serveRaw(&oddMirror{answer: func(context.Context) *pluginsv1.InspectReply { return &pluginsv1.InspectReply{} }})
	},
	"mirror says both": func() {
		serveRaw(&oddMirror{answer: func(context.Context) *pluginsv1.InspectReply {
			return &pluginsv1.InspectReply{Grant: &pluginsv1.Grant{}, Refused: "no"}
		}})
	},
	"mirror floods": func() {
		serveRaw(&oddMirror{answer: func(context.Context) *pluginsv1.InspectReply {
			return &pluginsv1.InspectReply{Grant: &pluginsv1.Grant{Claims: make([]byte, 64<<20)}}
		}})
	},
}

func launchInspector(t *testing.T, s Spec) *Inspector {
	t.Helper()
	i, err := LaunchInspector(context.Background(), s)
	if err != nil {
		t.Fatalf("LaunchInspector: %v", err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func inspect(i *Inspector, tbs string) (plugins.Grant, error) {
	return i.Inspect(context.Background(), plugins.Draft{ToBeSigned: []byte(tbs), Frame: frame()}, testKey, plugins.Token("t"))
}

func TestAnInspectorReadsBack(t *testing.T) {
	t.Parallel()
	i := launchInspector(t, testSpec(t, "mirror"))
	pid := i.Process().PID()
	got, err := inspect(i, "alice by k1")
	want := plugins.Grant{Subject: "alice", TokenID: "t", Expires: time.Unix(2e9, 0)}
	if err != nil || !got.Equal(want) || got.Profile != "" {
		t.Errorf("Inspect: got %+v, %v, want %+v", got, err, want)
	}
	for _, tbs := range []string{"alice by k2", "panic by k1", "broken by k1"} {
		if _, err := inspect(i, tbs); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Inspect of %q: got %v, want ErrRefused", tbs, err)
		}
	}
	if i.Process().PID() != pid || i.Process().Faults() != 0 {
		t.Error("a refusal ended the process")
	}
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			subject := fmt.Sprint("s", n)
			if got, err := inspect(i, subject+" by k1"); err != nil || got.Subject != subject {
				t.Errorf("Inspect of %q: got %q, %v", subject, got.Subject, err)
			}
		})
	}
	wg.Wait()
	_, err = i.Inspect(context.Background(), plugins.Draft{}, testKey, make(plugins.Token, plugins.MaxToken+1))
	if !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Inspect of a token over the limit: got %v, want ErrRefused", err)
	}
}

func TestAnInspectorThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	i := launchInspector(t, testSpec(t, "mirror"))
	if _, err := inspect(i, "die by k1"); !errors.Is(err, ErrDown) {
		t.Errorf("Inspect: got %v, want ErrDown", err)
	}
	until(t, "the process is replaced", func() bool { return i.Process().Restarts() == 1 })
	if _, err := inspect(i, "alice by k1"); err != nil {
		t.Errorf("Inspect by the next process: %v", err)
	}
}

// Each of these ends at its first answer, or at the deadline, even where no
// caller has waited that long.
func TestFaultsEndAnInspector(t *testing.T) {
	for mode, why := range map[string]string{
		"mirror hangs": "DeadlineExceeded", "mirror says nothing": "neither grant nor refusal",
		"mirror says both": "or both", "mirror floods": "larger than max",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			s := testSpec(t, mode)
			s.Log, s.Restart.Min, s.Restart.Max = log.logger(), time.Hour, time.Hour
			if mode == "mirror hangs" {
				s.Deadline = 200 * time.Millisecond
			}
			i := launchInspector(t, s)
			pid := i.Process().PID()
			ctx, cancel := context.WithTimeout(context.Background(), s.Deadline/10)
			defer cancel()
			_, err := i.Inspect(ctx, plugins.Draft{}, testKey, nil)
			if !errors.Is(err, ErrDown) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Inspect: got %v, want ErrDown or the caller's own deadline", err)
			}
			until(t, "the fault is counted", func() bool { return i.Process().Faults() == 1 })
			if alive(pid) || !strings.Contains(log.String(), why) {
				t.Errorf("process %d alive: %v, want a dead one and %q in the log:\n%s", pid, alive(pid), why, log.String())
			}
		})
	}
}

func TestAProgramThatDoesNotReadBackIsNoInspector(t *testing.T) {
	t.Parallel()
	i, err := LaunchInspector(context.Background(), testSpec(t, "honest"))
	if err == nil {
		i.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "does not serve Inspect\nhint: ") {
		t.Errorf("LaunchInspector: got %v, want an error that says so", err)
	}
	p := launch(t, testSpec(t, "mirror"))
	if d, _ := p.Describe(context.Background()); !d.Inspects {
		t.Error("Describe does not say that the program reads back")
	}
}
