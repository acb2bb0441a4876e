package host

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// A call is one Prepare under way. It belongs to its caller until ask, then to
// the session until done is filled, then to its caller again, who uses it for
// another; a caller that goes away earlier leaves it to the session for good.
type call struct {
	request pluginsv1.PrepareRequest // points to grant
	grant   pluginsv1.Grant
	size    int           // bytes on the wire, at most
	done    chan struct{} // holds one
	draft   plugins.Draft
	err     error

	// Guarded by the session's mutex.
	sent     int // the tick at which it was sent
	answered bool
	left     bool // its caller has gone
}

func newCall() *call {
	c := &call{done: make(chan struct{}, 1)}
	c.request.Grant = &c.grant
	return c
}

// forget makes c ready for the next caller and lets go of this one's claims.
func (c *call) forget() {
	c.grant.Reset()
	c.request.Key = nil
	c.draft, c.err = plugins.Draft{}, nil
	c.sent, c.answered, c.left = 0, false, false
}

// finish hands the result to the caller. answered must have been set.
func (c *call) finish(d plugins.Draft, err error) {
	c.draft, c.err = d, err
	c.done <- struct{}{}
}

// result reads an answer. An error that is not ErrRefused is a fault of the
// issuer.
func result(r *pluginsv1.PrepareReply, most int) (plugins.Draft, error) {
	if (r.GetDraft() == nil) == (r.GetRefused() == "") {
		return plugins.Draft{}, fmt.Errorf("answer: neither draft nor refusal, or both: %w", wire.ErrMalformed)
	}
	if r.GetDraft() == nil {
		return plugins.Draft{}, fmt.Errorf("%s: %w", clean(r.GetRefused()), plugins.ErrRefused)
	}
	d, err := wire.Draft(r.GetDraft())
	if err != nil {
		return plugins.Draft{}, err
	}
	f := d.Frame
	// No fault: claims that only just fit the request may have grown, and
	// a caller must not be able to end the process under the others.
	if n := len(d.ToBeSigned) + len(f.Prefix) + len(f.Head) + len(f.Tail) + len(f.Suffix); n > most {
		return plugins.Draft{}, fmt.Errorf("the draft has %d bytes, the limit is %d: %w", n, most, plugins.ErrRefused)
	}
	return d, nil
}

// clean makes text from an issuer fit for a log and a caller: short, one line,
// nothing that a terminal obeys.
func clean(text string) string { return cleanTo(text, wire.MaxText) }

func cleanTo(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
}
