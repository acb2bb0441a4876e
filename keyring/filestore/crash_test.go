package filestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/keyring"
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
	d.ops = append(d.ops, strings.TrimPrefix(op, "filestore."))
	if d.at > 0 && (d.step == d.at || d.dead && d.step > d.at) {
		return errDisk
	}
	return nil
}

// TestTheStepsAreInOrder is what makes a record survive a power cut: its bytes
// before its name, and its name before the answer.
func TestTheStepsAreInOrder(t *testing.T) {
	var disk brittleDisk
	s := mustOpen(t, newDir(t), disk.fault)
	if diff := cmp.Diff([]string{"mkdir", "mkdir", "fsync-dir", "fsync-dir", "fsync-dir"}, disk.ops); diff != "" {
		t.Errorf("Open (-want +got):\n%s", diff)
	}
	disk.ops = nil
	mustSave(t, s, pay("jwt"))
	if diff := cmp.Diff([]string{"write", "fsync", "rename", "fsync-dir"}, disk.ops); diff != "" {
		t.Errorf("Save (-want +got):\n%s", diff)
	}
	disk.ops = nil
	if _, _, err := s.Load(t.Context(), "pay"); err != nil || len(disk.ops) != 0 {
		t.Errorf("Load: got %v, %v, want no change to the disk", disk.ops, err)
	}
}

// live is a store's day: opened, three saves, closed. It returns the revision
// that was promised last.
func live(t *testing.T, dir string, disk *brittleDisk) (promised keyring.Revision, err error) {
	s, err := Open(dir, Options{Fault: disk.fault})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for range 3 {
		_, rev, err := s.Load(t.Context(), "pay")
		if err != nil {
			return promised, err
		}
		next, err := s.Save(t.Context(), "pay", pay(fmt.Sprintf("format-%d", rev+1)), rev)
		if err != nil {
			return promised, err
		}
		promised = next
	}
	return promised, nil
}

// TestAFailureAtEveryStep leaves the old record or the new one, whole; keeps
// what was promised; and is mended by doing the same again.
func TestAFailureAtEveryStep(t *testing.T) {
	var whole brittleDisk
	if _, err := live(t, newDir(t), &whole); err != nil {
		t.Fatalf("without a failure: %v", err)
	}
	if whole.step < 15 {
		t.Fatalf("a day has %d steps: this test misses most", whole.step)
	}
	for _, dead := range []bool{false, true} {
		for at := 1; at <= whole.step; at++ {
			t.Run(fmt.Sprintf("dead=%v step %d %s", dead, at, whole.ops[at-1]), func(t *testing.T) {
				dir := newDir(t)
				promised, err := live(t, dir, &brittleDisk{at: at, dead: dead})
				if !errors.Is(err, errDisk) {
					t.Fatalf("got %v, want the disk's error", err)
				}
				s := mustOpen(t, dir, nil)
				e, rev, err := s.Load(t.Context(), "pay")
				if err != nil || rev != promised && rev != promised+1 {
					t.Fatalf("Load: got revision %d, %v, want %d or the next", rev, err, promised)
				}
				if want := fmt.Sprintf("format-%d", rev); rev > 0 && e.Format != want {
					t.Errorf("revision %d holds %s, want %s", rev, e.Format, want)
				}
				s.Close()
				leavesNothing(t, dir)
				if _, err := live(t, dir, &brittleDisk{}); err != nil {
					t.Errorf("the same again: %v", err)
				}
			})
		}
	}
}

func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != "pay.json" {
			t.Errorf("left behind: %s", f.Name())
		}
	}
}

// TestAHalfWrittenSaveIsNoRecord: a crash leaves it, a List passes it over and
// the next start removes it.
func TestAHalfWrittenSaveIsNoRecord(t *testing.T) {
	dir := newDir(t)
	s := mustOpen(t, dir, nil)
	mustSave(t, s, pay("jwt"))
	disk := &brittleDisk{at: 2, dead: true}
	s.fault = disk.fault
	if _, err := s.Save(t.Context(), "pay", pay("ssh"), 1); !errors.Is(err, errDisk) {
		t.Fatalf("Save: got %v, want the disk's error", err)
	}
	temp := filepath.Join(dir, "keys", ".pay.json.tmp")
	if _, err := os.Stat(temp); err != nil {
		t.Fatalf("the crash left nothing, so this test shows nothing: %v", err)
	}
	if names, err := s.List(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("List: got %q, %v, want one name", names, err)
	}
	s.Close()
	s = mustOpen(t, dir, nil)
	leavesNothing(t, dir)
	if e, rev, err := s.Load(t.Context(), "pay"); err != nil || rev != 1 || e.Format != "jwt" {
		t.Errorf("Load: got %s at %d, %v, want the record from before", e.Format, rev, err)
	}
}

// TestWhatIsNotYetOnDiskIsNotRead: a revocation that was read, relied on and
// undone by a power cut would be worse than an error.
func TestWhatIsNotYetOnDiskIsNotRead(t *testing.T) {
	failing := false
	s := mustOpen(t, newDir(t), func(op string) error {
		if failing && op == "filestore.fsync-dir" {
			return errDisk
		}
		return nil
	})
	mustSave(t, s, pay("old"))
	failing = true
	if _, err := s.Save(t.Context(), "pay", pay("new"), 1); !errors.Is(err, errDisk) {
		t.Errorf("Save: got %v, want the disk's error", err)
	}
	if e, _, err := s.Load(t.Context(), "pay"); !errors.Is(err, errDisk) {
		t.Errorf("Load before the directory is on disk: got %s, %v, want the disk's error", e.Format, err)
	}
	if _, err := s.List(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("List before the directory is on disk: got %v, want the disk's error", err)
	}
	failing = false
	if e, rev, err := s.Load(t.Context(), "pay"); err != nil || rev != 2 || e.Format != "new" {
		t.Errorf("Load after: got %s at %d, %v, want new at 2", e.Format, rev, err)
	}
}

// TestASaveThatFailedLateIsTold to who watches, since the record is new.
func TestASaveThatFailedLateIsTold(t *testing.T) {
	disk := &brittleDisk{}
	s := mustOpen(t, newDir(t), disk.fault)
	changed, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	disk.at = disk.step + 4
	if _, err := s.Save(t.Context(), "pay", pay("jwt"), 0); !errors.Is(err, errDisk) {
		t.Fatalf("Save: got %v, want the disk's error", err)
	}
	select {
	case name := <-changed:
		if name != "pay" {
			t.Errorf("told of %q", name)
		}
	case <-time.After(10 * time.Second):
		t.Error("not told")
	}
}
