package server_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/jwt"
)

// An outsider reads JWTs back as a plug-in's second process would: frame,
// token and all.
type outsider struct {
	down  error
	blink func(plugins.Token) bool // passes over what it should have seen
	widen bool
}

func (o *outsider) Inspect(_ context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	if o.down != nil {
		return plugins.Grant{}, o.down
	}
	in := jwt.NewInspector()
	g, err := in.Inspect(d.ToBeSigned, k)
	if err != nil {
		return plugins.Grant{}, err
	}
	if f, err := in.Frame(d.ToBeSigned); err != nil || !f.Equal(d.Frame) {
		return plugins.Grant{}, fmt.Errorf("frame: %w", plugins.ErrRefused)
	}
	if t != nil {
		tbs, sig, err := in.Parse(t, k, nil)
		if err != nil || !bytes.Equal(tbs, d.ToBeSigned) || k.Algorithm.Verify(k.Public, tbs, sig) != nil {
			return plugins.Grant{}, fmt.Errorf("token: %w", plugins.ErrRefused)
		}
	}
	if o.blink != nil && o.blink(t) {
		return plugins.Grant{}, fmt.Errorf("of no mind: %w", plugins.ErrRefused)
	}
	if o.widen {
		g.Scope = append(g.Scope, "admin")
	}
	return g, nil
}

// foreign is a rig whose format is a plug-in's.
func foreign(t *testing.T, f server.Foreign) *rig {
	t.Helper()
	r := newRig(t)
	if f.Resembles == nil {
		f.Resembles = func([]byte) string { return "" }
	}
	r.formats["jwt"] = server.Format{Issuer: r, Reader: f}
	return r
}

func TestAForeignFormatIsReadBackTwice(t *testing.T) {
	o := &outsider{}
	r := foreign(t, server.Foreign{Inspector: o})
	var read []string
	o.blink = func(t plugins.Token) bool { read = append(read, string(t)); return false }
	token := must[string](t)(func() (string, error) { tok, err := r.issue(); return tok.Value, err }())
	if len(read) != 2 || read[0] != "" || read[1] != token {
		t.Errorf("read back %q, want the draft, then the token that was given out", read)
	}
}

// Whatever the second process dislikes, or says otherwise, ends the request: of
// a draft before the key is used, of a token before it is released.
func TestWhatAForeignInspectorDislikesIsNotReleased(t *testing.T) {
	rows := map[string]struct {
		o       outsider
		intents uint64
		want    codes.Code
	}{
		"the draft":     {outsider{blink: func(t plugins.Token) bool { return t == nil }}, 0, codes.Internal},
		"the token":     {outsider{blink: func(t plugins.Token) bool { return t != nil }}, 1, codes.Internal},
		"another grant": {outsider{widen: true}, 0, codes.Internal},
		"it is down":    {outsider{down: host.ErrDown}, 0, codes.Unavailable},
	}
	for name, row := range rows {
		r := foreign(t, server.Foreign{Inspector: &row.o})
		_, err := r.issue()
		expect(t, name, err, row.want)
		if n := r.count(audit.KindIntent); n != row.intents {
			t.Errorf("%s: %d intents on record, want %d", name, n, row.intents)
		}
	}
}

func TestAHostileForeignIssuerGetsNothingSigned(t *testing.T) {
	r := foreign(t, server.Foreign{Inspector: &outsider{}})
	n := uint64(0)
	try := func(name string, spoil func(*plugins.Draft)) {
		r.spoil = spoil
		_, err := r.issue()
		expect(t, name, err, codes.Internal)
		n++
	}
	for field := range 4 {
		for _, at := range []int{0, 40, 80, 120} {
			try(fmt.Sprintf("field %d, byte %d", field, at), func(d *plugins.Draft) {
				to := []*[]byte{&d.Frame.Prefix, &d.Frame.Head, &d.Frame.Tail, &d.Frame.Suffix}[field]
				*to = append(bytes.Clone(*to), 'x')
				(*to)[at%len(*to)] ^= 4
			})
		}
	}
	for i := 0; i < 400; i += 7 {
		try(fmt.Sprintf("byte %d", i), func(d *plugins.Draft) {
			d.ToBeSigned = bytes.Clone(d.ToBeSigned)
			d.ToBeSigned[i%len(d.ToBeSigned)] ^= 4
		})
	}
	if r.count(audit.KindIntent) != 0 || r.count(audit.KindDenied) != n {
		t.Errorf("%d intents, %d refusals on record; want none, and %d", r.count(audit.KindIntent), r.count(audit.KindDenied), n)
	}
}

// What another format's verifier would take is refused before any process of
// the author's is asked, and for a blind key too.
func TestAForeignDraftIsNoOtherFormats(t *testing.T) {
	jws := func(tbs []byte) string { return "a JWS signing input" }
	for name, f := range map[string]server.Foreign{
		"read": {Inspector: &outsider{}, Resembles: jws}, "blind": {Blind: true, Resembles: jws},
	} {
		r := foreign(t, f)
		_, err := r.issue()
		expect(t, name, err, codes.Internal)
		if n := r.count(audit.KindIntent); n != 0 {
			t.Errorf("%s: %d intents on record, want none", name, n)
		}
	}
	_, err := foreign(t, server.Foreign{Blind: true}).issue()
	expect(t, "blind, and nothing else", err, codes.OK)
	_, err = foreign(t, server.Foreign{}).issue()
	expect(t, "nobody reads, and not blind", err, codes.Internal)
}

func TestAForeignFormatHasNoSignLaneAndIsNotPublished(t *testing.T) {
	r := foreign(t, server.Foreign{Inspector: &outsider{}})
	_, err := r.sign(r.body())
	expect(t, "Sign", err, codes.InvalidArgument)
	if err == nil || !strings.Contains(err.Error(), "hint: ask for one with Issue") {
		t.Errorf("Sign: got %v, want to be told to use Issue", err)
	}
	keys, set, err := r.client.PublicKeys(t.Context(), "")
	if err != nil || len(keys) != 0 || strings.Contains(string(set), `"kid"`) {
		t.Errorf("PublicKeys of all: got %d keys and %s, %v; want none", len(keys), set, err)
	}
	if keys, _, err = r.client.PublicKeys(t.Context(), "ci"); err != nil || len(keys) != 1 {
		t.Errorf("PublicKeys of the profile: got %d, %v; want its one key", len(keys), err)
	}
}
