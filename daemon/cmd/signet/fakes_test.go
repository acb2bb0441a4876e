package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/conformance/faultwire"
)

// The clouds of a script.
type clouds struct {
	aws *fakekms.Server
	gcp *fakegcpkms.Server

	before map[string]int // requests until the last awsfault, by operation
}

// asked is how often AWS was asked for an operation since the last awsfault.
func (c *clouds) asked(operation string) int { return c.aws.Count(operation) - c.before[operation] }

// fakeKMS starts both clouds' KMS for the script: KMS_URL, and credentials for
// it; GCP_ADDRESS and GCP_RING.
func fakeKMS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: fakekms")
	}
	c, _ := ts.Value("clouds").(*clouds)
	c.aws = fakekms.New(time.Now, 50*time.Millisecond)
	ts.Defer(c.aws.Close)
	var err error
	c.gcp, err = fakegcpkms.New(time.Now, 50*time.Millisecond)
	ts.Check(err)
	ts.Defer(c.gcp.Close)
	for name, h := range map[string]http.Handler{
		"KMS_FAULTS": faultwire.Handler(c.aws.Begin(), c.aws.Clear), "GCP_FAULTS": faultwire.Handler(c.gcp.Begin(), c.gcp.Clear),
	} {
		control := httptest.NewServer(h)
		ts.Defer(control.Close)
		ts.Setenv(name, control.URL)
	}
	ts.Setenv("GCP_ADDRESS", c.gcp.Address)
	ts.Setenv("GCP_RING", fakegcpkms.Ring)
	for name, value := range map[string]string{
		"KMS_URL": c.aws.URL, "AWS_ACCESS_KEY_ID": fakekms.AccessKey, "AWS_SECRET_ACCESS_KEY": fakekms.SecretKey,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		ts.Setenv(name, value)
	}
}

var awsFaults = map[string]fakekms.Fault{
	"blackhole": {Action: fakekms.BlackHole},
	"internal":  {Action: fakekms.Answer, Kind: "KMSInternalException", Status: 500},
}

// awsFault has every request for an operation meet a fault from now on; "none"
// ends all faults.
func awsFault(ts *testscript.TestScript, neg bool, args []string) {
	c, _ := ts.Value("clouds").(*clouds)
	c.before = map[string]int{}
	for _, r := range c.aws.Log() {
		c.before[r.Operation]++
	}
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: awsfault none | OPERATION blackhole|internal, after fakekms")
	case args[0] == "none":
		c.aws.Clear()
	default:
		f, ok := awsFaults[args[1]]
		if !ok {
			ts.Fatalf("fault %q is not known", args[1])
		}
		f.Operation = args[0]
		c.aws.Set(f)
	}
}

// awsAsked waits until an operation was asked for at least that often since the
// last awsfault; with ! it holds that it was asked for no more often.
func awsAsked(ts *testscript.TestScript, neg bool, args []string) {
	c, _ := ts.Value("clouds").(*clouds)
	if len(args) != 2 || c.aws == nil {
		ts.Fatalf("usage: awsasked OPERATION N, after fakekms")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if neg {
		if got := c.asked(args[0]); got > n {
			ts.Fatalf("%s was asked for %d times, want at most %d", args[0], got, n)
		}
		return
	}
	for begun := time.Now(); c.asked(args[0]) < n; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			ts.Fatalf("%s was asked for %d times, want %d", args[0], c.asked(args[0]), n)
		}
	}
}

// scrape writes what metrics.sock has into a file.
func scrape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: scrape SOCKET FILE")
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	}
	c := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://signet/metrics")
	ts.Check(err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
}
