package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Units are kept as they are written, and read by Check: so a wrong one is
// reported with its line like any other mistake.

// A Duration is a time with its unit: "90s", "5m", "1h30m".
type Duration string

// D is the duration, 0 for none. It is what Check accepted.
func (d Duration) D() time.Duration {
	t, err := time.ParseDuration(string(d))
	if err != nil {
		return 0
	}
	return t
}

// Or is the duration, or other for none.
func (d Duration) Or(other time.Duration) time.Duration {
	if d == "" {
		return other
	}
	return d.D()
}

func (d Duration) check() error {
	if d == "" {
		return nil
	}
	t, err := time.ParseDuration(string(d))
	if err != nil {
		return fmt.Errorf("%s is not a time with its unit", quote(string(d)))
	}
	if t <= 0 {
		return fmt.Errorf("%s is not more than nothing", quote(string(d)))
	}
	return nil
}

// A Size is a number of bytes with its unit: "64MiB", "1GiB".
type Size string

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// Bytes is the size in bytes, 0 for none.
func (s Size) Bytes() int64 {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(s), u.suffix)
		n, err := strconv.ParseInt(digits, 10, 32)
		if ok && err == nil && n > 0 {
			return n * u.bytes
		}
	}
	return 0
}

func (s Size) check() error {
	if s != "" && s.Bytes() == 0 {
		return fmt.Errorf("%s is not a size with its unit", quote(string(s)))
	}
	return nil
}

// A Mode is a file mode in octal: "0660".
type Mode string

// Perm is the mode, or other for none.
func (m Mode) Perm(other fs.FileMode) fs.FileMode {
	n, err := strconv.ParseUint(string(m), 8, 9)
	if err != nil {
		return other
	}
	return fs.FileMode(n)
}

func (m Mode) check() error {
	if m == "" {
		return nil
	}
	if _, err := strconv.ParseUint(string(m), 8, 9); err != nil {
		return fmt.Errorf("%s is not an octal mode", quote(string(m)))
	}
	return nil
}

// SlogLevel is the level as package slog has it.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}
