package main

import (
	"net/http"
	"net/http/httptest"
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

// awsFault has every request for an operation meet a fault from now on:
// "blackhole" is never answered, "lose" is done and not answered; "none" ends
// all faults.
func awsFault(ts *testscript.TestScript, neg bool, args []string) {
	c, _ := ts.Value("clouds").(*clouds)
	c.before = map[string]int{}
	for _, r := range c.aws.Log() {
		c.before[r.Operation]++
	}
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: awsfault none | OPERATION blackhole|lose, after fakekms")
	case args[0] == "none":
		c.aws.Clear()
	default:
		c.aws.Set(fakekms.Fault{Operation: args[0], Action: map[string]fakekms.Action{"blackhole": fakekms.BlackHole, "lose": fakekms.Lose}[args[1]]})
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
