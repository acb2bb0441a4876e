package issuertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/plugins"
)

func pluginInspectable(t conformance.T, p Plugin) {
	needInspector(t, p)
	for _, alg := range p.algorithms(t) {
		k, _ := p.newKey(t, alg)
		p.readsBack(t, string(alg), p.draft(t, k), p.Grant, k)
	}
}

func pluginNamesKey(t conformance.T, p Plugin) {
	needInspector(t, p)
	k, _ := p.key(t)
	d := p.draft(t, k)
	other := k
	other.ID = "another"
	p.mustRefuse(t, "a draft for another kid", d, other, nil)
	for _, alg := range p.algorithms(t) {
		if alg == k.Algorithm {
			continue
		}
		other, _ := p.newKey(t, alg)
		other.ID = k.ID
		p.mustRefuse(t, fmt.Sprintf("a draft for %s, of a key for %s", k.Algorithm, alg), d, other, nil)
	}
}

func (p Plugin) mustRefuse(t conformance.T, what string, d plugins.Draft, k plugins.VerifyingKey, token plugins.Token) {
	t.Helper()
	if _, err := p.Inspector.Inspect(t.Context(), d, k, token); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Inspect of %s: got %v, want ErrRefused", what, err)
	}
}

func pluginFlips(t conformance.T, p Plugin) {
	needInspector(t, p)
	k, _ := p.key(t)
	d := p.draft(t, k)
	for i := range d.ToBeSigned {
		changed := d
		changed.ToBeSigned = bytes.Clone(d.ToBeSigned)
		changed.ToBeSigned[i] ^= 1 << (i % 8)
		p.mustNotSay(t, fmt.Sprintf("a flipped bit in byte %d of %d", i, len(d.ToBeSigned)), changed, k)
	}
}

// mustNotSay wants a changed draft to be refused, or to read as another grant.
func (p Plugin) mustNotSay(t conformance.T, what string, d plugins.Draft, k plugins.VerifyingKey) {
	t.Helper()
	says, err := p.Inspector.Inspect(t.Context(), d, k, nil)
	if err == nil && says.Equal(p.Grant) {
		t.Errorf("%s is not seen", what)
	} else if err != nil && !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("%s: got %v, want ErrRefused", what, err)
	}
}

// parts are the byte strings of a frame.
func parts(f *plugins.Frame) map[string]*[]byte {
	return map[string]*[]byte{"prefix": &f.Prefix, "head": &f.Head, "tail": &f.Tail, "suffix": &f.Suffix}
}

func frameIsRead(t conformance.T, p Plugin) {
	needInspector(t, p)
	k, _ := p.key(t)
	d := p.draft(t, k)
	for name, part := range parts(&d.Frame) {
		for i := range *part {
			whole := *part
			*part = bytes.Clone(whole)
			(*part)[i] ^= 1 << (i % 8)
			p.mustNotSay(t, fmt.Sprintf("a flipped bit in byte %d of the frame's %s", i, name), d, k)
			*part = whole
		}
		whole := *part
		*part = append(bytes.Clone(whole), 'x')
		p.mustNotSay(t, "a byte more in the frame's "+name, d, k)
		*part = whole
	}
	for _, form := range []plugins.Form{0, plugins.Raw, plugins.DER, plugins.SSH, 9} {
		for _, encoding := range []plugins.Encoding{0, plugins.Binary, plugins.Base64URL, plugins.Base64, 9} {
			changed := d
			changed.Frame.Form, changed.Frame.Encoding = form, encoding
			if !changed.Frame.Equal(d.Frame) {
				p.mustNotSay(t, fmt.Sprintf("form %d and encoding %d", form, encoding), changed, k)
			}
		}
	}
}

// oddInputs are grants that callers get past a lax policy.
func oddInputs(g plugins.Grant) map[string]plugins.Grant {
	all := map[string]plugins.Grant{"nothing": {}}
	add := func(name string, edit func(*plugins.Grant)) {
		changed := g
		edit(&changed)
		all[name] = changed
	}
	add("a huge subject", func(g *plugins.Grant) { g.Subject = strings.Repeat("s", 100<<10) })
	add("huge claims", func(g *plugins.Grant) { g.Claims = []byte(`{"a":"` + strings.Repeat("x", 100<<10) + `"}`) })
	add("many audiences", func(g *plugins.Grant) { g.Audience = slices.Repeat([]string{"https://a.example"}, 5000) })
	add("deep claims", func(g *plugins.Grant) {
		g.Claims = []byte(`{"a":` + strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000) + `}`)
	})
	add("deep objects", func(g *plugins.Grant) {
		g.Claims = []byte(strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000))
	})
	for _, claims := range []string{"\x00\xff", `{"a":"` + "\xff" + `"}`, `{"a":"\ud800"}`, `{"a":1,"a":2}`, `{"sub":"root"}`, `{"a":1e400}`,
		`{"a":9007199254740993}`, `[]`, `null`, `{`, `{"a":1} x`, `{"__proto__":{"sub":"root"}}`, `{"a":NaN}`} {
		add("claims "+fmt.Sprintf("%q", claims), func(g *plugins.Grant) { g.Claims = []byte(claims) })
	}
	add("control characters", func(g *plugins.Grant) { g.Subject = "a\x00b\nc\u2028d\u202ee\U0001F600" })
	add("an empty audience", func(g *plugins.Grant) { g.Audience = []string{""} })
	add("no audience", func(g *plugins.Grant) { g.Audience = nil })
	for _, seconds := range []int64{-1 << 62, -62135596800, -1, 0, 1<<32 + 1, 253402300800, 1 << 53, 1<<62 - 1} {
		add(fmt.Sprintf("an end at %d", seconds), func(g *plugins.Grant) { g.Expires = time.Unix(seconds, 0).UTC() })
		add(fmt.Sprintf("a beginning at %d", seconds), func(g *plugins.Grant) { g.NotBefore = time.Unix(seconds, 0).UTC() })
	}
	return all
}

func oddGrants(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	pid := p.Issuer.PID()
	for what, g := range oddInputs(p.Grant) {
		d, err := p.Issuer.Prepare(t.Context(), g, k)
		if err != nil && !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Prepare of a grant with %s: got %v, want a draft or ErrRefused", what, err)
		}
		if err == nil && p.Inspector != nil {
			// Refusing is as good: then nothing is signed.
			says, err := p.Inspector.Inspect(t.Context(), d, k, nil)
			if err == nil && !says.Equal(g) {
				t.Errorf("%s: the draft says another %s than was granted", what, says.Diff(g))
			} else if err != nil && !errors.Is(err, plugins.ErrRefused) {
				t.Errorf("Inspect of a draft with %s: got %v", what, err)
			}
		}
	}
	p.draft(t, k) // it still works
	unharmed(t, p, pid)
}

func oddDrafts(t conformance.T, p Plugin) {
	needInspector(t, p)
	k, _ := p.key(t)
	d := p.draft(t, k)
	tbs := d.ToBeSigned
	for what, odd := range map[string][]byte{
		"nothing": nil, "a zero": {0}, "a half": tbs[:len(tbs)/2], "all but a byte": tbs[:len(tbs)-1], "twice itself": append(bytes.Clone(tbs), tbs...),
		"a byte more": append(bytes.Clone(tbs), 0), "100 KiB of zeros": make([]byte, 100<<10), "open brackets": bytes.Repeat([]byte("["), 100<<10),
		"CBOR's open arrays": bytes.Repeat([]byte{0x9f}, 100<<10), "an array of 2^62": {0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0}, "a string of 2^62": {0x5b, 0x40, 0, 0, 0, 0, 0, 0, 0},
		"not UTF-8": bytes.Repeat([]byte{0xff}, 1000),
	} {
		changed := d
		changed.ToBeSigned = odd
		p.mustNotSay(t, what, changed, k)
	}
	p.readsBack(t, "after all that", d, p.Grant, k)
}

func framesFit(t conformance.T, p Plugin) {
	for _, alg := range p.algorithms(t) {
		k, sign := p.newKey(t, alg)
		d := p.draft(t, k)
		if err := d.Frame.Check(alg); err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		token, err := d.Frame.Join(alg, sign(d.ToBeSigned))
		if err != nil {
			t.Errorf("%s: Join: %v", alg, err)
			continue
		}
		if p.Inspector == nil {
			continue
		}
		says, err := p.Inspector.Inspect(t.Context(), d, k, token)
		if err != nil || !says.Equal(p.Grant) {
			t.Errorf("%s: Inspect of the finished token: %v, and it says another %q", alg, err, says.Diff(p.Grant))
		}
	}
}

func wrongSignatures(t conformance.T, p Plugin) {
	needInspector(t, p)
	k, sign := p.key(t)
	d := p.draft(t, k)
	join := func(message []byte) plugins.Token {
		token, err := d.Frame.Join(k.Algorithm, sign(message))
		if err != nil {
			t.Fatalf("Join: %v", err)
		}
		return token
	}
	good := join(d.ToBeSigned)
	p.mustRefuse(t, "a token with the signature of other bytes", d, k, join([]byte("other bytes")))
	p.mustRefuse(t, "a token that is cut", d, k, good[:len(good)-1])
	p.mustRefuse(t, "a token with a byte more", d, k, append(bytes.Clone(good), 'A'))
	p.mustRefuse(t, "a token that is something else", d, k, plugins.Token("x"))
	other, _ := p.newKey(t, k.Algorithm)
	p.mustRefuse(t, "a token for another key of the same kid", d, other, good)
	for i := 0; i < len(good); i += 1 + len(good)/64 {
		changed := bytes.Clone(good)
		changed[i] ^= 4
		says, err := p.Inspector.Inspect(t.Context(), d, k, changed)
		if err == nil && says.Equal(p.Grant) {
			t.Errorf("a flipped bit in byte %d of the token's %d is not seen", i, len(good))
		}
	}
}

func pluginConcurrent(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alone := make([]plugins.Draft, 64)
	grants := make([]plugins.Grant, len(alone))
	for i := range alone {
		grants[i] = p.Grant
		grants[i].TokenID = p.tokenID(i)
		var err error
		if alone[i], err = p.Issuer.Prepare(ctx, grants[i], k); err != nil {
			t.Fatalf("Prepare: %v", err)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(alone))
	for i := range alone {
		wg.Go(func() {
			for range 8 {
				d, err := p.Issuer.Prepare(ctx, grants[i], k)
				if err == nil && !sameDraft(d, alone[i]) {
					err = fmt.Errorf("request %d: another draft than when it was alone", i)
				}
				if err == nil && p.Inspector != nil {
					var says plugins.Grant
					if says, err = p.Inspector.Inspect(ctx, d, k, nil); err == nil && !says.Equal(grants[i]) {
						err = fmt.Errorf("request %d: Inspect says another %s", i, says.Diff(grants[i]))
					}
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%v", err)
	}
}

// inTime keeps 64 requests under way and looks at none that was slow: a process
// that misses its deadline is ended, which shows.
func inTime(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	pid := p.Issuer.PID()
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for i := range errs {
		wg.Go(func() {
			for range 32 {
				if _, err := p.Issuer.Prepare(t.Context(), p.Grant, k); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("of 64 callers with 32 requests each, with a deadline of %v: %v", p.Deadline, err)
	}
	unharmed(t, p, pid)
}

func callersLeave(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	pid := p.Issuer.PID()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, _ = p.Issuer.Prepare(ctx, p.Grant, k)
			if p.Inspector != nil {
				_, _ = p.Inspector.Inspect(ctx, plugins.Draft{}, k, nil)
			}
		})
	}
	wg.Wait()
	p.draft(t, k)
	unharmed(t, p, pid)
}
