package sandbox

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// libraries are where a loader looks (ld.so(8)). A library is only read: to map
// it is not to execute it.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"}

// withLoader adds what a dynamically linked target needs to start: its loader
// and where that looks. A static one needs nothing.
func (c Confinement) withLoader(target *os.File) (Confinement, error) {
	loader, err := loaderOf(target)
	if err != nil || loader == "" {
		return c, err
	}
	c.Execute = append([]string{loader}, c.Execute...)
	read := []string{filepath.Dir(loader)}
	for _, path := range libraries {
		if _, err := os.Stat(path); err == nil {
			read = append(read, path)
		}
	}
	c.Read = append(read, c.Read...)
	return c, nil
}

// loaderOf is the program's interpreter (PT_INTERP), "" for none.
func loaderOf(target *os.File) (string, error) {
	f, err := elf.NewFile(target)
	if err != nil {
		return "", fmt.Errorf("not a program that Linux runs by itself: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		loader := strings.TrimRight(string(name), "\x00")
		if err == nil && !filepath.IsAbs(loader) {
			err = errors.New("its loader has no absolute path")
		}
		return loader, err
	}
	return "", nil
}
