package kmskill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/keyring/filestore"
)

func TestMain(m *testing.M) {
	if os.Getenv("KMSKILL_DO") == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, "kmskill:", err)
		os.Exit(1)
	}
}

// lags are for how long the fakes do not find, or still generate, what was made:
// shorter than a start of ours takes, and longer. Both are within settle.
var lags = []time.Duration{30 * time.Millisecond, 350 * time.Millisecond}

// A cloud is a fake with what the campaign wants to know of it.
type cloud struct {
	at    string
	close func()
	hook  func(func(string, bool))
	// usable lists the ids of keys that can sign and carry our alias or label;
	// lost those that only carry our tag; strange those that nothing of ours finds.
	usable func() (usable, lost, strange []string)
}

func startCloud(t *testing.T, name string, lag time.Duration) cloud {
	t.Helper()
	if name == "gcp" {
		s, err := fakegcpkms.New(time.Now, lag)
		if err != nil {
			t.Fatal(err)
		}
		return cloud{s.Address, s.Close, s.SetHook, func() (usable, lost, strange []string) {
			s.Change(func(k *kmspb.CryptoKey, v *kmspb.CryptoKeyVersion) {
				id := k.GetName()[strings.LastIndexByte(k.GetName(), '/')+1:]
				switch {
				case v.GetState() != kmspb.CryptoKeyVersion_ENABLED && v.GetState() != kmspb.CryptoKeyVersion_PENDING_GENERATION:
				case k.GetLabels()["signet"] == id:
					usable = append(usable, id)
				default:
					strange = append(strange, id)
				}
			})
			return usable, lost, strange
		}}
	}
	s := fakekms.New(time.Now, lag)
	return cloud{s.URL, s.Close, s.SetHook, func() (usable, lost, strange []string) {
		keys, named := s.Tagged("signet:id")
		for tag, n := range keys {
			id, ours := strings.CutPrefix(tag, "signet/")
			if !ours {
				strange = append(strange, "tag "+tag)
				continue
			}
			usable = append(usable, slices.Repeat([]string{id}, named[tag])...)
			lost = append(lost, slices.Repeat([]string{id}, n-named[tag])...)
		}
		return usable, lost, strange
	}}
}

// A trial is one ring on one fake.
type trial struct {
	name  string
	cloud cloud
	dir   string
}

// newTrial starts one; close its cloud.
func newTrial(t *testing.T, name string, lag time.Duration) *trial {
	t.Helper()
	return &trial{name, startCloud(t, name, lag), filepath.Join(t.TempDir(), "ring")}
}

// run has a child do something. It dies before or after the request, or save,
// with the given number (2N, 2N+1), counted from its start; -1: it lives, and is
// ended after check has nothing more to say.
func (tr *trial) run(do string, request, save int, check func() error) (requests, saves int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "KMSKILL_DO="+do, "KMSKILL_CLOUD="+tr.name, "KMSKILL_AT="+tr.cloud.at, "KMSKILL_DIR="+tr.dir,
		"KMSKILL_SAVE="+strconv.Itoa(save), "AWS_ACCESS_KEY_ID="+fakekms.AccessKey, "AWS_SECRET_ACCESS_KEY="+fakekms.SecretKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/nowhere", "AWS_SHARED_CREDENTIALS_FILE=/nowhere")
	var said strings.Builder
	cmd.Stderr = &said
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	died, started := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	tr.cloud.hook(func(string, bool) {
		<-started
		if int(asked.Add(1)) == request+1 {
			_ = cmd.Process.Kill()
			<-died // it never sees an answer
		}
	})
	defer tr.cloud.hook(nil)
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	close(started)
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line == "" { // it was killed, or failed
		err := cmd.Wait()
		close(died)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == -1 && request+save > -2 {
			return 0, 0, nil
		}
		return 0, 0, fmt.Errorf("%w: %s", err, said.String())
	}
	if saves, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return 0, 0, err
	}
	requests = int(asked.Load())
	err = eventually(check)
	_ = in.Close()
	_, _ = io.Copy(io.Discard, out)
	err = errors.Join(err, cmd.Wait())
	close(died)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	return requests, saves, err
}

// eventually is what check says in the end.
func eventually(check func() error) error {
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if err := check(); err == nil || time.Since(begun) > 5*time.Second {
			return err
		}
	}
}

// one is nil if exactly one key can sign, and it is the one on record.
func (tr *trial) one() error {
	usable, lost, strange := tr.cloud.usable()
	if len(usable) != 1 || len(lost) != 0 || len(strange) != 0 {
		return fmt.Errorf("can sign: %v, of which only the tag is ours: %v, nothing is: %v; want one", usable, lost, strange)
	}
	return nil
}

// listed is nil if every key that can sign carries an id that is on record.
func (tr *trial) listed() error {
	// Another round's child that was forked just now would hold the lock of our
	// directory until it executes.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	store, err := filestore.Open(tr.dir, filestore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	e, _, err := store.Load(context.Background(), "pay")
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, v := range e.Versions {
		ids[string(v.ID)] = v.State != keyring.Destroyed
	}
	usable, lost, strange := tr.cloud.usable()
	for _, id := range slices.Concat(usable, lost) {
		if !ids[id] {
			return fmt.Errorf("a key can sign with id %q, and on record are %v", id, slices.Collect(maps.Keys(ids)))
		}
	}
	if len(strange) > 0 {
		return fmt.Errorf("keys can sign that nothing of ours finds: %v", strange)
	}
	return nil
}

// round kills once, at a step of the requests' or of the saves', and starts again.
// A run that was done before it got there was not killed.
func round(t *testing.T, cloud, do string, request, save int, lag time.Duration) (killed bool, err error) {
	tr := newTrial(t, cloud, lag)
	defer tr.cloud.close()
	if do == "rotate" {
		if _, _, err := tr.run("create", -1, -1, tr.one); err != nil {
			return false, fmt.Errorf("before: %w", err)
		}
	}
	_, saves, err := tr.run(do, request, save, tr.one)
	if err != nil {
		return false, fmt.Errorf("killed: %w", err)
	}
	if err := tr.listed(); err != nil {
		return false, fmt.Errorf("after the kill: %w", err)
	}
	if _, _, err := tr.run(do, -1, -1, tr.one); err != nil {
		return false, fmt.Errorf("again: %w", err)
	}
	return saves == 0, tr.listed()
}

// TestAKillLeavesOneKey kills at every step in turn, in an order of chance.
func TestAKillLeavesOneKey(t *testing.T) {
	rounds := 3
	if os.Getenv("SIGNET_CAMPAIGN") == "kms-kill" {
		rounds = 200
	} else if testing.Short() {
		rounds = 2
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SEED=%d", seed)
	for _, cloud := range []string{"aws", "gcp"} {
		for _, do := range []string{"create", "rotate"} {
			t.Run(cloud+"/"+do, func(t *testing.T) { kills(t, cloud, do, rounds, seed) })
		}
	}
}

func kills(t *testing.T, cloud, do string, rounds int, seed uint64) {
	// Once with no kill says how many steps there are.
	tr := newTrial(t, cloud, lags[0])
	defer tr.cloud.close()
	if do == "rotate" {
		if _, _, err := tr.run("create", -1, -1, tr.one); err != nil {
			t.Fatal(err)
		}
	}
	requests, saves, err := tr.run(do, -1, -1, tr.one)
	if err != nil {
		t.Fatal(err)
	}
	steps := requests + saves
	order := rand.New(rand.NewPCG(seed, 0)).Perm(steps)
	var mu sync.Mutex
	var failed, done, kills int
	var all sync.WaitGroup
	turns := make(chan int)
	for range 4 {
		all.Go(func() {
			for i := range turns {
				request, save := order[i%steps], -1
				if request >= requests {
					request, save = -1, request-requests
				}
				killed, err := round(t, cloud, do, request, save, lags[(i/steps+i)%len(lags)])
				mu.Lock()
				if killed {
					kills++
				}
				if done++; err != nil {
					failed++
					t.Errorf("round %d, request step %d, save step %d: %v", i, request, save, err)
				}
				if rounds >= 100 && done%20 == 0 {
					fmt.Fprintf(os.Stderr, "%s %s: %d/%d\n", cloud, do, done, rounds)
				}
				mu.Unlock()
			}
		})
	}
	for i := range rounds {
		turns <- i
	}
	close(turns)
	all.Wait()
	t.Logf("%d rounds over %d steps (%d at requests, %d at saves), killed in %d: %d left exactly one key that can sign", rounds, steps, requests, saves, kills, rounds-failed)
	if kills < rounds*9/10 {
		t.Errorf("%d of %d rounds were killed: too few to say anything", kills, rounds)
	}
}
