package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileOptions say where a ledger is and how it is written.
type FileOptions struct {
	Dir          string
	SegmentBytes int64 // a new file is begun past this size; 64 MiB if 0
	UnsafeNoSync bool  // for benchmarks: a power cut loses records
	// Fault, if any, is called before each write, fsync and truncation, and
	// what it returns fails that step. For tests.
	Fault func(op string) error
}

// defaultSegment is the size past which a new segment is begun.
const defaultSegment = 64 << 20

// reserveBytes are held back for what must be recorded when the disk is full.
const reserveBytes = 256 << 10

// A FileSink keeps the ledger in a directory: ledger-00000001.jsonl and so on.
// It implements Sink and Mender.
type FileSink struct {
	opts    FileOptions
	lock    *os.File
	file    *os.File
	number  int   // of the segment that is written
	size    int64 // acknowledged bytes of it
	broken  bool  // an Append failed: the file is not written again
	scratch []byte
}

// OpenFile opens the ledger in a directory, making it if it is not there, and
// says where it ends. Its last segment's chain is checked; an unfinished last
// line, as a crash leaves it, is dropped.
func OpenFile(o FileOptions) (*FileSink, Tail, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegment
	}
	if o.Fault == nil {
		o.Fault = func(string) error { return nil }
	}
	s := &FileSink{opts: o}
	if err := s.takeDir(); err != nil {
		return nil, Tail{}, err
	}
	tail, err := s.findEnd()
	if err == nil {
		err = s.reserve()
	}
	if err != nil {
		return nil, Tail{}, errors.Join(err, s.Close())
	}
	return s, tail, nil
}

// takeDir makes sure that the directory is ours alone.
func (s *FileSink) takeDir() error {
	dir := s.opts.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("audit: directory %q has mode %04o\nhint: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // in the ledger's directory
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("audit: another process writes the ledger in %q\nhint: is a daemon running with this state_dir?", dir)
	}
	return nil
}

// findEnd opens the last segment and cuts off what no record's end follows.
func (s *FileSink) findEnd() (Tail, error) {
	files, err := segments(s.opts.Dir)
	if err != nil {
		return Tail{}, err
	}
	if len(files) == 0 {
		return Tail{Clean: true}, s.begin(1)
	}
	last := files[len(files)-1]
	tail, size, err := readEnd(last.path, len(files) == 1)
	if err != nil {
		return Tail{}, err
	}
	if tail.Seq == 0 {
		torn := tail.Torn
		if tail, err = beforeEmpty(files); err != nil {
			return Tail{}, err
		}
		tail.Torn = torn
	}
	s.file, err = os.OpenFile(last.path, os.O_WRONLY, 0o600)
	if err != nil {
		return Tail{}, fmt.Errorf("audit: %w", err)
	}
	s.number, s.size = last.number, size
	if tail.Torn > 0 {
		if err := s.cut(); err != nil {
			return Tail{}, fmt.Errorf("audit: cut an unfinished record: %w", err)
		}
	}
	_, err = s.file.Seek(size, 0)
	return tail, err
}

// beforeEmpty is where the ledger ends when its last segments have no record
// yet: a crash came between making a file and writing to it, or the disk was
// full each time.
func beforeEmpty(files []segment) (Tail, error) {
	for i := len(files) - 2; i >= 0; i-- {
		tail, _, err := readEnd(files[i].path, i == 0)
		if err == nil && tail.Torn > 0 {
			err = &BadRecord{File: filepath.Base(files[i].path), Reason: errTorn.Error()}
		}
		if err != nil || tail.Seq != 0 {
			return tail, err
		}
	}
	return Tail{Clean: true}, nil
}

// cut truncates the segment to what is acknowledged, durably.
func (s *FileSink) cut() error {
	if err := s.step("truncate", func() error { return s.file.Truncate(s.size) }); err != nil {
		return err
	}
	return s.step("fsync", s.file.Sync)
}

// begin starts segment number, and makes its name durable before it is used.
func (s *FileSink) begin(number int) error {
	path := filepath.Join(s.opts.Dir, segmentName(number))
	var f *os.File
	err := s.step("create", func() (err error) {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // in the ledger's directory
		return err
	})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := s.step("fsync directory", func() error { return syncDir(s.opts.Dir) }); err != nil {
		return errors.Join(fmt.Errorf("audit: %w", err), f.Close(), os.Remove(path))
	}
	if s.file != nil {
		_ = s.file.Close() // every byte of it that matters is synced
	}
	s.file, s.number, s.size = f, number, 0
	return nil
}

// Append writes a batch with one write and one fdatasync. After a failure the
// file is poisoned: a second fsync may report success for pages that are lost.
func (s *FileSink) Append(batch [][]byte) error {
	if s.broken {
		return errors.New("audit: the segment is broken")
	}
	if s.size >= s.opts.SegmentBytes {
		if err := s.begin(s.number + 1); err != nil {
			s.broken = true
			return err
		}
	}
	if err := s.named(); err != nil {
		s.broken = true
		return err
	}
	s.scratch = s.scratch[:0]
	for _, line := range batch {
		s.scratch = append(append(s.scratch, line...), '\n')
	}
	if err := s.write(s.scratch); err != nil {
		s.broken = true
		return fmt.Errorf("audit: %w", err)
	}
	s.size += int64(len(s.scratch))
	return nil
}

// named refuses to write to a file that has no name any more: its records would
// be gone with the daemon.
func (s *FileSink) named() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if st.Nlink == 0 {
		return fmt.Errorf("audit: %s was removed under the daemon\nhint: restore it from a backup and restart", segmentName(s.number))
	}
	return nil
}

func (s *FileSink) write(data []byte) error {
	err := s.step("write", func() error {
		_, err := s.file.Write(data)
		return err
	})
	if err != nil || s.opts.UnsafeNoSync {
		return err
	}
	return s.step("fsync", func() error { return unix.Fdatasync(int(s.file.Fd())) })
}

// Mend cuts the broken segment back to what was acknowledged and begins a new
// one. Truncating needs no space, so it works on a full disk.
func (s *FileSink) Mend(urgent bool) error {
	if urgent {
		_ = os.Remove(s.reservePath())
	} else if err := s.reserve(); err != nil {
		return err
	}
	if !s.broken {
		return nil
	}
	path := filepath.Join(s.opts.Dir, segmentName(s.number))
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600) //nolint:gosec // in the ledger's directory
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	// A new descriptor: the old one may have swallowed the error.
	_ = s.file.Close()
	s.file = f
	if err := s.cut(); err != nil {
		return fmt.Errorf("audit: mend: %w", err)
	}
	// An empty segment serves as it is: one that is begun at each attempt would
	// leave a trail of them.
	if s.size > 0 {
		if err := s.begin(s.number + 1); err != nil {
			return err
		}
	}
	s.broken = false
	return nil
}

func (s *FileSink) reservePath() string { return filepath.Join(s.opts.Dir, "reserve") }

// reserve holds back space for urgent records.
func (s *FileSink) reserve() error {
	f, err := os.OpenFile(s.reservePath(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit: reserve: %w", err)
	}
	err = s.step("reserve", func() error { return unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // a file system that can't promise space
	}
	if err != nil {
		err = fmt.Errorf("audit: hold back %d bytes: %w\nhint: free disk space", reserveBytes, err)
	}
	return errors.Join(err, f.Close())
}

func (s *FileSink) step(op string, do func() error) error {
	if err := s.opts.Fault(op); err != nil {
		return err
	}
	return do()
}

// Close closes the ledger's files.
func (s *FileSink) Close() error {
	var errs []error
	if s.file != nil {
		errs = append(errs, s.file.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the ledger's directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
