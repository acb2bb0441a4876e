package keyring

import "context"

// A Store keeps the record of each key. It never sees a private key. Its
// methods may be called at the same time. A name that [CheckName] refuses is an
// error, and so is a record that can't be read whole: it is never an empty one.
type Store interface {
	// Load returns a key's record and its revision, as it is or will be after
	// a power cut. A name without a record gives a zero Entry, revision 0 and
	// no error.
	Load(ctx context.Context, name string) (Entry, Revision, error)

	// List returns the names that have a record, sorted.
	List(ctx context.Context) ([]string, error)

	// Save replaces the record if its revision is still prev (0: there is
	// none), and otherwise returns ErrConflict and changes nothing. When it
	// returns nil the record survives a power cut. After any other error the
	// record is the old one or the new one, whole; Load tells which.
	Save(ctx context.Context, name string, e Entry, prev Revision) (Revision, error)

	// Watch returns a channel that names each record saved from now on, by
	// whomever. It is closed when ctx ends. A slow reader is told a name
	// once for many saves, and never misses the last.
	Watch(ctx context.Context) (<-chan string, error)
}

// A Revision counts the saves of one record, from 1.
type Revision uint64
