package secret

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// locked returns a buffer that is never written to swap. It lies within pages
// of its own, since locks don't nest: a neighbour's unlock would be ours. The
// lock ends with the buffer, which the collector does not move.
func locked(size int) ([]byte, error) {
	page := os.Getpagesize()
	whole := (size + page - 1) / page * page
	room := make([]byte, whole+page)
	start := -int(uintptr(unsafe.Pointer(&room[0]))) & (page - 1) //nolint:gosec // only its place in a page is asked for
	pages := room[start : start+whole : start+whole]
	if err := unix.Mlock(pages); err != nil {
		return nil, fmt.Errorf("%w: %w\nhint: raise the limit of locked memory (LimitMEMLOCK= of the unit, ulimit -l)", ErrLock, err)
	}
	// A finalizer and no cleanup: the memory must not be another secret's yet.
	runtime.SetFinalizer(&room[0], func(first *byte) {
		room := unsafe.Slice(first, whole+page) //nolint:gosec // as it was made
		clear(room)
		_ = unix.Munlock(room[start : start+whole]) // what stays locked only counts towards the limit
	})
	return pages[:size], nil
}
