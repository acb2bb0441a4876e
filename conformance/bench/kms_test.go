package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/awskms"
	"github.com/signetd/signet/signers/gcpkms"
)

// kmsLatency is how much later each signature of the fakes comes.
const kmsLatency = 20 * time.Millisecond

// The clouds are fakes in a process of their own, so that what a signature costs
// here can be told from what it costs there.
type fakes struct{ aws, gcp string }

var printed = regexp.MustCompile(`endpoint: "([^"]+)"`)

func startFakes(b *testing.B) fakes {
	b.Helper()
	fake := filepath.Join(b.TempDir(), "fakekms")
	out, err := exec.Command("go", "build", "-o", fake, "../cmd/fakekms").CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(fake, "-aws", "127.0.0.1:0", "-gcp", "127.0.0.1:0", "-faults", "127.0.0.1:0", "-latency", kmsLatency.String())
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var at []string
	for lines := bufio.NewScanner(said); len(at) < 2 && lines.Scan(); {
		if found := printed.FindStringSubmatch(lines.Text()); found != nil {
			at = append(at, found[1])
		}
	}
	if len(at) < 2 {
		b.Fatal("the fakes did not start")
	}
	b.Setenv("AWS_ACCESS_KEY_ID", fakekms.AccessKey)
	b.Setenv("AWS_SECRET_ACCESS_KEY", fakekms.SecretKey)
	b.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	b.Setenv("AWS_CONFIG_FILE", "/nowhere")
	b.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
	return fakes{at[0], at[1]}
}

// BenchmarkKMS is 64 callers of a cloud's KMS whose signatures take 20 ms, with
// and without the verification that no signature leaves without. The raw side
// asks the same fake for the same, with the wire's library and nothing else:
// net/http, without SDK and SigV4, and a gRPC stub. CPU is the caller's alone.
func BenchmarkKMS(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the daemon does, on both sides
	at := startFakes(b)
	ctx := context.Background()
	aws, err := awskms.Open(ctx, awskms.Config{Region: fakekms.Region, Endpoint: at.aws, Now: time.Now, Settle: time.Second})
	must(b, err)
	defer aws.Close()
	gcp, err := gcpkms.Open(ctx, gcpkms.Config{KeyRing: fakegcpkms.Ring, Endpoint: at.gcp, Now: time.Now})
	must(b, err)
	defer gcp.Close()
	for _, cloud := range []struct {
		name    string
		backend signers.Backend
		raw     func(*testing.B, string, signers.Key) subject
		at      string
	}{{"aws", aws, rawAWS, at.aws}, {"gcp", gcp, rawGCP, at.gcp}} {
		key, err := cloud.backend.Create(ctx, "bench", signers.ECDSAP256)
		must(b, err)
		raw := cloud.raw(b, cloud.at, key)
		for _, verify := range []bool{false, true} {
			b.Run(fmt.Sprintf("cloud=%s/verify=%t/callers=64", cloud.name, verify), func(b *testing.B) {
				for range b.N {
					r, ours := versus(b, 64, nil, raw, func() error {
						sig, err := key.Sign(ctx, message)
						if err == nil && verify {
							err = signers.ECDSAP256.Verify(key.Public(), message, sig)
						}
						return err
					})
					report(b, r, ours)
					b.ReportMetric(ours.rate/(64/kmsLatency.Seconds()), "of-64/20ms")
				}
			})
		}
	}
}

// rawAWS posts the request as the SDK would, by net/http.
func rawAWS(b *testing.B, at string, _ signers.Key) subject {
	b.Helper()
	digest, err := signers.ECDSAP256.Digest(message)
	must(b, err)
	body := fmt.Appendf(nil, `{"KeyId":"alias/signet/bench","Message":%q,"MessageType":"DIGEST","SigningAlgorithm":"ECDSA_SHA_256"}`, base64.StdEncoding.EncodeToString(digest))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 256, 256
	c := &http.Client{Transport: transport}
	b.Cleanup(transport.CloseIdleConnections)
	return func() error {
		r, err := http.NewRequest(http.MethodPost, at, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("X-Amz-Target", "TrentService.Sign")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+fakekms.AccessKey+"/")
		answer, err := c.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		var out struct{ Signature []byte }
		data, err := io.ReadAll(answer.Body)
		if err == nil {
			err = json.Unmarshal(data, &out)
		}
		if err == nil && len(out.Signature) == 0 {
			err = fmt.Errorf("no signature: %s", data)
		}
		return err
	}
}

// rawGCP calls the stub.
func rawGCP(b *testing.B, at string, key signers.Key) subject {
	b.Helper()
	conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	c := kmspb.NewKeyManagementServiceClient(conn)
	digest, err := signers.ECDSAP256.Digest(message)
	must(b, err)
	in := &kmspb.AsymmetricSignRequest{
		Name: fakegcpkms.Ring + "/cryptoKeys/bench/cryptoKeyVersions/1", Digest: &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest}},
	}
	return func() error {
		_, err := c.AsymmetricSign(context.Background(), in)
		return err
	}
}
