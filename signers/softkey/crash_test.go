package softkey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/signers"
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
	d.ops = append(d.ops, strings.TrimPrefix(op, "softkey."))
	if d.step == d.at || d.dead && d.step > d.at && d.at > 0 {
		return errDisk
	}
	return nil
}

// TestEveryStepIsInOrder is what makes a key survive a power cut: its bytes
// before its name, and its name before the answer.
func TestEveryStepIsInOrder(t *testing.T) {
	var disk brittleDisk
	o := options(t)
	o.Fault = disk.fault
	b := mustOpen(t, o)
	setUp := []string{"mkdir", "mkdir", "write", "fsync", "rename", "fsync-dir", "fsync-dir", "fsync-dir"}
	if diff := cmp.Diff(setUp, disk.ops); diff != "" {
		t.Errorf("Open of a new directory (-want +got):\n%s", diff)
	}
	disk.ops = nil
	create(t, b, "pay")
	if diff := cmp.Diff([]string{"write", "fsync", "rename", "fsync-dir"}, disk.ops); diff != "" {
		t.Errorf("Create (-want +got):\n%s", diff)
	}
	disk.ops = nil
	if err := b.Destroy(t.Context(), "pay"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"remove", "fsync-dir"}, disk.ops); diff != "" {
		t.Errorf("Destroy (-want +got):\n%s", diff)
	}
}

// TestAFailureAtEveryStepLosesNothing breaks each step of a life in turn, once
// as an error of the disk and once as the end of the process, and then does
// what a daemon does: the same again.
func TestAFailureAtEveryStepLosesNothing(t *testing.T) {
	var whole brittleDisk
	if err := live(t, options(t), &whole, map[signers.KeyID]signers.Key{}); err != nil {
		t.Fatalf("without a failure: %v", err)
	}
	for _, dead := range []bool{false, true} {
		for at := 1; at <= whole.step; at++ {
			t.Run(fmt.Sprintf("dead=%v step %d %s", dead, at, whole.ops[at-1]), func(t *testing.T) {
				o, handed := options(t), map[signers.KeyID]signers.Key{}
				if err := live(t, o, &brittleDisk{at: at, dead: dead}, handed); !errors.Is(err, errDisk) || !errors.Is(err, signers.ErrUnavailable) {
					t.Errorf("got %v, want the disk's error as ErrUnavailable", err)
				}
				if err := live(t, o, &brittleDisk{}, handed); err != nil {
					t.Fatalf("the same again: %v", err)
				}
			})
		}
	}
}

// live makes two keys, uses them, and destroys one, each step so that it may be
// repeated. A key that was handed out must never come back as another.
func live(t *testing.T, o Options, disk *brittleDisk, handed map[signers.KeyID]signers.Key) error {
	o.Fault = disk.fault
	b, err := Open(t.Context(), o)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, id := range []signers.KeyID{"kept", "gone"} {
		if err := reserve(t.Context(), b, id, handed); err != nil {
			return err
		}
	}
	if err := b.Destroy(t.Context(), "gone"); err != nil {
		return err
	}
	delete(handed, "gone")
	ids, err := b.List(t.Context())
	if err == nil && !slices.Equal(ids, []signers.KeyID{"kept"}) {
		return fmt.Errorf("List: got %v, want kept alone", ids)
	}
	return err
}

// reserve is what the keyring does: Create, and Open after ErrExists.
func reserve(ctx context.Context, b *Backend, id signers.KeyID, handed map[signers.KeyID]signers.Key) error {
	k, err := b.Create(ctx, id, signers.ECDSAP256)
	if errors.Is(err, signers.ErrExists) {
		k, err = b.Open(ctx, id, signers.ECDSAP256)
	}
	if err != nil {
		return err
	}
	if before := handed[id]; before != nil && id == "kept" {
		if diff := cmp.Diff(before.Public(), k.Public()); diff != "" {
			return fmt.Errorf("%s came back as another key", id)
		}
	}
	handed[id] = k
	return signAndVerify(ctx, k, signers.ECDSAP256)
}

// TestNothingIsFoundThatMayVanish keeps a key from being published while a
// power cut could still take it away.
func TestNothingIsFoundThatMayVanish(t *testing.T) {
	failing := false
	o := options(t)
	o.Fault = func(op string) error {
		if failing && op == "softkey.fsync-dir" {
			return errDisk
		}
		return nil
	}
	b := mustOpen(t, o)
	failing = true
	if _, err := b.Create(t.Context(), "pay", signers.Ed25519); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("Create: got %v, want ErrUnavailable", err)
	}
	if _, err := b.Open(t.Context(), "pay", signers.Ed25519); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("Open while the directory cannot be synced: got %v, want ErrUnavailable", err)
	}
	failing = false
	k := mustKey(t, b, "pay", signers.Ed25519)
	if err := signAndVerify(t.Context(), k, signers.Ed25519); err != nil {
		t.Error(err)
	}
}

// TestDestroyThatFailsCanBeRepeated: a key whose file could not be removed
// goes on signing, and one whose removal may not last never signs again.
func TestDestroyThatFailsCanBeRepeated(t *testing.T) {
	failing := ""
	o := options(t)
	o.Fault = func(op string) error {
		if op == failing {
			return errDisk
		}
		return nil
	}
	b := mustOpen(t, o)
	k := create(t, b, "pay")
	for _, tt := range []struct {
		op   string
		want error
	}{
		{"softkey.remove", nil},
		{"softkey.fsync-dir", signers.ErrNotFound},
	} {
		failing = tt.op
		if err := b.Destroy(t.Context(), "pay"); !errors.Is(err, signers.ErrUnavailable) {
			t.Errorf("Destroy with %s failing: got %v, want ErrUnavailable", tt.op, err)
		}
		if err := signAndVerify(t.Context(), k, signers.ECDSAP256); !errors.Is(err, tt.want) {
			t.Errorf("Sign after %s failed: got %v, want %v", tt.op, err, tt.want)
		}
	}
	failing = ""
	if err := b.Destroy(t.Context(), "pay"); err != nil {
		t.Errorf("Destroy again: got %v, want nil", err)
	}
}
