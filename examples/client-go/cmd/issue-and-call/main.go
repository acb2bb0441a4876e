// Command issue-and-call shows a service that asks signet for a token instead
// of holding a key: once as the daemon writes it (Issue), once as a token body
// that the service wrote itself (Sign).
//
//	SIGNET_RUNTIME_DIR=ring/run go run ./examples/client-go/cmd/issue-and-call demo
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/signetd/signet/daemon/client"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:], time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "issue-and-call:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string, now time.Time) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: issue-and-call PROFILE")
	}
	c, err := client.Dial(filepath.Join(os.Getenv("SIGNET_RUNTIME_DIR"), "issue.sock"))
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the process ends here
	token, err := c.Issue(ctx, client.Request{
		Profile: args[0], Subject: "demo/example", Audience: []string{"https://api.example"}, TTL: time.Minute,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Authorization: Bearer", token.Value)

	body, sig, err := c.SignFresh(ctx, args[0], func(k client.PublicKey) ([]byte, error) {
		return write(k, now)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "own token: %s.%s\n", body, base64.RawURLEncoding.EncodeToString(sig.Bytes))
	return nil
}

// write makes a JWS body by hand, as an existing issuer would.
func write(k client.PublicKey, now time.Time) ([]byte, error) {
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": k.Kid, "typ": "at+jwt"})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(map[string]any{
		"iss": "https://signet.example", "sub": "demo/example", "aud": "https://api.example", "client_id": "demo",
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": fmt.Sprint("example-", now.UnixNano()),
	})
	if err != nil {
		return nil, err
	}
	enc := base64.RawURLEncoding
	return []byte(enc.EncodeToString(header) + "." + enc.EncodeToString(payload)), nil
}
