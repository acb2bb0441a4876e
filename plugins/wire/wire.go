// Package wire is what both ends of the connection between the daemon and an
// issuer process must agree on: the handshake, the limits, and how the types
// of package plugins are written as messages.
package wire

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
)

// What go-plugin compares before anything else. The cookie is no secret: it
// keeps a person who starts an issuer by hand from waiting for nothing.
const (
	Version     = 1
	CookieKey   = "SIGNET_ISSUER"
	CookieValue = "b3a1f0d2-started-by-the-daemon"
)

// The limits of the wire. Each end keeps to them and holds the other to them.
const (
	MaxBatch   = 64        // requests in one message
	MaxRequest = 256 << 10 // one request, in bytes
	MaxDraft   = 128 << 10 // one draft, in bytes
	MaxText    = 256       // a refusal, or the id of a key, in bytes
	MaxMessage = 1 << 20   // one message, in bytes; a single request or draft always fits

	MaxOverhead = 128 // what a request or a reply has besides grant, key and draft
)

// ErrMalformed is returned for a message that cannot be read as what it
// should be.
var ErrMalformed = errors.New("malformed message")

// PutGrant writes g into m, which may have been used before, and returns how
// many bytes that is on the wire, at most. It returns ErrRefused for a grant
// that the wire cannot carry whole: text that is not UTF-8, a time with a
// fraction of a second, or more than MaxRequest.
//
// Empty and nil lists, maps and claims are the same on the wire. m shares
// memory with g.
func PutGrant(m *pluginsv1.Grant, g plugins.Grant) (size int, err error) {
	size, err = fits(g)
	if err != nil {
		return 0, err
	}
	m.Profile, m.Type, m.Issuer = g.Profile, g.Type, g.Issuer
	m.TokenId, m.Subject = g.TokenID, g.Subject
	m.Audience, m.Scope = g.Audience, g.Scope
	m.IssuedAt, m.NotBefore, m.Expires = g.IssuedAt.Unix(), g.NotBefore.Unix(), g.Expires.Unix()
	m.HolderKind, m.HolderValue = g.Holder.Kind, g.Holder.Value
	m.Claims = g.Claims
	m.Serial, m.Principals = g.Serial, g.Principals
	m.Options, m.Extensions, m.Assertion = g.Options, g.Extensions, g.Assertion
	return size, nil
}

// Grant reads what PutGrant wrote.
func Grant(m *pluginsv1.Grant) plugins.Grant {
	return plugins.Grant{
		Profile: m.GetProfile(), Type: m.GetType(), Issuer: m.GetIssuer(),
		TokenID: m.GetTokenId(), Subject: m.GetSubject(),
		Audience: m.GetAudience(), Scope: m.GetScope(),
		IssuedAt: seconds(m.GetIssuedAt()), NotBefore: seconds(m.GetNotBefore()), Expires: seconds(m.GetExpires()),
		Holder: plugins.Holder{Kind: m.GetHolderKind(), Value: m.GetHolderValue()},
		Claims: m.GetClaims(),
		Serial: m.GetSerial(), Principals: m.GetPrincipals(),
		Options: m.GetOptions(), Extensions: m.GetExtensions(), Assertion: m.GetAssertion(),
	}
}

func seconds(s int64) time.Time { return time.Unix(s, 0).UTC() }

// Draft reads a draft out of a message, ErrMalformed if it is none.
func Draft(m *pluginsv1.Draft) (plugins.Draft, error) {
	form, encoding := m.GetForm(), m.GetEncoding()
	// A plain conversion would turn form 257 into form 1.
	if form > math.MaxUint8 || encoding > math.MaxUint8 {
		return plugins.Draft{}, fmt.Errorf("draft: form %d, encoding %d: %w", form, encoding, ErrMalformed)
	}
	return plugins.Draft{
		ToBeSigned: m.GetToBeSigned(),
		Frame: plugins.Frame{
			Prefix: m.GetPrefix(), Head: m.GetHead(), Tail: m.GetTail(), Suffix: m.GetSuffix(),
			Form: plugins.Form(form), Encoding: plugins.Encoding(encoding),
		},
	}, nil
}

// NewDraft writes d as a message, which shares memory with d. It returns
// ErrRefused for a draft of more than MaxDraft bytes.
func NewDraft(d plugins.Draft) (*pluginsv1.Draft, error) {
	f := d.Frame
	if n := len(d.ToBeSigned) + len(f.Prefix) + len(f.Head) + len(f.Tail) + len(f.Suffix); n > MaxDraft {
		return nil, fmt.Errorf("the draft has %d bytes, the limit is %d: %w", n, MaxDraft, plugins.ErrRefused)
	}
	return &pluginsv1.Draft{
		ToBeSigned: d.ToBeSigned, Prefix: f.Prefix, Head: f.Head, Tail: f.Tail, Suffix: f.Suffix,
		Form: uint32(f.Form), Encoding: uint32(f.Encoding),
	}, nil
}

// NewInspect writes what Inspect is asked, which shares memory with d and t. It
// returns ErrRefused for a draft of more than MaxDraft bytes, or a token of more
// than plugins.MaxToken.
func NewInspect(d plugins.Draft, k *pluginsv1.VerifyingKey, t plugins.Token) (*pluginsv1.InspectRequest, error) {
	draft, err := NewDraft(d)
	if err != nil {
		return nil, err
	}
	if len(t) > plugins.MaxToken {
		return nil, fmt.Errorf("the token has %d bytes, the limit is %d: %w", len(t), plugins.MaxToken, plugins.ErrRefused)
	}
	return &pluginsv1.InspectRequest{Draft: draft, Key: k, Token: t}, nil
}

// fits refuses a grant that would not arrive as it is. Without it one
// caller's broken text fails the whole batch, because protobuf refuses to
// write a string that is not UTF-8.
func fits(g plugins.Grant) (size int, err error) {
	c := counter{bytes: fixed + len(g.Claims) + len(g.Assertion)}
	c.add(g.Profile, g.Type, g.Issuer, g.TokenID, g.Subject, g.Holder.Kind, g.Holder.Value)
	c.add(g.Audience...)
	c.add(g.Scope...)
	c.add(g.Principals...)
	c.addMap(g.Options)
	c.addMap(g.Extensions)
	if c.broken {
		return 0, fmt.Errorf("the grant has text that is not UTF-8: %w", plugins.ErrRefused)
	}
	if c.bytes > MaxRequest {
		return 0, fmt.Errorf("the grant has %d bytes, the limit is %d: %w", c.bytes, MaxRequest, plugins.ErrRefused)
	}
	if g.IssuedAt.Nanosecond()|g.NotBefore.Nanosecond()|g.Expires.Nanosecond() != 0 {
		return 0, fmt.Errorf("the grant has a time that is not a whole second: %w", plugins.ErrRefused)
	}
	return c.bytes, nil
}

// What protobuf adds, at most: to a grant, and to each string in it, half an
// entry of a map included.
const (
	fixed    = 64
	overhead = 8
)

// A counter adds up the bytes of a grant as protobuf writes them.
type counter struct {
	bytes  int
	broken bool
}

func (c *counter) add(text ...string) {
	for _, s := range text {
		c.bytes += len(s) + overhead
		c.broken = c.broken || !utf8.ValidString(s)
	}
}

func (c *counter) addMap(m map[string]string) {
	for k, v := range m {
		c.add(k, v)
	}
}
