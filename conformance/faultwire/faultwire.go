// Package faultwire has a fake in one process go wrong when a suite in another
// says so: the checks of level 3 are run through a cloud's fake as they are
// through a shim in front of a PKCS #11 module.
//
//	GET /        the names of what can go wrong, a JSON array
//	POST /NAME   it goes wrong from now on, instead of anything else
//	DELETE /     nothing does
package faultwire

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Handler serves what can go wrong: names, each with what begins it, and what
// ends all.
func Handler(begin map[string]func(), end func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		names := []string{}
		for name := range begin {
			names = append(names, name)
		}
		slices.Sort(names)
		_ = json.NewEncoder(w).Encode(names) // a client that has gone asks again
	})
	mux.HandleFunc("POST /{name}", func(w http.ResponseWriter, r *http.Request) {
		f, ok := begin[r.PathValue("name")]
		if !ok {
			http.Error(w, "there is no such fault", http.StatusNotFound)
			return
		}
		f()
	})
	mux.HandleFunc("DELETE /{$}", func(http.ResponseWriter, *http.Request) { end() })
	return mux
}

// A Client is the suite's end.
type Client struct {
	base  string
	http  *http.Client
	Names []string // what can go wrong
}

// Dial asks the fake at a URL what can go wrong there. It must be on loopback: a
// fake holds no keys that are worth anything.
func Dial(ctx context.Context, base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("faultwire: %w", err)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("faultwire: %q is not on loopback\nhint: it is the URL that `go run ./conformance/cmd/fakekms` prints", base)
	}
	c := &Client{base: u.JoinPath("/").String(), http: &http.Client{Timeout: 10 * time.Second}}
	body, err := c.do(ctx, http.MethodGet, "")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &c.Names); err != nil {
		return nil, fmt.Errorf("faultwire: what can go wrong at %s: %w", base, err)
	}
	return c, nil
}

// Begin has something go wrong.
func (c *Client) Begin(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodPost, url.PathEscape(name))
	return err
}

// End has nothing go wrong any more.
func (c *Client) End(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, "")
	return err
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("faultwire: %w", err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("faultwire: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("faultwire: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("faultwire: %s %s: %s: %s", method, c.base+path, answer.Status, body)
	}
	return body, nil
}
