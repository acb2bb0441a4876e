package tokens

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/signetd/signet/plugins"
)

var (
	// ErrUnknown says that no such token is live: it never was, or it ended.
	ErrUnknown = errors.New("no such token")
	// ErrSpent says that a single-use token was used before.
	ErrSpent = errors.New("token was used before")
	// ErrFull says that as many tokens are remembered as may be.
	ErrFull = errors.New("too many live tokens")

	errTwice = errors.New("token drawn twice: the source of randomness repeats itself")
)

// DefaultMost is how many tokens a Store remembers at a time.
const DefaultMost = 1_000_000

// Margin is for how long a token is remembered after its end. A clock that is
// ahead by less than this makes no used token usable again when it is set right.
const Margin = 24 * time.Hour

// The buckets of the database. ends has a key for each of the others' entries,
// in order of time, so that what is over is found without looking at the rest.
var (
	opaques = []byte("opaque") // SHA-256 of a token -> remembered
	spent   = []byte("spent")  // SHA-256 of profile and token id -> nothing
	ends    = []byte("ends")   // end, bucket, key of that bucket -> nothing
)

// StoreOptions say where a Store keeps what it remembers.
type StoreOptions struct {
	Path string           // a file, its owner's alone; made if it is not there
	Now  func() time.Time // required
	Most int              // tokens at a time; DefaultMost if 0
}

// A Store remembers tokens that can't speak for themselves: opaque ones, by
// their hash alone, and the single-use ones that were used. What it returned is
// on disk: neither a crash nor a restart forgets it. Its methods may be called
// at the same time; those that write share their fsyncs.
type Store struct {
	db    *bbolt.DB
	group group
	now   func() time.Time
	most  int64
	live  atomic.Int64
}

// OpenStore opens the store at o.Path; ErrLocked if another process has it.
func OpenStore(o StoreOptions) (*Store, error) {
	if o.Now == nil {
		return nil, errors.New("tokens: StoreOptions.Now is required")
	}
	if o.Most == 0 {
		o.Most = DefaultMost
	}
	if err := alone(o.Path); err != nil {
		return nil, fmt.Errorf("tokens: %q: %w", o.Path, err)
	}
	db, err := bbolt.Open(o.Path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("tokens: %q: %w\nhint: stop the daemon that has this state_dir, or give this one its own", o.Path, ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("tokens: %q: %w\nhint: restore the file from the newest backup: without it used tokens are good again", o.Path, err)
	}
	s := &Store{db: db, group: group{db: db}, now: o.Now, most: int64(o.Most)}
	if err := db.Update(s.prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("tokens: %q: %w", o.Path, err), db.Close())
	}
	return s, nil
}

// alone refuses a file that others can read or write: it says who has tokens.
func alone(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("mode %04o\nhint: chmod 600 %s", info.Mode().Perm(), path)
	}
	return err
}

func (s *Store) prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{opaques, spent, ends} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	s.live.Store(int64(tx.Bucket(ends).Stats().KeyN))
	return nil
}

// Close closes the store; calls after it fail.
func (s *Store) Close() error { return s.db.Close() }

// Live is how many tokens are remembered.
func (s *Store) Live() int64 { return s.live.Load() }

// remembered is what a grant says, as it is kept on disk.
type remembered struct {
	Profile  string          `json:"profile"`
	Type     string          `json:"type"`
	Issuer   string          `json:"iss"`
	TokenID  string          `json:"jti"`
	Subject  string          `json:"sub"`
	Audience []string        `json:"aud"`
	Scope    []string        `json:"scope,omitempty"`
	IssuedAt int64           `json:"iat"`
	Before   int64           `json:"nbf"`
	Expires  int64           `json:"exp"`
	Holder   *plugins.Holder `json:"cnf,omitempty"`
	Claims   json.RawMessage `json:"claims,omitempty"`
}

func rememberedOf(g plugins.Grant) remembered {
	r := remembered{
		Profile: g.Profile, Type: g.Type, Issuer: g.Issuer, TokenID: g.TokenID, Subject: g.Subject, Audience: g.Audience,
		Scope: g.Scope, IssuedAt: g.IssuedAt.Unix(), Before: g.NotBefore.Unix(), Expires: g.Expires.Unix(), Claims: g.Claims,
	}
	if g.Holder != (plugins.Holder{}) {
		r.Holder = &g.Holder
	}
	return r
}

func (r remembered) grant() plugins.Grant {
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	g := plugins.Grant{
		Profile: r.Profile, Type: r.Type, Issuer: r.Issuer, TokenID: r.TokenID, Subject: r.Subject, Audience: r.Audience,
		Scope: r.Scope, IssuedAt: at(r.IssuedAt), NotBefore: at(r.Before), Expires: at(r.Expires), Claims: r.Claims,
	}
	if r.Holder != nil {
		g.Holder = *r.Holder
	}
	return g
}

// Keep remembers an opaque token until its end. Only its SHA-256 is kept: it
// has 256 random bits, so nobody can guess it from that.
func (s *Store) Keep(token string, g plugins.Grant) error {
	data, err := json.Marshal(rememberedOf(g))
	if err != nil {
		return fmt.Errorf("tokens: keep: %w", err)
	}
	key := sha256.Sum256([]byte(token))
	if err := s.add(opaques, key, data, g.Expires, errTwice); err != nil {
		return fmt.Errorf("tokens: keep: %w", err)
	}
	return nil
}

// Find returns the grant of an opaque token, ErrUnknown if it is not live.
func (s *Store) Find(token string) (plugins.Grant, error) {
	key := sha256.Sum256([]byte(token))
	var r remembered
	err := s.db.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(opaques).Get(key[:])
		if data == nil {
			return ErrUnknown
		}
		return json.Unmarshal(data, &r)
	})
	if err == nil && !s.now().Before(time.Unix(r.Expires, 0)) {
		err = ErrUnknown
	}
	if err != nil {
		return plugins.Grant{}, fmt.Errorf("tokens: find: %w", err)
	}
	return r.grant(), nil
}

// Spend uses up a single-use token: nil once, ErrSpent ever after, whoever asks
// and whatever was restarted in between. It returns when that is on disk.
func (s *Store) Spend(g plugins.Grant) error {
	if err := s.add(spent, spentKey(g), nil, g.Expires, ErrSpent); err != nil {
		return fmt.Errorf("tokens: spend: %w", err)
	}
	return nil
}

// Spent reports whether a single-use token was used.
func (s *Store) Spent(g plugins.Grant) (used bool, err error) {
	key := spentKey(g)
	err = s.db.View(func(tx *bbolt.Tx) error {
		k, _ := tx.Bucket(spent).Cursor().Seek(key[:])
		used = bytes.Equal(k, key[:])
		return nil
	})
	return used, err
}

// spentKey names a token by its profile and id. A profile's name has no zero
// byte in it, so no two tokens have one name.
func spentKey(g plugins.Grant) [sha256.Size]byte {
	return sha256.Sum256([]byte(g.Profile + "\x00" + g.TokenID))
}

// add adds an entry that is not there yet, or returns taken.
func (s *Store) add(bucket []byte, key [sha256.Size]byte, value []byte, end time.Time, taken error) error {
	if s.live.Add(1) > s.most {
		s.live.Add(-1)
		return fmt.Errorf("%d: %w\nhint: give fewer or shorter-lived tokens of this kind, or raise tokens.most", s.most, ErrFull)
	}
	err := s.group.run(func(tx *bbolt.Tx) (refused, fault error) {
		b := tx.Bucket(bucket)
		if k, _ := b.Cursor().Seek(key[:]); bytes.Equal(k, key[:]) {
			return taken, nil
		}
		return nil, errors.Join(b.Put(key[:], value), tx.Bucket(ends).Put(endKey(end, bucket, key[:]), nil))
	})
	if err != nil {
		s.live.Add(-1)
	}
	return err
}

// endKey sorts by time; what follows says which entry ends then.
func endKey(end time.Time, bucket, key []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(max(0, end.Unix())))
	return append(append(b, bucket[0]), key...)
}

// pruneMost bounds the entries that one transaction forgets: others wait for it.
const pruneMost = 1000

// Prune forgets what ended Margin ago and returns how many entries that was.
func (s *Store) Prune() (gone int, err error) {
	last := endKey(s.now().Add(-Margin), []byte{0}, nil)
	for n := pruneMost; n == pruneMost; gone += n {
		err = s.db.Update(func(tx *bbolt.Tx) (err error) {
			n, err = prune(tx, last)
			return err
		})
		if err != nil {
			return gone, fmt.Errorf("tokens: prune: %w", err)
		}
		s.live.Add(int64(-n))
	}
	return gone, nil
}

// prune forgets up to pruneMost entries that ended before last.
func prune(tx *bbolt.Tx, last []byte) (n int, err error) {
	of := map[byte]*bbolt.Bucket{opaques[0]: tx.Bucket(opaques), spent[0]: tx.Bucket(spent)}
	c := tx.Bucket(ends).Cursor()
	for k, _ := c.First(); k != nil && n < pruneMost && bytes.Compare(k, last) < 0; k, _ = c.First() {
		b := of[k[8]]
		if b == nil {
			return n, fmt.Errorf("%w: an end of nothing", ErrDamaged)
		}
		if err := errors.Join(b.Delete(k[9:]), c.Delete()); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
