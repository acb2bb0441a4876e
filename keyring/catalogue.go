package keyring

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/signers"
)

// A State is where a version is in its life.
type State string

// The states. The zero State is none of them and may do nothing.
const (
	Creating  State = "creating"  // on record; the back-end may or may not have the key
	Published State = "published" // verifiers can fetch it; it does not sign
	Signing   State = "signing"   // one version of a name at the most
	Retired   State = "retired"   // signs no more; published until its last token expired
	Revoked   State = "revoked"   // gone from every published set
	Destroyed State = "destroyed" // its private key is gone
)

// moves is the table of legal moves; what it lacks is illegal.
var moves = map[State][]State{
	Creating:  {Published, Revoked, Destroyed},
	Published: {Signing, Revoked},
	Signing:   {Retired, Revoked},
	Retired:   {Destroyed, Revoked},
	Revoked:   {Destroyed},
	Destroyed: {},
}

// Legal reports whether a version may go from one state to another.
func Legal(from, to State) bool { return slices.Contains(moves[from], to) }

// A Version is one key pair of a key. Times are whole seconds, UTC, and zero
// for what has not happened.
type Version struct {
	Number int           `json:"number"`
	ID     signers.KeyID `json:"id"` // what the back-end calls it; on record before it is made
	State  State         `json:"state"`
	Kid    string        `json:"kid,omitempty"`    // what its format calls it; the RFC 7638 thumbprint for JWT
	Public []byte        `json:"public,omitempty"` // PKIX, DER

	Created   time.Time `json:"created,omitzero"`
	Published time.Time `json:"published,omitzero"`
	Activated time.Time `json:"activated,omitzero"`
	Retired   time.Time `json:"retired,omitzero"`
	Drained   time.Time `json:"drained,omitzero"`   // until then a retired version finishes what was begun
	Unpublish time.Time `json:"unpublish,omitzero"` // until then verifiers need it
	Revoked   time.Time `json:"revoked,omitzero"`
	Destroyed time.Time `json:"destroyed,omitzero"`

	// Attested is what the back-end said of the key before it was published.
	Attested []string `json:"attested,omitempty"`

	// Adopted: somebody else made the key, and an operator accepted that the
	// back-end does not vouch for all that it does for keys of ours.
	Adopted bool `json:"adopted,omitempty"`

	// Lifetime is the longest that a token of it may live, in seconds: it only
	// ever grows, since a token lives on when the configuration changes.
	Lifetime int64 `json:"lifetime,omitempty"`

	Quarantined string `json:"quarantined,omitempty"` // why it is not trusted to sign
}

// visible reports whether verifiers are shown the version.
func (v Version) visible(now time.Time) bool {
	switch v.State {
	case Published, Signing:
		return true
	case Retired:
		return now.Before(v.Unpublish)
	case Creating, Revoked, Destroyed:
	}
	return false
}

// drains reports whether the version still finishes what was begun before it
// was retired. Drained is a whole second and counts to its end, so that the
// drain is never shorter than it was said to be.
func (v Version) drains(now time.Time) bool {
	return v.State == Retired && now.Unix() <= v.Drained.Unix()
}

// An Entry is the record of one key, as the store keeps it.
type Entry struct {
	Name      string            `json:"name"`
	Backend   string            `json:"backend"`
	Algorithm signers.Algorithm `json:"algorithm"`
	Format    string            `json:"format"`                        // the one token format this key may sign
	Blind     bool              `json:"allow_blind_signing,omitempty"` // it signs what nothing reads back
	Versions  []Version         `json:"versions"`
}

// A Spec is what a key is, for life.
type Spec struct {
	Backend   string
	Algorithm signers.Algorithm
	Format    string
	Blind     bool // allow_blind_signing: it may sign what nothing reads back, and is never published
}

// Spec returns what the key is.
func (e Entry) Spec() Spec { return Spec{e.Backend, e.Algorithm, e.Format, e.Blind} }

// Is returns an error unless the key is what s says: its back-end, algorithm
// and format are fixed for its life, since verifiers rely on them.
func (e Entry) Is(s Spec) error {
	if e.Spec() == s {
		return nil
	}
	if e.Blind != s.Blind {
		return fmt.Errorf("key %q: allow_blind_signing is %t on record, not %t: %w\nhint: a key keeps this for life: change it back, or make a key of another name",
			e.Name, e.Blind, s.Blind, signers.ErrMismatch)
	}
	return fmt.Errorf("key %q is %s in back-end %q for %q, not %s in %q for %q: %w\nhint: a key keeps these for life: change them back, or choose another name",
		e.Name, e.Algorithm, e.Backend, e.Format, s.Algorithm, s.Backend, s.Format, signers.ErrMismatch)
}

func (e Entry) clone() Entry {
	e.Versions = slices.Clone(e.Versions)
	return e
}

// version finds a version to change.
func (e *Entry) version(number int) (*Version, error) {
	for i := range e.Versions {
		if e.Versions[i].Number == number {
			return &e.Versions[i], nil
		}
	}
	return nil, fmt.Errorf("key %q version %d: %w\nhint: signet key list", e.Name, number, ErrUnknownVersion)
}

// in finds the versions in any of the given states.
func (e *Entry) in(states ...State) []*Version {
	var found []*Version
	for i := range e.Versions {
		if slices.Contains(states, e.Versions[i].State) {
			found = append(found, &e.Versions[i])
		}
	}
	return found
}

// Check says what is wrong with a record, nil if nothing is. It is called on
// every record that is loaded and before any is saved.
func (e Entry) Check() error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	if _, err := e.Algorithm.Params(); err != nil {
		return fmt.Errorf("key %q: %w", e.Name, err)
	}
	if e.Backend == "" || e.Format == "" {
		return fmt.Errorf("key %q: back-end %q or format %q is missing", e.Name, e.Backend, e.Format)
	}
	for i, v := range e.Versions {
		if v.Number != i+1 {
			return fmt.Errorf("key %q: version %d stands at place %d", e.Name, v.Number, i+1)
		}
		if err := v.check(e.Name); err != nil {
			return fmt.Errorf("key %q version %d: %w", e.Name, v.Number, err)
		}
	}
	if n := len(e.in(Signing)); n > 1 {
		return fmt.Errorf("key %q: %d versions are signing", e.Name, n)
	}
	if n := len(e.in(Creating, Published)); n > 1 {
		return fmt.Errorf("key %q: %d versions are staged", e.Name, n)
	}
	return nil
}

// check says what is wrong with a version of the key called name.
func (v Version) check(name string) error {
	if _, ok := moves[v.State]; !ok {
		return fmt.Errorf("state %q is not known", v.State)
	}
	if err := v.ID.Check(); err != nil {
		return err
	}
	// An id of another key's would let this one destroy it.
	ours := fmt.Sprintf("%s-v%d-", name, v.Number)
	if v.Adopted {
		ours = signers.AdoptedPrefix
	}
	if !strings.HasPrefix(string(v.ID), ours) {
		return fmt.Errorf("id %q is another key's", v.ID)
	}
	if (v.Kid == "") != (len(v.Public) == 0) {
		return fmt.Errorf("kid %q and a public key of %d bytes", v.Kid, len(v.Public))
	}
	if v.Kid == "" && slices.Contains([]State{Published, Signing, Retired}, v.State) {
		return fmt.Errorf("%s without a public key", v.State)
	}
	return nil
}

// CheckName says whether name can name a key: 1 to 40 of a-z, 0-9 and '-',
// beginning with a letter.
func CheckName(name string) error {
	ok := len(name) >= 1 && len(name) <= 40 && name[0] >= 'a' && name[0] <= 'z' && signers.KeyID(name).Check() == nil
	if !ok {
		return fmt.Errorf("key name %q: not 1 to 40 of a-z, 0-9 and '-', beginning with a letter", name)
	}
	return nil
}
