// Command fakekms runs the fakes of both clouds' KMS until it is interrupted,
// and says how to point signet at them:
//
//	go run ./conformance/cmd/fakekms
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/conformance/faultwire"
)

func main() {
	var o options
	flag.StringVar(&o.aws, "aws", "127.0.0.1:4599", "address of AWS KMS")
	flag.StringVar(&o.gcp, "gcp", "127.0.0.1:4600", "address of Google Cloud KMS")
	flag.StringVar(&o.faults, "faults", "127.0.0.1:4601", "address at which they are told what goes wrong: /aws/, /gcp/")
	flag.DurationVar(&o.settle, "settle", 200*time.Millisecond, "for how long what was made is not found, or is being generated")
	flag.DurationVar(&o.latency, "latency", 0, "how much later each signature comes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "fakekms:", err)
		os.Exit(1)
	}
}

type options struct {
	aws, gcp, faults string
	settle, latency  time.Duration
}

func run(ctx context.Context, out io.Writer, o options) error {
	aws := fakekms.NewAt(o.aws, time.Now, o.settle)
	defer aws.Close()
	gcp, err := fakegcpkms.NewAt(o.gcp, time.Now, o.settle)
	if err != nil {
		return err
	}
	defer gcp.Close()
	aws.SetLatency(o.latency)
	gcp.SetLatency(o.latency)
	l, err := net.Listen("tcp", o.faults)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/aws/", http.StripPrefix("/aws", faultwire.Handler(aws.Begin(), aws.Clear)))
	mux.Handle("/gcp/", http.StripPrefix("/gcp", faultwire.Handler(gcp.Begin(), gcp.Clear)))
	control := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() {
		<-ctx.Done()
		_ = control.Close()
	}()
	fmt.Fprintf(out, `AWS KMS:
  export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s
  - {name: kms, type: awskms, awskms: {region: %s, endpoint: "%s", settle: 3s}}
  signet conform signer --backend kms --faults http://%s/aws/
Google Cloud KMS:
  - {name: kms, type: gcpkms, gcpkms: {key_ring: %s, endpoint: "%s"}}
  signet conform signer --backend kms --faults http://%s/gcp/
`, fakekms.AccessKey, fakekms.SecretKey, fakekms.Region, aws.URL, l.Addr(), fakegcpkms.Ring, gcp.Address, l.Addr())
	if err := control.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
