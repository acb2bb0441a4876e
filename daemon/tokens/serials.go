// Package tokens knows what was issued: [Serials] gives out the numbers of
// certificates, none of them twice, and a [Store] remembers the tokens that
// can't speak for themselves.
package tokens

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

var (
	// ErrLocked says that another process has the directory.
	ErrLocked = errors.New("another process has it")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("serials are closed")
	// ErrDamaged says that the record is not what was written.
	ErrDamaged = errors.New("record is damaged")
	// ErrNoSerial says that no number can be had now; the cause is with it.
	ErrNoSerial = errors.New("no serial number could be reserved")
	// ErrExhausted says that every number was given out.
	ErrExhausted = errors.New("no serial number is left")
)

// The directory holds
//
//	next       the first number that is not reserved yet
//	.next.tmp  a reservation that was cut off
const (
	recordName = "next"
	tempName   = ".next.tmp"
)

// DefaultBlock is how many numbers are reserved with one fsync.
const DefaultBlock = 4096

// SerialOptions say where the numbers are kept.
type SerialOptions struct {
	Dir   string // made if it is not there; its owner's alone
	Block uint64 // numbers reserved at a time; DefaultBlock if 0
	// Fault, if any, is called before each mkdir, write, fsync, rename and
	// fsync-dir, and what it returns fails that step. For tests.
	Fault func(op string) error
}

// Serials gives out numbers from 1 on, in order, and none of them twice: not
// after a restart, a kill or a power cut either. A block of numbers is on
// record as used before the first of them is given out, so whatever ends the
// process skips the rest of a block. One Serials serves all keys of a daemon.
type Serials struct {
	opts SerialOptions

	mu        sync.Mutex
	dir       *os.File // holds the lock; nil once closed
	next, end uint64   // what is reserved and not given out: next up to end, without end
}

// OpenSerials takes the directory; ErrLocked if another process has it,
// ErrDamaged if its record is not one of ours.
func OpenSerials(o SerialOptions) (*Serials, error) {
	if o.Block == 0 {
		o.Block = DefaultBlock
	}
	if o.Fault == nil {
		o.Fault = func(string) error { return nil }
	}
	s := &Serials{opts: o}
	if err := s.open(); err != nil {
		_ = s.Close() // err is the reason to tell
		return nil, fmt.Errorf("serials: %q: %w", o.Dir, err)
	}
	return s, nil
}

func (s *Serials) open() error {
	err := s.step("mkdir", func() error { return os.Mkdir(s.opts.Dir, 0o700) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.dir, err = os.Open(s.opts.Dir); err != nil {
		return err
	}
	if err := s.private(); err != nil {
		return err
	}
	// The directory's own descriptor: a kill gives it back.
	if err := syscall.Flock(int(s.dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %w\nhint: stop the daemon that has this state_dir, or give this one its own", ErrLocked, err)
	}
	s.next, err = s.read()
	s.end = s.next
	return errors.Join(err, s.syncParent())
}

// private refuses a directory that others may write to: they could make
// numbers repeat.
func (s *Serials) private() error {
	info, err := s.dir.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("mode %04o\nhint: chmod 700 %s", info.Mode().Perm(), s.opts.Dir)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to another user\nhint: chown %d %s", os.Geteuid(), s.opts.Dir)
	}
	return nil
}

// read returns the first number that is not reserved: 1 where there is no
// record yet.
func (s *Serials) read() (uint64, error) {
	data, err := os.ReadFile(filepath.Join(s.opts.Dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	var next uint64
	var sum uint32
	// A record that would be written otherwise is not ours.
	if n, err := fmt.Sscanf(string(data), recordForm, &next, &sum); err != nil || n != 2 || next == 0 || string(data) != record(next) {
		return 0, fmt.Errorf("%s: %w\nhint: restore that file from the newest backup, and raise its number past every serial since: an older one repeats serials", recordName, ErrDamaged)
	}
	return next, nil
}

const recordForm = "next %d crc32 %08x\n"

func record(next uint64) string {
	return fmt.Sprintf(recordForm, next, crc32.ChecksumIEEE(fmt.Append(nil, next)))
}

// Next returns a number that no call has returned before, or ErrNoSerial with
// its cause: then no number was used up, and the next call tries again.
func (s *Serials) Next() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		return 0, fmt.Errorf("%w: %w", ErrNoSerial, ErrClosed)
	}
	if s.next == s.end {
		if err := s.reserve(); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoSerial, err)
		}
	}
	n := s.next
	s.next++
	return n, nil
}

// reserve makes the next block ours: bytes on disk, then the name, then the
// directory, and only then the numbers. After a failure nobody has seen a
// number of the block, so the same block is reserved again.
func (s *Serials) reserve() error {
	if s.opts.Block > math.MaxUint64-s.end {
		return ErrExhausted
	}
	end := s.end + s.opts.Block
	temp := filepath.Join(s.opts.Dir, tempName)
	if err := s.write(temp, record(end)); err != nil {
		return err
	}
	if err := s.step("rename", func() error { return os.Rename(temp, filepath.Join(s.opts.Dir, recordName)) }); err != nil {
		return err
	}
	if err := s.step("fsync-dir", s.dir.Sync); err != nil {
		return err
	}
	s.end = end
	return nil
}

func (s *Serials) write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // in the directory that is ours alone
	if err != nil {
		return err
	}
	err = s.step("write", func() error {
		_, err := f.WriteString(text)
		return err
	})
	if err == nil {
		err = s.step("fsync", f.Sync)
	}
	return errors.Join(err, f.Close())
}

// syncParent makes the directory's own name last. One whose parent we may not
// read is not one that we made.
func (s *Serials) syncParent() error {
	f, err := os.Open(filepath.Dir(filepath.Clean(s.opts.Dir)))
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.step("fsync-dir", f.Sync), f.Close())
}

// step is the one seam for faults: every change to the disk passes here.
func (s *Serials) step(op string, do func() error) error {
	if err := s.opts.Fault("serials." + op); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// Close gives the directory back. A second Close does nothing.
func (s *Serials) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		return nil
	}
	err := s.dir.Close()
	s.dir = nil
	return err
}
