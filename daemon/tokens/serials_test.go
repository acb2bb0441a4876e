package tokens_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/daemon/tokens"
)

var errDisk = errors.New("no space left on device")

// A brittleDisk fails at one step, or at every step from one on, as if the
// process had been killed there.
type brittleDisk struct {
	step, at int
	dead     bool
	ops      []string
}

func (d *brittleDisk) fault(op string) error {
	d.step++
	d.ops = append(d.ops, strings.TrimPrefix(op, "serials."))
	if d.at > 0 && (d.step == d.at || d.dead && d.step > d.at) {
		return errDisk
	}
	return nil
}

func open(t *testing.T, dir string, block uint64, fault func(string) error) *tokens.Serials {
	t.Helper()
	s, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir, Block: block, Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func draw(t *testing.T, s *tokens.Serials) uint64 {
	t.Helper()
	n, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTheStepsAreInOrder is what makes a block survive a power cut: its bytes
// before its name, and its name before the first number.
func TestTheStepsAreInOrder(t *testing.T) {
	var disk brittleDisk
	s := open(t, filepath.Join(t.TempDir(), "serials"), 2, disk.fault)
	if diff := cmp.Diff([]string{"mkdir", "fsync-dir"}, disk.ops); diff != "" {
		t.Errorf("OpenSerials (-want +got):\n%s", diff)
	}
	var got []uint64
	for range 4 {
		disk.ops = append(disk.ops, "number")
		got = append(got, draw(t, s))
	}
	if !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("Next: got %d, want 1 to 4", got)
	}
	block := []string{"number", "write", "fsync", "rename", "fsync-dir", "number"}
	if diff := cmp.Diff(slices.Concat([]string{"mkdir", "fsync-dir"}, block, block), disk.ops); diff != "" {
		t.Errorf("two blocks of two (-want +got):\n%s", diff)
	}
}

// live is a day of a daemon: it opens the serials, draws seven and closes. It
// goes on after a failure, as a daemon would, and returns what it was given.
func live(dir string, disk *brittleDisk) (given []uint64, err error) {
	s, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir, Block: 3, Fault: disk.fault})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for range 7 {
		n, nextErr := s.Next()
		if nextErr != nil {
			err = nextErr
			continue
		}
		given = append(given, n)
	}
	return given, err
}

// TestAFailureAtEveryStepRepeatsNoNumber has a day before, a day with a
// failure or a kill at step N, and a day after, for every N.
func TestAFailureAtEveryStepRepeatsNoNumber(t *testing.T) {
	var whole brittleDisk
	if _, err := live(filepath.Join(t.TempDir(), "serials"), &whole); err != nil || whole.step < 14 {
		t.Fatalf("without a failure: %d steps, %v; want at least 14", whole.step, err)
	}
	for _, dead := range []bool{false, true} {
		for at := 1; at <= whole.step; at++ {
			t.Run(fmt.Sprintf("dead=%v step %d %s", dead, at, whole.ops[at-1]), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "serials")
				before, err := live(dir, &brittleDisk{})
				if err != nil {
					t.Fatal(err)
				}
				during, err := live(dir, &brittleDisk{at: at, dead: dead})
				if !errors.Is(err, errDisk) {
					t.Errorf("got %v, want the disk's error", err)
				}
				after, err := live(dir, &brittleDisk{})
				if err != nil || len(after) != 7 {
					t.Errorf("the day after: %d numbers, %v", len(after), err)
				}
				rising(t, slices.Concat(before, during, after))
			})
		}
	}
}

// rising wants no number twice, and none smaller than one before.
func rising(t *testing.T, given []uint64) {
	t.Helper()
	for i := range given[1:] {
		if given[i] == 0 || given[i] >= given[i+1] {
			t.Fatalf("numbers in order of use: %d", given)
		}
	}
}

func TestManyCallersGetNumbersOfTheirOwn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "serials"), 5, nil)
	const callers, each = 16, 50
	all := make([][]uint64, callers)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			for range each {
				n, err := s.Next()
				if err != nil {
					t.Error(err)
				}
				all[i] = append(all[i], n)
			}
		})
	}
	wg.Wait()
	given := slices.Concat(all...)
	slices.Sort(given)
	rising(t, given)
	if given[0] != 1 || given[len(given)-1] != callers*each {
		t.Errorf("got %d to %d, want 1 to %d", given[0], given[len(given)-1], callers*each)
	}
}

func TestOneProcessHasTheSerials(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "serials")
	s := open(t, dir, 0, nil)
	if _, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir}); !errors.Is(err, tokens.ErrLocked) {
		t.Errorf("a second OpenSerials: got %v, want ErrLocked", err)
	}
	first := draw(t, s)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := s.Next(); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("Next after Close: got %v, want ErrClosed", err)
	}
	if n := draw(t, open(t, dir, 0, nil)); n != first+tokens.DefaultBlock {
		t.Errorf("after a restart: got %d, want the next block", n)
	}
}

// TestARecordThatIsNotOursStopsTheStart: a number that was guessed from it
// could be one that is in use.
func TestARecordThatIsNotOursStopsTheStart(t *testing.T) {
	for _, text := range []string{
		"", "1\n", "next 5 crc32 00000000\n", "next 0 crc32 f4dbdf21\n", "next 05 crc32 deadbeef\n",
		"next -1 crc32 00000000\n", "next 18446744073709551616 crc32 00000000\n",
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(filepath.Join(dir, "next"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir}); !errors.Is(err, tokens.ErrDamaged) {
			t.Errorf("a record %q: got %v, want ErrDamaged", text, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "serials")
	s := open(t, dir, 0, nil)
	draw(t, s)
	_ = s.Close()
	file := filepath.Join(dir, "next")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		changed := slices.Clone(data)
		changed[i] ^= 1
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir}); !errors.Is(err, tokens.ErrDamaged) {
			t.Errorf("a flipped bit in byte %d of %q: got %v, want ErrDamaged", i, data, err)
		}
	}
}

func TestADirectoryThatOthersMayWriteToIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.OpenSerials(tokens.SerialOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "hint: chmod 700") {
		t.Errorf("mode 755: got %v, want a refusal with a hint", err)
	}
}

// TestTheLastNumberIsTheEnd: past it the numbers would begin again.
func TestTheLastNumberIsTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "serials")
	for _, want := range []error{nil, tokens.ErrExhausted, tokens.ErrExhausted} {
		s := open(t, dir, 1<<63, nil)
		if _, err := s.Next(); !errors.Is(err, want) || want != nil && !errors.Is(err, tokens.ErrNoSerial) {
			t.Errorf("Next: got %v, want %v in ErrNoSerial", err, want)
		}
		_ = s.Close()
	}
}
