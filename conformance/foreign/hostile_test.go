package foreign

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/daemon/audit"
)

// modes are what the hostile plug-in does, each in a process of its own in one
// daemon; most end a process, and some outlive their deadline.
var modes = []string{"unasked", "twice", "late", "swap", "zero", "flood", "big", "hang", "exit", "garbage", "chatter", "spin", "alloc", "fork", "reach"}

// hostileRig is a daemon with a hostile plug-in for each mode and an honest
// second process for each, all with keys in an HSM that counts.
func hostileRig(t *testing.T, modes ...string) *rig {
	t.Helper()
	r := newRig(t)
	r.counted()
	program := filepath.Join(built, "hostile")
	var all []plugin
	var names []string
	for _, mode := range modes {
		after := fmt.Sprint(time.Now().Add(20 * time.Second).Unix())
		all = append(all, plugin{format: "x-" + mode, backend: "hsm", lines: r.pinned(program, mode, "x-"+mode, r.dir, `"`+after+`"`) + ", plain_grpc: true"})
		names = append(names, "x-"+mode)
	}
	r.configure(all...)
	r.mustStart(names...)
	return r
}

// A load is callers of the JWT profile, who must notice nothing.
type load struct {
	done, failed atomic.Int64
	first        atomic.Value
	stop         func()
}

func (r *rig) load(callers int) *load {
	ctx, cancel := context.WithCancel(r.t.Context())
	l := &load{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := r.issue(context.WithoutCancel(ctx), "jwt", "ci/7")
				l.done.Add(1)
				if err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, err.Error())
				}
				time.Sleep(2 * time.Millisecond) // the machine is also the hostile one's
			}
		})
	}
	l.stop = func() { cancel(); wg.Wait() }
	return l
}

// mustBeUnharmed ends the load.
func (l *load) mustBeUnharmed(t *testing.T) {
	t.Helper()
	l.stop()
	if l.failed.Load() > 0 || l.done.Load() == 0 {
		t.Errorf("the other format: %d of %d requests failed, the first with %v", l.failed.Load(), l.done.Load(), l.first.Load())
	}
	t.Logf("the other format: %d requests, none failed", l.done.Load())
}

// intents is how often the ledger says that a key was to be used.
func (r *rig) intents() int64 {
	r.t.Helper()
	report, err := audit.Verify(filepath.Join(r.dir, "state", "ledger"))
	if err != nil {
		r.t.Fatal(err)
	}
	return int64(report.Kinds[audit.KindIntent])
}

// TestATamperedDraftIsNeverSigned has the plug-in alter each byte of its draft
// and of each part of its frame, then each of them otherwise: not one signature.
func TestATamperedDraftIsNeverSigned(t *testing.T) {
	r := hostileRig(t, "tamper")
	l := r.load(2)
	honest, err := r.issue(t.Context(), "x-tamper", "ci/7")
	if err != nil {
		t.Fatalf("an honest token of it: %v\n%s", err, r.said)
	}
	verify(t, r, "x-tamper", honest.Value)
	before := r.shim.Calls("C_Sign")
	n := 0
	for ; ; n++ {
		_, err := r.issue(t.Context(), "x-tamper", fmt.Sprint("ci/attack-", n))
		if status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "that was all") {
			break
		}
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "not what policy granted") {
			t.Errorf("alteration %d: got %v, want to be told that the draft is another", n, err)
		}
	}
	if got := r.shim.Calls("C_Sign") - before; got != 0 || n < 400 {
		t.Errorf("%d signatures for %d altered drafts, want none for at least 400", got, n)
	}
	l.mustBeUnharmed(t)
	if got, want := r.intents(), l.done.Load()+1; got != want {
		t.Errorf("the ledger has %d intents, want %d: the other format's, and the honest one", got, want)
	}
	t.Logf("%d alterations, 0 signatures", n)
}

// TestATakenOverPluginGetsNothing has one of each mode attack at the same time,
// while another format works on.
func TestATakenOverPluginGetsNothing(t *testing.T) {
	r := hostileRig(t, modes...)
	for _, mode := range modes {
		if _, err := r.issue(t.Context(), "x-"+mode, "ci/7"); err != nil {
			t.Fatalf("an honest token of %s: %v\n%s", mode, err, r.said)
		}
	}
	l := r.load(4)
	before := r.shim.Calls("C_Sign")
	var got, asked atomic.Int64
	var wg sync.WaitGroup
	for _, mode := range modes {
		wg.Go(func() {
			for n := range 4 {
				subject := fmt.Sprint("ci/attack-", n)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				token, err := r.issue(ctx, "x-"+mode, subject)
				cancel()
				asked.Add(1)
				if err != nil {
					continue
				}
				got.Add(1)
				claims := verify(t, r, "x-"+mode, token.Value)
				id, _ := claims[uint64(7)].([]byte)
				if claims[uint64(2)] != subject || string(id) != token.ID || claims[uint64(3)] != "https://api.example" {
					t.Errorf("%s: a token of another grant: %v", mode, claims)
				}
			}
		})
	}
	wg.Wait()
	l.mustBeUnharmed(t)
	if signed := int64(r.shim.Calls("C_Sign") - before); signed != got.Load() {
		t.Errorf("%d signatures for %d tokens that were granted and given out", signed, got.Load())
	}
	if intents, want := r.intents(), l.done.Load()+int64(len(modes))+got.Load(); intents != want {
		t.Errorf("the ledger has %d intents, want %d: what was given out", intents, want)
	}
	t.Logf("%d attacks: %d tokens, each as granted; the rest got nothing", asked.Load(), got.Load())
	said := r.said.String()
	if i := strings.Index(said, "REACHED"); i >= 0 {
		t.Errorf("it reached what it must not: %s", said[i:min(i+200, len(said))])
	}
	for _, tried := range []string{"TRIED issue.sock", "TRIED admin.sock", "TRIED a network", "TRIED /proc/", "TRIED a signal", "TRIED fork"} {
		if !strings.Contains(said, tried) {
			t.Errorf("%q is not in the log: nothing was tried", tried)
		}
	}
}
