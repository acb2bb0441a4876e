package awskms

import (
	"bytes"
	"io"
	"net/http"
)

// An atOnce sends a request's head and body in one packet: net/http does that
// only for bodies whose type it knows, and a KMS request is a few hundred bytes.
type atOnce struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t atOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 {
		return t.Transport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if closed := r.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	whole := *r // a RoundTripper must not change what it was given
	whole.Body = io.NopCloser(bytes.NewReader(body))
	return t.Transport.RoundTrip(&whole)
}
